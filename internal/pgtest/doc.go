// Package pgtest gives tests databases of a real PostgreSQL (package pgserver). A test
// binary starts one server when it first asks for a database, and each test has a
// database of its own, cloned from a template. Tests fail without PostgreSQL: they
// never skip.
package pgtest
