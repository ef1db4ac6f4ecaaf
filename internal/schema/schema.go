// Package schema reads the schema version of a store from its migration files.
package schema

import (
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Latest returns the greatest version among the migrations. A migration is an SQL file
// in the directory "migrations", and its name contains its version.
func Latest(files fs.FS) (version int64, err error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("reading migrations: %w", err)
		}
		version = max(version, n)
	}
	return version, err
}
