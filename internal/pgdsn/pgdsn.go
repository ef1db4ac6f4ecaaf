// Package pgdsn reads PostgreSQL connection strings (DSNs). Its errors never quote a
// DSN, since it may contain a password.
package pgdsn

import (
	"errors"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrInvalid is the error for a DSN that cannot be parsed. Its text shows both forms
// that a DSN can have.
var ErrInvalid = errors.New("the DSN of the database cannot be read: want postgres://user:password@host:port/database, or host=… user=… password=… dbname=…")

// Check returns ErrInvalid if the DSN cannot be parsed.
func Check(dsn string) error {
	if _, err := pgxpool.ParseConfig(dsn); err != nil {
		return ErrInvalid
	}
	return nil
}

// Place returns the host, port and database that the DSN names, without credentials.
func Place(dsn string) (string, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return "", ErrInvalid
	}
	return net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port))) + "/" + c.ConnConfig.Database, nil
}
