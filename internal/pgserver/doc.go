// Package pgserver runs a PostgreSQL server for tests and demonstrations: the
// programs of Debian's package, with files in a temporary directory that Remove
// deletes, reachable through a Unix socket there and not by network. Do not keep data
// in it.
//
// PostgreSQL refuses to run as root. For root it runs as the user postgres.
package pgserver
