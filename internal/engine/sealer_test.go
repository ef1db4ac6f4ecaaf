package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSealKeys checks that the key file is created only once, with mode 0600. An old
// key opens seals only until its end.
func TestSealKeys(t *testing.T) {
	now := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "seal-key")
	if _, err := loadSealer(file, now); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := loadSealer(file, now); err != nil {
		t.Error(err)
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(text) {
		t.Error("the key was made twice")
	}
	fresh := strings.Repeat("ab", 32)
	for content, want := range map[string]int{
		fresh: 1,
		fresh + "\n" + string(text[:64]) + " until 2026-07-28T12:00:01Z\n": 2,
		fresh + "\n" + string(text[:64]) + " until 2026-07-28T12:00:00Z\n": 1,
	} {
		if keys, err := parseSealKeys(content, now); err != nil || len(keys) != want {
			t.Errorf("%q: %d keys, %v; want %d", content, len(keys), err, want)
		}
	}
	for _, bad := range []string{"", "xyz", fresh + "00", fresh + "\n" + fresh, fresh + " until 2030-01-01T00:00:00Z", fresh + "\n" + fresh + " until tomorrow"} {
		if _, err := parseSealKeys(bad, now); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSealer(file, now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}
