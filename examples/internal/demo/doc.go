// Package demo has the code that the example programs share. The package starts
// servers, waits until the servers are ready, and ends them. It manages Farebox as
// an operator does, with the commands of the real binary. It calls a paid tool as an
// agent does.
//
// The package works on Unix systems.
package demo
