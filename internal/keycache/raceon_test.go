//go:build race

package keycache

// raceEnabled reports whether the race detector is on. It makes the tests about ten
// times slower.
const raceEnabled = true
