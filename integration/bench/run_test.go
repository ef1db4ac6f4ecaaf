package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fareboxhq/farebox/internal/pgserver"
)

// TestMain runs a server instead of the tests if the arguments name a server. The
// program starts some servers by running its own binary, which is the test binary here.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && (os.Args[1] == asUpstream || os.Args[1] == asAuth) {
		fmt.Fprintln(os.Stderr, serve(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestRun runs the benchmark with very short turns, on all rows that this machine can
// measure. It checks that every row has figures, that each row with a base is compared
// with its base, and that the temporary files are removed.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts the gateway")
	}
	if _, err := os.Stat(procDir + "/self/stat"); err != nil {
		t.Skip("this system has no /proc")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	o := options{rounds: 1, seconds: 0.2, connections: 2, farebox: filepath.Join(dir, "farebox"), nginx: findNginx(root), out: filepath.Join(dir, "out")}
	build := exec.Command("go", "build", "-o", o.farebox, "./xcaddy")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	list, left := leaveOut(rows, o.nginx != "", pgserver.Installed())
	var out bytes.Buffer
	if err := run(t.Context(), o, list, left, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	r := readReport(t, filepath.Join(o.out, "bench.json"))
	if len(r.Rows) != len(list) {
		t.Errorf("%d rows in the report; want %d", len(r.Rows), len(list))
	}
	for _, row := range r.Rows {
		if row.Rate.Median <= 0 || row.Open.P99.Median <= 0 {
			t.Errorf("%s: no figures: %+v", row.Name, row)
		}
		if (row.Ratio.Median > 0) != (row.Base != "") {
			t.Errorf("%s: base %q, ratio %v", row.Name, row.Base, row.Ratio)
		}
	}
	if stays, err := filepath.Glob(filepath.Join(dir, "farebox-bench-*")); err != nil || len(stays) > 0 {
		t.Errorf("files that stay: %q, %v", stays, err)
	}
}
