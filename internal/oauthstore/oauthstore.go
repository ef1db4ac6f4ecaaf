// Package oauthstore keeps the rows of OAuth in the database of a store. Its SQL
// statements are the same for SQLite and PostgreSQL.
package oauthstore

import (
	"encoding/json"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// New returns a store in the database, which must have the tables of OAuth.
func New(db sqltx.Database) *sqltx.Store[oauth.Tx] {
	return sqltx.NewStore(db, func(r sqltx.Rows) oauth.Tx { return tx{r} })
}

// tx implements oauth.Tx on the rows of one transaction.
type tx struct{ sqltx.Rows }

// list returns a list as it is stored.
func list(values []string) string {
	if len(values) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(values) // strings can always be encoded
	return string(text)
}

// parse reads a stored list or object. An empty text leaves the target unchanged.
func parse(text string, into any) error {
	if text == "" || text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}
