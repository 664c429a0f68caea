//go:build !race

package cache_test

const slowdown = 1
