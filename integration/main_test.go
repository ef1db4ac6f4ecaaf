// Package integration tests the real binary: real MCP servers behind it, real
// clients in front of it, its own commands beside it.
package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// binaries are built once for all tests.
var binaries *harness.Binaries

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "farebox-integration-")
	if err == nil {
		defer os.RemoveAll(dir)
		binaries, err = harness.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
