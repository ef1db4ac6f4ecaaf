//go:build race

package ops

// raceEnabled tells that the race detector is on, which is some ten times slower.
const raceEnabled = true
