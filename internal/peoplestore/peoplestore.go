// Package peoplestore keeps people in the database of a store. Its SQL statements are
// the same for SQLite and PostgreSQL.
package peoplestore

import (
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// New returns a store in the database, which must have the tables of people.
func New(db sqltx.Database) *sqltx.Store[people.Tx] {
	return sqltx.NewStore(db, func(r sqltx.Rows) people.Tx { return tx{r} })
}

// tx implements people.Tx on the rows of one transaction.
type tx struct{ sqltx.Rows }
