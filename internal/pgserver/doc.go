// Package pgserver runs a PostgreSQL server for tests and demonstrations: the
// programs of Debian's package, with files in a temporary directory, reachable
// through a Unix socket there and not by network, and gone when it is stopped.
// It is nothing to keep data in.
//
// PostgreSQL refuses to run as root. For root it runs as the user postgres.
package pgserver
