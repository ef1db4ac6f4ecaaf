package integration

import (
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestPriceInDescription checks that a client that does not know Farebox's _meta can
// read a tool's price at the end of its description. The gateway does not change the
// rest of the server's description.
func TestPriceInDescription(t *testing.T) {
	t.Parallel()
	upstream := binaries.StartWeather(t)
	descriptions := func(directives ...string) map[string]string {
		g := binaries.StartGateway(t, harness.Site(upstream, append([]string{
			"server weather", "provider acme", "price get_forecast 0.01", `price read_station cel "1000" max 0.05`, "free *",
		}, directives...)...))
		_, key := g.NewAgent(t, "alice", "1.00")
		list, err := g.Connect(t, key.Secret, nil).ListTools(t.Context(), &mcp.ListToolsParams{})
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]string)
		for _, tool := range list.Tools {
			found[tool.Name] = tool.Description
		}
		return found
	}
	plain, noted := descriptions(), descriptions("price_in_description on")
	for tool, before := range plain {
		note := map[string]string{"get_forecast": " (0.01 USD a call)", "read_station": " (at most 0.05 USD a call)"}[tool]
		if noted[tool] != before+note || before == "" || strings.Contains(before, "USD") {
			t.Errorf("%s: %q, and with prices %q", tool, before, noted[tool])
		}
	}
	if len(plain) < 3 || len(plain) != len(noted) {
		t.Errorf("%d tools, and with prices %d", len(plain), len(noted))
	}
}
