//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTime bounds how long a server may take to start, stop or recover.
const startTime = time.Minute

// Cluster is one PostgreSQL server with its data. The zero Cluster starts when
// it is first used. Its methods may be used by many goroutines at once, but
// for Stop, Kill and Restart, which end what others do.
type Cluster struct {
	mu       sync.Mutex
	dir      string // "" until it was started
	process  *process
	prepared bool
	strategy string // of copying the template
	count    int
}

// Main runs the tests of a binary and stops the server after them. It is what
// TestMain does, and does not return.
func (c *Cluster) Main(m *testing.M) {
	code := m.Run()
	if err := c.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New returns a server that belongs to one test, which may kill it.
func New(t testing.TB) *Cluster {
	t.Helper()
	// What is copied through the log has sequences that go back when the server
	// is killed soon afterwards.
	c := &Cluster{strategy: " STRATEGY file_copy"}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Database makes a database for the test and returns its DSN. prepare, which
// must be the same for all databases of a cluster, fills the template that they
// are cloned from. The database goes with the cluster.
func (c *Cluster) Database(t testing.TB, prepare func(ctx context.Context, dsn string) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	dsn, err := c.database(ctx, prepare)
	if err != nil {
		t.Fatalf("a PostgreSQL database for the test: %v", err)
	}
	return dsn
}

func (c *Cluster) database(ctx context.Context, prepare func(context.Context, string) error) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == "" {
		if err := c.start(ctx); err != nil {
			return "", err
		}
	}
	if !c.prepared {
		if err := c.admin(ctx, `DROP DATABASE IF EXISTS farebox_template`); err != nil {
			return "", err
		}
		if err := c.admin(ctx, `CREATE DATABASE farebox_template`); err != nil {
			return "", err
		}
		if err := prepare(ctx, c.dsn("farebox_template")); err != nil {
			return "", fmt.Errorf("preparing the template: %w", err)
		}
		c.prepared = true
	}
	c.count++
	name := "test_" + strconv.Itoa(c.count)
	if err := c.clone(ctx, name); err != nil {
		return "", err
	}
	return c.dsn(name), nil
}

// clone copies the template. Connections that prepare has closed may take a
// moment to be gone, and until then the template cannot be copied.
func (c *Cluster) clone(ctx context.Context, name string) error {
	for {
		err := c.admin(ctx, `CREATE DATABASE `+name+` TEMPLATE farebox_template`+c.strategy)
		if err == nil || !hasState(err, "55006") {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// dsn names a database of the cluster.
func (c *Cluster) dsn(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s", c.dir, database)
}

// SocketDir returns the directory of the server's socket, whose name is
// .s.PGSQL.5432, for a test that stands between.
func (c *Cluster) SocketDir() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dir
}

// admin runs a statement in the server's own database.
func (c *Cluster) admin(ctx context.Context, query string, args ...any) error {
	conn, err := pgx.Connect(ctx, c.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query, args...)
	return errors.Join(err, conn.Close(ctx))
}

// programs returns the directory of the newest PostgreSQL that is installed.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: run apt-get install postgresql, or put the directory of initdb into PATH")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

// version is the number in /usr/lib/postgresql/15/bin/initdb; 0 elsewhere.
func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}
