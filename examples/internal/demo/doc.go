// Package demo has the code that the example programs share. It starts servers,
// waits until they are ready, and ends them. It manages Farebox as an operator does,
// with the commands of the real binary, and calls a paid tool as an agent does.
//
// The package works on Unix systems.
package demo
