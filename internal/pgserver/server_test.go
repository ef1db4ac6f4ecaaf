//go:build unix

package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A started server accepts connections, keeps its data over a stop and a kill, and
// leaves no files after Remove.
func TestServer(t *testing.T) {
	ctx := context.Background()
	s, err := Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Remove() }() // again, should the test fail before
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

// A cancelled start fails at once.
func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err := Start(ctx); err == nil {
		t.Errorf("it started: %v", s.Remove())
	}
}

// The newest version is used; without any, the error says how to install one.
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
