//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// start makes the cluster's files and starts the server. The caller holds the
// mutex.
func (c *Cluster) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("/tmp", "farebox-pg-") // the path of a socket may not be long
	if err != nil {
		return err
	}
	if err := giveAway(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	bin, err := programs()
	if err == nil {
		err = run(ctx, filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(dir, "data"),
			"--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	c.dir = dir
	return c.launch(ctx)
}

// launch starts the server on its files and waits until it answers.
func (c *Cluster) launch(ctx context.Context) error {
	bin, err := programs()
	if err != nil {
		return err
	}
	for {
		if err := c.spawn(filepath.Join(bin, "postgres")); err != nil {
			return err
		}
		if err = c.awaitReady(ctx); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(err, c.log())
		}
		// It has ended: backends of a server that was killed still hold its memory.
	}
}

func (c *Cluster) spawn(program string) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, "-D", filepath.Join(c.dir, "data"), "-k", c.dir,
		"-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=300", "-c", "shared_buffers=128MB",
		"-c", "max_wal_size=2GB", "-c", "logging_collector=off")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.dir
	cmd.SysProcAttr = attributes()
	p := &process{cmd: cmd, gone: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The server ends with the thread that started it, so that one whose
		// test binary was killed does not stay.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
		close(p.gone)
	}()
	c.process = p
	return <-started
}

// awaitReady waits until the server answers, or has ended, which is an error.
func (c *Cluster) awaitReady(ctx context.Context) error {
	for {
		err := c.admin(ctx, `SELECT 1`)
		if err == nil {
			return nil
		}
		select {
		case <-c.process.gone:
			return fmt.Errorf("the server has ended: %w", err)
		default:
		}
		if pause(ctx) != nil {
			return err
		}
	}
}

func (c *Cluster) log() error {
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err
	}
	return fmt.Errorf("the server's log: %s", text[max(0, len(text)-4000):])
}

// Stop ends the server, if it runs, and removes its files.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == "" {
		return nil
	}
	err := c.halt(syscall.SIGINT)
	dir := c.dir
	c.dir, c.prepared = "", false
	return errors.Join(err, os.RemoveAll(dir))
}

// halt ends the server by a signal: SIGINT closes its connections first.
func (c *Cluster) halt(signal syscall.Signal) error {
	if c.process == nil {
		return nil
	}
	defer func() { c.process = nil }()
	if err := c.process.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.process.gone:
		return nil
	case <-time.After(startTime):
		return fmt.Errorf("the server did not end within %s: %w", startTime, c.log())
	}
}

// Restart stops the server as an operator would, and starts it again.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.must(t, func(ctx context.Context) error {
		return errors.Join(c.halt(syscall.SIGINT), c.launch(ctx))
	})
}

// Kill ends the server and all its processes at once, as a loss of power would
// but for what the disk had not taken.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	c.must(t, func(context.Context) error { return c.kill() })
}

// Start starts a server that was killed. It returns when it has recovered.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	c.must(t, c.launch)
}

// Cut ends all connections to the database of the DSN, as a network might.
func (c *Cluster) Cut(ctx context.Context, dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	return c.admin(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, config.Database)
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

// kill stops the server first, so that it starts no others meanwhile.
func (c *Cluster) kill() error {
	server := c.process.cmd.Process
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	below, err := children(server.Pid)
	if err != nil {
		return err
	}
	for _, pid := range append(below, server.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	<-c.process.gone
	c.process = nil
	return nil
}

// children lists the processes that a process has started.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		var pid, above int
		if _, err := fmt.Sscan(string(text), &pid); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		// The name, in parentheses, may have anything in it.
		after := text[bytes.LastIndexByte(text, ')')+1:]
		var state string
		if _, err := fmt.Sscan(string(after), &state, &above); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if above == parent {
			list = append(list, pid)
		}
	}
	return list, nil
}

func run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = attributes()
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

func hasState(err error, state string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == state
}

// pause waits a little before something is tried again.
func pause(ctx context.Context) error {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
