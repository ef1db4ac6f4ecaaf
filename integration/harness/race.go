package harness

// RaceDetector reports whether the programs are built with the race detector, which
// makes them about ten times slower.
const RaceDetector = raceEnabled
