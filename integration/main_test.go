// Package integration tests the real binary. There are real MCP servers behind the
// binary, real clients in front of it, and its own commands beside it.
//
// The promises that comments quote by their numbers are in docs/promises.md.
package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/pgtest"
)

// binaries are built once and shared by all tests.
var binaries *harness.Binaries

// postgres is the PostgreSQL server shared by all tests that leave it intact. The first
// such test starts it.
var postgres pgtest.Cluster

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
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}
