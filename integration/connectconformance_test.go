package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// onStdio are the changes that make the official conformance client start a bridge and
// speak with it on stdin and stdout, in place of HTTP.
var onStdio = strings.NewReplacer(
	`"os"`, "\"os\"\n\t\"os/exec\"",
	"&mcp.StreamableClientTransport{\n\t\tEndpoint:     serverURL,\n\t\tOAuthHandler: config.oauthHandler,\n\t}",
	`&mcp.CommandTransport{Command: exec.Command(os.Getenv("CONFORMANCE_BRIDGE"), "connect", serverURL)}`,
)

// buildStdioClient builds the official conformance client with these changes.
func buildStdioClient(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "list", "-f", "{{.Dir}}", conformanceClient)
	cmd.Dir = binaries.Root
	found, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(found)), "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	changed := onStdio.Replace(string(source))
	if strings.Contains(changed, "StreamableClientTransport") || !strings.Contains(changed, "CommandTransport") {
		t.Fatal("the conformance client has changed, so it cannot be put on stdio")
	}
	main := filepath.Join(dir, "main.go")
	if err := os.WriteFile(main, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	// The program has to belong to this module, for its dependencies, but not to its tree.
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(binaries.Root, "integration", "stdioclient", "main.go"): main}})
	if err != nil {
		t.Fatal(err)
	}
	file, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "client")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", file, "-o", program, "./integration/stdioclient")
	build.Dir = binaries.Root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestConformanceConnect checks promise 9 of docs/promises.md for clients on stdio. The
// suite's servers see the same requests whether the official client comes by HTTP or
// through "farebox connect" and a gateway, and the client sees the same responses.
func TestConformanceConnect(t *testing.T) {
	t.Parallel()
	direct, stdio := binaries.BuildModule(t, conformanceClient), buildStdioClient(t)
	script := filepath.Join(binaries.Root, "integration", "testdata", "conformance-client.sh")
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			tokens := filepath.Join(t.TempDir(), "token")
			g := binaries.StartGateway(t, suiteSite(tokens))
			_, key := g.NewAgent(t, "suite", "1000.00")
			if err := os.WriteFile(tokens, []byte(key.Secret), 0o600); err != nil {
				t.Fatal(err)
			}
			selection := harness.Requirements(revision)
			without := binaries.ConformClient(t, selection, []string{"CONFORMANCE_CLIENT=" + direct}, "sh", script).Without("auth/")
			through := binaries.ConformClient(t, selection, []string{
				"CONFORMANCE_CLIENT=" + stdio, "CONFORMANCE_BRIDGE=" + binaries.Farebox, "CONFORMANCE_GATEWAY=http://localhost:" + g.Port,
			}, "sh", script).Without("auth/")
			compareRuns(t, without, through, true)
			settled(t, g, "suite", true)
		})
	}
}
