// Package pgserver runs a PostgreSQL server for tests and demonstrations. It uses the
// programs of Debian's package. The server's files and its Unix socket are in a
// temporary directory, which Remove deletes; the server does not listen on the network.
// Do not keep data in this server.
//
// PostgreSQL refuses to run as root. If the caller is root, the server runs as the
// user postgres.
package pgserver
