//go:build race

package keycache

// raceEnabled reports whether the race detector is on, which is about ten times
// slower.
const raceEnabled = true
