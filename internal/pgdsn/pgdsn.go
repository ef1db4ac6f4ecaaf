// Package pgdsn reads the names of PostgreSQL databases. Its errors never quote one,
// since it may hold a password.
package pgdsn

import (
	"errors"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrInvalid says how a DSN is written.
var ErrInvalid = errors.New("the DSN of the database cannot be read: want postgres://user:password@host:port/database, or host=… user=… password=… dbname=…")

// Check returns an error, which does not quote the DSN, if it cannot be parsed.
func Check(dsn string) error {
	if _, err := pgxpool.ParseConfig(dsn); err != nil {
		return ErrInvalid
	}
	return nil
}

// Place returns the address of the database of a DSN, without the credentials.
func Place(dsn string) (string, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return "", ErrInvalid
	}
	return net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port))) + "/" + c.ConnConfig.Database, nil
}
