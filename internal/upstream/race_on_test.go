//go:build race

package upstream_test

// poolLeaks: under the race detector a sync.Pool drops a quarter of what it is given.
const poolLeaks = true
