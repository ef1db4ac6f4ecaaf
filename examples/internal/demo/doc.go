// Package demo is shared by the example programs: it starts servers, waits for
// them and ends them, manages Farebox as an operator does, with the commands of the
// real binary, and calls a paid tool as an agent does.
//
// It works on Unix systems.
package demo
