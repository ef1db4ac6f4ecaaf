package pgschema

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed functions/*.sql
var functionFiles embed.FS

// FunctionsVersion is the version of the files in functions. Raise it with every
// change: a node replaces functions of a lower version and keeps those of a higher
// one, which must still serve it.
const FunctionsVersion = 1

// Functions returns the statements that create or replace all functions, and
// their checksum. They may be run in any order, since bodies are checked when
// they are called.
func Functions() (text string, sum []byte, err error) {
	names, err := fs.Glob(functionFiles, "functions/*.sql")
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	for _, name := range names { // sorted
		file, err := functionFiles.ReadFile(name)
		if err != nil {
			return "", nil, err
		}
		b.Write(file)
	}
	hash := sha256.Sum256(b.Bytes())
	return b.String(), hash[:], nil
}

// outdated reports whether the database has no functions, functions of a lower
// version, or others of this version, as an unreleased build may have left them.
func outdated(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, sum []byte) (bool, error) {
	var version int
	var loaded []byte
	err := q.QueryRowContext(ctx, `SELECT version, sum FROM functions`).Scan(&version, &loaded)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return version < FunctionsVersion || version == FunctionsVersion && !bytes.Equal(loaded, sum), err
}

// loadFunctions replaces the functions in the transaction, unless they are
// current or newer. The caller holds the lock of migrations.
func loadFunctions(ctx context.Context, tx *sql.Tx) error {
	text, sum, err := Functions()
	if err != nil {
		return fmt.Errorf("reading functions: %w", err)
	}
	if load, err := outdated(ctx, tx, sum); err != nil || !load {
		return err
	}
	if _, err := tx.ExecContext(ctx, `SET LOCAL check_function_bodies = off;`+text); err != nil {
		return fmt.Errorf("loading functions: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO functions (version, sum) VALUES ($1, $2)
		ON CONFLICT (one) DO UPDATE SET version = excluded.version, sum = excluded.sum`, FunctionsVersion, sum)
	return err
}
