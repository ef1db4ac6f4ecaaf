//go:build race

package ops

// raceEnabled is true if the race detector is on, which is some ten times slower.
const raceEnabled = true
