package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
)

// browserTime bounds one run of console.mjs. A run takes about a minute.
const browserTime = 8 * time.Minute

// withConsole adds the console at the base URL to a site of the harness.
func withConsole(site, base string) string {
	return strings.Replace(site, "\thandle {\n", "\tfarebox_console "+base+"\n\thandle {\n", 1)
}

// TestConsoleInABrowser uses the console as people would, with an operator, an owner
// and an agent. It does so once on a node with SQLite, and once on two nodes with
// PostgreSQL, which are behind a balancer. The steps are those of console.mjs. The test
// keeps the pictures of all pages in the directory of the environment variable
// FAREBOX_PICTURES, if there is one.
func TestConsoleInABrowser(t *testing.T) {
	weather := binaries.StartWeather(t, "-stateless")
	directives := []string{"server weather", "provider acme", "environments live test", "price get_forecast 0.01", "unpriced deny", "fee 10% operator"}
	t.Run("sqlite", func(t *testing.T) {
		g := binaries.StartGateway(t, withConsole(harness.Site(weather, directives...), "http://localhost:{$FAREBOX_PORT}/console"))
		browse(t, []*harness.Gateway{g}, "http://localhost:"+g.Port+"/console", g.Endpoint())
		g.VerifyLedger(t)
	})
	t.Run("postgres", func(t *testing.T) {
		port := harness.FreePort(t)
		base := "http://localhost:" + port + "/console"
		dsn := postgres.Database(t, func(context.Context, string) error { return nil })
		c := binaries.StartCluster(t, 2, dsn, withConsole(harness.OnPostgres(harness.Site(weather, directives...)), base))
		betweenNodes(t, port, c.Nodes)
		browse(t, c.Nodes, base, "http://localhost:"+port+"/mcp")
		c.Nodes[1].VerifyLedger(t)
	})
}

// betweenNodes starts a balancer at the port. The balancer sends requests to each node
// in turn.
func betweenNodes(t *testing.T, port string, nodes []*harness.Gateway) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n}\nhttp://localhost:%s {\n\tbind 127.0.0.1\n\treverse_proxy localhost:%s localhost:%s {\n\t\tlb_policy round_robin\n\t}\n}\n", port, nodes[0].Port, nodes[1].Port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	process := harness.Start(t, "balancer", filepath.Join(dir, "log"), nodes[0].Environment(), binaries.Farebox, "run", "--config", file)
	process.AwaitHTTP(t, "http://localhost:"+port+"/console/signin")
}

var firstLink = regexp.MustCompile(`"link":"([^"]*)"`)

var newSecret = regexp.MustCompile(`(?m)^secret (.*)\n`)

// browse runs console.mjs. The first operator's link comes from the first node's log.
// The secrets of the keys that the script makes are searched for in the files of all
// nodes. The script checks the look of the pages only if there is a single node,
// because the pages do not depend on the store.
func browse(t *testing.T, nodes []*harness.Gateway, base, mcp string) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	link := firstLink.FindStringSubmatch(nodes[0].Process().Output(t))
	if link == nil {
		t.Fatal("the log has no link for the first operator")
	}
	out := t.TempDir()
	if keep := os.Getenv("FAREBOX_PICTURES"); keep != "" {
		out = filepath.Join(keep, filepath.Base(t.Name()))
	}
	arg, err := json.Marshal(map[string]any{"browser": chromium, "base": base, "link": link[1], "mcp": mcp, "out": out, "pages": len(nodes) == 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, binaries.Node(t), filepath.Join(binaries.Root, "integration", "node", "console.mjs"), string(arg))
	output, err := cmd.CombinedOutput()
	for _, secret := range newSecret.FindAllSubmatch(output, -1) {
		for _, g := range nodes {
			g.AddSecret(string(secret[1]))
		}
	}
	output = newSecret.ReplaceAll(output, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
}
