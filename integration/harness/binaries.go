// Package harness runs the real Farebox binary for tests: it builds it, starts
// and kills it, drives it by its commands and over HTTP, puts real MCP servers
// behind it and records the requests that reach them.
//
// Everything that it starts listens on the loopback interface and is ended
// with the test. When a gateway ends, its output and files are searched for the
// secrets that were minted for it, and for data races.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Binaries are the programs that tests run, built from this tree.
type Binaries struct {
	Farebox    string // Caddy with Farebox
	Weather    string // the demonstration MCP server
	Billing    string // the one that asks for scopes
	Quickstart string // the program behind "make run"
	Root       string // the root of the source tree
}

// Build builds the programs into dir; with the race detector if the test that
// asks for them runs with it.
func Build(dir string) (*Binaries, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	b := &Binaries{
		Farebox: filepath.Join(dir, "farebox"), Weather: filepath.Join(dir, "weather"),
		Billing: filepath.Join(dir, "billing"), Quickstart: filepath.Join(dir, "quickstart"), Root: root,
	}
	for output, pkg := range map[string]string{
		b.Farebox: "./xcaddy", b.Weather: "./examples/weather", b.Billing: "./examples/billing", b.Quickstart: "./examples/quickstart",
	} {
		if err := build(root, output, pkg); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// build builds a package as the test was built: with the race detector if the
// test has it, and at the test's date.
func build(root, output, pkg string) error {
	args := []string{"build", "-o", output}
	if raceEnabled {
		args = append(args, "-race")
	}
	if shift := clock.Shift(); shift != 0 {
		args = append(args, "-ldflags", fmt.Sprintf("-X github.com/fareboxhq/farebox/internal/clock.shift=%s", shift))
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = root
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// Everything returns the path of the official everything server, which npm
// installs.
func (b *Binaries) Everything() string {
	return filepath.Join(b.Root, "integration", "node", "node_modules",
		"@modelcontextprotocol", "server-everything", "dist", "index.js")
}
