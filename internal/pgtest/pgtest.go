//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/pgserver"
)

// startTime bounds how long the server may take to start, stop or recover.
const startTime = time.Minute

// Cluster is one PostgreSQL server with its databases. The zero Cluster starts its
// server on first use. The methods are safe for concurrent use, but Stop, Kill and
// Restart interrupt other users of the server.
type Cluster struct {
	mu       sync.Mutex
	server   *pgserver.Server // nil unless it was started
	prepared bool
	strategy string // the clause of CREATE DATABASE that chooses how to copy the template
	durable  bool   // whether the server syncs its files, as in production
	count    int
}

// Main runs the tests of the binary, stops the server and exits. Call it from
// TestMain.
func (c *Cluster) Main(m *testing.M) {
	code := m.Run()
	if err := c.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New returns a cluster for one test alone. The test may kill the cluster's server.
func New(t testing.TB) *Cluster {
	t.Helper()
	// The default strategy copies the template through the write-ahead log. If the
	// server is killed soon after such a copy, the copy's sequences go back to
	// earlier values. So this cluster copies files instead.
	c := &Cluster{strategy: " STRATEGY file_copy", durable: true}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Database creates a database for the test and returns its DSN. prepare(ctx, dsn) fills
// the template from which the databases are cloned. It must be the same for all
// databases of a cluster. The database is deleted together with the cluster.
func (c *Cluster) Database(t testing.TB, prepare func(ctx context.Context, dsn string) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if _, measured := t.(*testing.B); measured {
		c.durable = true
	}
	dsn, err := c.database(ctx, prepare)
	if err != nil {
		t.Fatalf("a PostgreSQL database for the test: %v", err)
	}
	return dsn
}

func (c *Cluster) database(ctx context.Context, prepare func(context.Context, string) error) (dsn string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		start := pgserver.StartVolatile
		if c.durable {
			start = pgserver.Start
		}
		if c.server, err = start(ctx); err != nil {
			return "", err
		}
	}
	if !c.prepared {
		if err := c.server.Exec(ctx, `DROP DATABASE IF EXISTS farebox_template`); err != nil {
			return "", err
		}
		if err := c.server.Exec(ctx, `CREATE DATABASE farebox_template`); err != nil {
			return "", err
		}
		if err := prepare(ctx, c.server.DSN("farebox_template")); err != nil {
			return "", fmt.Errorf("preparing the template: %w", err)
		}
		c.prepared = true
	}
	c.count++
	name := "test_" + strconv.Itoa(c.count)
	if err := c.clone(ctx, name); err != nil {
		return "", err
	}
	return c.server.DSN(name), nil
}

// clone creates a database as a copy of the template. PostgreSQL refuses to copy a
// database in use. A connection that filled the template may still exist for a moment
// after it was closed, so clone tries again until the connection is gone.
func (c *Cluster) clone(ctx context.Context, name string) error {
	for {
		err := c.server.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE farebox_template`+c.strategy)
		if err == nil || !hasState(err, "55006") {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// SocketDir returns the directory of the server's socket, .s.PGSQL.5432, for tests that
// put a proxy in front of the server. It returns "" before the first database is
// created.
func (c *Cluster) SocketDir() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return ""
	}
	return c.server.Dir()
}

// Stop ends the server if it was started, and deletes its files.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return nil
	}
	err := c.server.Remove()
	c.server, c.prepared = nil, false
	return err
}

// Restart stops the server as an operator would, and starts it again.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.must(t, func(ctx context.Context) error {
		return errors.Join(c.server.Halt(), c.server.Launch(ctx))
	})
}

// Kill ends the server and all its processes at once, like a loss of power, except
// that the disk loses no writes.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	c.must(t, func(context.Context) error { return c.server.Kill() })
}

// Start starts a killed server again, and returns as soon as the server has
// recovered.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	c.must(t, func(ctx context.Context) error { return c.server.Launch(ctx) })
}

// Cut terminates all connections to the DSN's database, as a failing network might.
func (c *Cluster) Cut(ctx context.Context, dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	return server.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, config.Database)
}

func (c *Cluster) must(t testing.TB, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := do(ctx); err != nil {
		t.Fatal(err)
	}
}

func hasState(err error, state string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == state
}

// pause waits before the next attempt.
func pause(ctx context.Context) error { return clock.Sleep(ctx, 10*time.Millisecond) }
