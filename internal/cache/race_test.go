//go:build race

package cache_test

// slowdown divides the length of runs on one goroutine, where the race detector costs
// twentyfold and finds nothing.
const slowdown = 20
