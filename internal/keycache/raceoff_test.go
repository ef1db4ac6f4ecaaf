//go:build !race

package keycache

// raceEnabled tells that the race detector is on, which is some ten times slower.
const raceEnabled = false
