//go:build unix

package pgserver

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServer checks that a started server accepts connections and keeps its data
// across Halt and Kill. It also checks that Remove leaves no files.
func TestServer(t *testing.T) {
	ctx := context.Background()
	s, err := Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Remove() }() // in case the test fails before it removes the server
	if pid, err := s.PID(); err != nil || pid <= 0 || !Installed() {
		t.Errorf("process %d, %v, installed %t", pid, err, Installed())
	}
	for _, end := range []func() error{s.Halt, s.Kill} {
		if err := s.Exec(ctx, `CREATE TABLE IF NOT EXISTS kept AS SELECT 1`); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Exec(ctx, `SELECT 1`); err == nil {
			t.Error("it answers after its end")
		}
		if pid, err := s.PID(); err == nil {
			t.Errorf("it has the process %d after its end", pid)
		}
		if err := s.Launch(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Exec(ctx, `SELECT * FROM kept`); err != nil {
			t.Error(err)
		}
	}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files: %v; want them gone", err)
	}
}

// TestStartEndsWithItsContext checks that Start fails if its context is cancelled.
func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err := Start(ctx); err == nil {
		t.Errorf("it started: %v", s.Remove())
	}
}

// TestRemoveKeepsFilesOfRunningServer checks that Remove keeps the files of a server
// that does not end in time, and deletes them after the server has ended.
func TestRemoveKeepsFilesOfRunningServer(t *testing.T) {
	s := &Server{dir: filepath.Join(t.TempDir(), "server"), haltTime: time.Millisecond}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `trap "" INT; echo ready; read _`) // this program ignores SIGINT, and ends when its input ends
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	s.process = p
	if _, err := io.ReadFull(output, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(); err == nil {
			t.Error("a running server was removed")
		}
		if _, err := os.Stat(s.dir); err != nil {
			t.Errorf("the files of a running server: %v", err)
		}
	}
	_ = input.Close()
	_ = cmd.Wait() // an error does not matter, because the program was ended on purpose
	close(p.gone)
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its files: %v; want them gone", err)
	}
}

// TestPrograms checks that the newest version is used, and that without PostgreSQL
// the error says how to install it.
func TestPrograms(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", "")
	pattern := filepath.Join(root, "*", "bin", "initdb")
	if _, err := programs(pattern); err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v; want it to say what to install", err)
	}
	for _, version := range []string{"9", "15", "17"} {
		bin := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := programs(pattern); err != nil || got != filepath.Join(root, "17", "bin") {
		t.Errorf("got %s, %v; want version 17", got, err)
	}
}
