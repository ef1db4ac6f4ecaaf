package harness

// RaceDetector tells that the programs are built with the race detector, which
// makes them some ten times slower.
const RaceDetector = raceEnabled
