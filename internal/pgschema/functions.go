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

// FunctionsVersion is the version of the files in the folder functions. Raise the
// version with every change to the files, because a node replaces only functions of a
// lower version. A node keeps functions of a higher version, so newer functions must
// still serve older nodes.
const FunctionsVersion = 3

// Functions returns the statements that create or replace all functions, and the
// checksum of the statements. The order of the statements does not matter:
// loadFunctions turns off check_function_bodies, so PostgreSQL checks the body of a
// function only when the function is called.
func Functions() (text string, sum []byte, err error) {
	names, err := fs.Glob(functionFiles, "functions/*.sql")
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	for _, name := range names { // in the order of the names, because Glob sorts them
		file, err := functionFiles.ReadFile(name)
		if err != nil {
			return "", nil, err
		}
		b.Write(file)
	}
	hash := sha256.Sum256(b.Bytes())
	return b.String(), hash[:], nil
}

// outdated reports whether the functions must be loaded. That is so in three cases:
// the database has no functions, a lower version of them, or this version with
// another checksum, which an unreleased build may have left behind.
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

// loadFunctions replaces the functions in the transaction, unless they are current
// or newer. The caller must hold migrateLock.
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
