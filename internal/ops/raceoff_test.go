//go:build !race

package ops

// raceEnabled reports whether the race detector is on. The detector makes tests
// about ten times slower.
const raceEnabled = false
