// Package demo is what the programs of the examples share: they start servers,
// wait for them and end them, do to Farebox what an operator does, with the
// commands of the real binary, and call a paid tool as an agent does.
//
// It works on Unix systems.
package demo
