//go:build unix

package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
)

// haltTime is the default of Server.haltTime.
const haltTime = time.Minute

var errNotRunning = errors.New("the server does not run")

// Server is a PostgreSQL server and its files. Only the methods DSN and Dir are safe
// for concurrent use.
type Server struct {
	dir      string
	fsync    string        // "on" or "off"
	process  *process      // nil unless the server is running
	haltTime time.Duration // bounds how long Halt waits for the server to end
}

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
}

// Start creates a server and returns as soon as the server accepts connections. If
// PostgreSQL is not installed, the error says how to install it. The caller must
// Remove the server. On Linux the server ends when the calling process ends, even if
// that process is killed.
func Start(ctx context.Context) (*Server, error) { return start(ctx, "on") }

// StartVolatile is like Start, but the server does not sync its files, so that
// creating a database is many times faster. If the machine crashes, data may be
// lost. If only a process crashes, no data is lost, because the kernel has the
// writes.
func StartVolatile(ctx context.Context) (*Server, error) { return start(ctx, "off") }

func start(ctx context.Context, fsync string) (*Server, error) {
	bin, err := programs(installed)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "farebox-pg-") // a short path, because the length of a socket's path is limited
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, fsync: fsync, haltTime: haltTime}
	if err = giveAway(dir); err == nil {
		err = run(ctx, filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(dir, "data"),
			"--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	}
	if err == nil {
		err = s.Launch(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// DSN returns a connection string for a database of the server, as key=value pairs.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s", s.dir, database)
}

// Dir returns the directory of the server's socket, .s.PGSQL.5432.
func (s *Server) Dir() string { return s.dir }

// PID returns the id of the server's main process. The server must be running.
func (s *Server) PID() (int, error) {
	if s.process == nil {
		return 0, errNotRunning
	}
	return s.process.cmd.Process.Pid, nil
}

// Exec runs a statement in the database postgres, which every server has.
func (s *Server) Exec(ctx context.Context, query string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, query, args...)
	return errors.Join(err, conn.Close(ctx))
}

// Launch starts a halted or killed server again on its files, and returns as soon as
// the server has recovered and accepts connections.
func (s *Server) Launch(ctx context.Context) error {
	bin, err := programs(installed)
	if err != nil {
		return err
	}
	for {
		if err := s.spawn(filepath.Join(bin, "postgres")); err != nil {
			return err
		}
		if err = s.awaitReady(ctx); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(err, s.log())
		}
		// The new server has ended, because backends of the killed one still hold
		// its shared memory. Try again.
	}
}

func (s *Server) spawn(program string) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, "-D", filepath.Join(s.dir, "data"), "-k", s.dir,
		"-c", "listen_addresses=", "-c", "fsync="+s.fsync, "-c", "max_connections=300", "-c", "shared_buffers=128MB",
		"-c", "max_wal_size=2GB", "-c", "logging_collector=off")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes()
	p := &process{cmd: cmd, gone: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The server must end when this process ends, even if this process is killed.
		// The kernel binds a child to the thread that started it (Pdeathsig), so the
		// thread must live as long as the server.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // an error does not matter, because the server's log has the reason
		}
		close(p.gone)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process = p
	return nil
}

// awaitReady waits until the server accepts connections. It fails if the server
// ends.
func (s *Server) awaitReady(ctx context.Context) error {
	for {
		err := s.Exec(ctx, `SELECT 1`)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.gone:
			return fmt.Errorf("the server has ended: %w", err)
		default:
		}
		if pause(ctx) != nil {
			return err
		}
	}
}

func (s *Server) log() error {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	return fmt.Errorf("the server's log: %s", text[max(0, len(text)-4000):])
}

// Remove ends the server if it is running, and deletes its files. If the server does
// not end, Remove keeps the files and can be called again.
func (s *Server) Remove() error {
	if err := s.Halt(); err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

// Halt ends the server if it is running. The server first aborts its open
// transactions and closes its connections (SIGINT, a fast shutdown). After an error
// the server counts as running, and Halt can be called again.
func (s *Server) Halt() error {
	p := s.process
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.gone:
		s.process = nil
		return nil
	case <-time.After(s.haltTime):
		return fmt.Errorf("the server did not end within %s: %w", s.haltTime, s.log())
	}
}

// installed is a pattern for the path of initdb in Debian's packages.
const installed = "/usr/lib/postgresql/*/bin/initdb"

// Installed reports whether PostgreSQL's programs are installed.
func Installed() bool {
	_, err := programs(installed)
	return err == nil
}

// programs returns the directory with the programs of the newest PostgreSQL. It
// considers the files that match the given pattern, and the initdb in PATH.
func programs(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
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

// version returns the version in a path such as /usr/lib/postgresql/15/bin/initdb,
// which is 15, and 0 for other paths.
func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
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

// pause waits before the next attempt.
func pause(ctx context.Context) error { return clock.Sleep(ctx, 10*time.Millisecond) }
