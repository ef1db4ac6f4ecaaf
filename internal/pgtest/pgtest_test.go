//go:build unix

package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func exec1(t *testing.T, dsn, query string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCluster clones two databases from one template. It checks that the template is
// prepared only once, that Cut ends the connections to a database, and that committed
// data survives Kill and Restart.
func TestCluster(t *testing.T) {
	c := New(t)
	prepared := 0
	prepare := func(ctx context.Context, dsn string) error {
		prepared++
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `CREATE TABLE x AS SELECT 7 AS n`)
		return err
	}
	first, second := c.Database(t, prepare), c.Database(t, prepare)
	if prepared != 1 || first == second {
		t.Fatalf("prepared %d times, for %s and %s", prepared, first, second)
	}
	if n := exec1(t, first, `UPDATE x SET n = 8 RETURNING n`); n != 8 {
		t.Fatalf("n is %d", n)
	}
	conn, err := pgx.Connect(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := c.Cut(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection that was cut goes on")
	}
	c.Kill(t)
	if _, err := pgx.Connect(t.Context(), first); err == nil {
		t.Fatal("a server that was killed answers")
	}
	c.Start(t)
	c.Restart(t)
	if a, b := exec1(t, first, `SELECT n FROM x`), exec1(t, second, `SELECT n FROM x`); a != 8 || b != 7 {
		t.Fatalf("the databases have %d and %d, want 8 and 7", a, b)
	}
}
