//go:build race

package admin

// raceEnabled tells that the race detector is on, which is some ten times slower.
const raceEnabled = true
