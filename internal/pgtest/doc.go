// Package pgtest provides tests with databases on a real PostgreSQL server (package
// pgserver). A test binary starts one server when it first asks for a database. Each
// test has a database of its own, cloned from a template. Without PostgreSQL the
// tests fail; they are never skipped.
package pgtest
