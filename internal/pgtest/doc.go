// Package pgtest runs a real PostgreSQL for tests: the programs of Debian's
// package, in a directory of its own, with fsync on, reachable through a Unix
// socket there and not by network. A test binary starts one server when it
// first asks for a database, and each test has a database of its own, cloned
// from a template. Where the programs are missing tests fail: they never skip.
//
// PostgreSQL refuses to run as root. For root it runs as the user postgres.
package pgtest
