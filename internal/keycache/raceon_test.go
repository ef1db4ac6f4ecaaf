//go:build race

package keycache

// raceEnabled reports whether the race detector is on. The race detector makes the
// tests about ten times slower.
const raceEnabled = true
