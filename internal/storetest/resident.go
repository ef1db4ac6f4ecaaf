package storetest

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// Resident returns how many bytes of memory the process has, or 0 where the
// system does not tell as Linux does.
func Resident(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		t.Fatalf("statm is %q", text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
