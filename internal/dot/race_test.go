//go:build race

package dot_test

const raceEnabled = true
