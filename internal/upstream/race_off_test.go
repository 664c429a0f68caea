//go:build !race

package upstream_test

const poolLeaks = false
