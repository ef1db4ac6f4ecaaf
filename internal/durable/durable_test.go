package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// alone fails the test unless file is the only entry of its directory and has the
// given content.
func alone(t *testing.T, file, content string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v; want the file alone", entries, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != content {
		t.Errorf("content %q, %v; want %q", text, err, content)
	}
}

// TestReplaceFile checks that ReplaceFile sets content and mode, whether the file
// exists or not, and leaves no temporary file behind.
func TestReplaceFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	for _, content := range []string{"old", "the new one"} {
		if err := ReplaceFile(file, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		alone(t, file, content)
		info, err := os.Stat(file)
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// TestReplaceFileFails checks that ReplaceFile reports a file that it cannot write,
// and leaves no temporary file behind.
func TestReplaceFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := ReplaceFile(filepath.Join(dir, "missing", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
	file := filepath.Join(dir, "occupied")
	if err := os.MkdirAll(filepath.Join(file, "by a directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceFile(file, nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestCreateFile checks that exactly one of many concurrent writers creates the
// file, and that the others do not change its content.
func TestCreateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	var created atomic.Pointer[string]
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			content := fmt.Sprint("writer ", i)
			switch err := CreateFile(file, []byte(content), 0o600); {
			case err == nil:
				if !created.CompareAndSwap(nil, &content) {
					t.Error("two writers created the file")
				}
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if created.Load() == nil {
		t.Fatal("no writer created the file")
	}
	alone(t, file, *created.Load())
}

// TestCreateFileWithoutLinks checks that CreateFile creates a file on a file system
// without hard links, and does not replace an existing one.
func TestCreateFileWithoutLinks(t *testing.T) {
	none := func(temp, file string) error {
		return &os.LinkError{Op: "link", Old: temp, New: file, Err: errors.ErrUnsupported}
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := create(file, []byte("first"), 0o600, none); err != nil {
		t.Fatal(err)
	}
	if err := create(file, []byte("second"), 0o600, none); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the file exists, but the error is %v", err)
	}
	alone(t, file, "first")
}
