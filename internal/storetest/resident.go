package storetest

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// Resident returns the resident memory of this process in bytes. It returns 0 on
// systems without the file /proc/self/statm.
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
