// Package harness runs the real Farebox binary in tests. It builds, starts and kills
// the binary, and drives it with commands and over HTTP. It puts real MCP servers
// behind the binary, and records the requests that reach these servers.
//
// Everything that the package starts listens on the loopback interface and ends
// with the test. When a gateway ends, its output and files are searched for the
// secrets of its keys and for reports of data races.
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
	Billing    string // the MCP server of examples/billing, for tests of scopes
	Quickstart string // the program behind "make run"
	Root       string // the root of the source tree
}

// Build builds the programs into dir. It uses the race detector if the calling test
// does.
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

// build builds a package in the same way as the test: with the race detector if the
// test uses it, and with the clock shift of the test (see package clock).
func build(root, output, pkg string) error {
	args := []string{"build", "-o", output}
	if raceEnabled {
		args = append(args, "-race", "-gcflags=modernc.org/...=-race=false") // scripts/tools.sh says why
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

// Everything returns the path of the official server-everything, which npm installs.
func (b *Binaries) Everything() string {
	return filepath.Join(b.Root, "integration", "node", "node_modules",
		"@modelcontextprotocol", "server-everything", "dist", "index.js")
}
