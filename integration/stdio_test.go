package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestEverythingOnStdioIsSold checks that a server that only speaks on stdin and stdout
// can be sold through the bridge of docs/stdio-servers.md, set up as documented there.
// Two accounts have a session each. A paid call is charged with a receipt, and a free
// call is not charged. A call of a hidden tool never reaches the server.
func TestEverythingOnStdioIsSold(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	bridge := harness.Start(t, "mcp-proxy", filepath.Join(t.TempDir(), "bridge.log"), nil, "node",
		binaries.Module(t, "mcp-proxy", "dist", "bin", "mcp-proxy.mjs"), "--host", "127.0.0.1", "--port", port, "--server", "stream",
		"--", "node", binaries.Module(t, "@modelcontextprotocol", "server-everything", "dist", "index.js"), "stdio")
	bridge.Await(t, "the bridge", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	recorder := harness.Record(t, "http://127.0.0.1:"+port)
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server everything", "provider acme", "price echo 0.01", "free get-sum", "unpriced deny"))
	for i := range 2 {
		name := fmt.Sprint("account", i)
		_, key := g.NewAgent(t, name, "1.00")
		session := g.Connect(t, key.Secret, nil)
		call := func(tool string, args map[string]any) *mcp.CallToolResult {
			t.Helper()
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
			if err != nil {
				t.Fatalf("%s: %v", tool, err)
			}
			return result
		}
		paid := call("echo", map[string]any{"message": "hello"})
		if charge := harness.ReadMeta(t, paid.Meta).Charge; harness.Text(paid) != "Echo: hello" || charge == nil || charge.Amount != amount(t, "0.01") {
			t.Errorf("%s: %+v", harness.Text(paid), charge)
		}
		mustContain(t, harness.Text(call("get-sum", map[string]any{"a": 2, "b": 3})), "5")
		if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get-env"}); err == nil {
			t.Error("a hidden tool was called")
		}
		if a := g.Account(t, name); a.Balance != amount(t, "0.99") {
			t.Errorf("balance %s", a.Balance)
		}
	}
	if echo, env := recorder.Calls("echo"), recorder.Calls("get-env"); echo != 2 || env != 0 {
		t.Errorf("the server ran echo %d times and get-env %d times", echo, env)
	}
	g.VerifyLedger(t)
}
