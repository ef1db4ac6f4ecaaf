package integration

import (
	"bufio"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestOldTransportOfEverything checks that, if a server speaks only the transport of
// 2024-11-05, HTTP+SSE, the client gets a refusal that names the transport to use. The
// test runs the official everything server, unmodified.
func TestOldTransportOfEverything(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	p := harness.Start(t, "server-everything", filepath.Join(t.TempDir(), "everything.log"), []string{"PORT=" + port},
		"node", binaries.Everything(), "sse")
	upstream := "http://127.0.0.1:" + port
	p.Await(t, "an answer", func() error {
		resp, err := http.Get(upstream + "/none")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	g := binaries.StartGateway(t, strings.Replace(harness.SiteWithProxy(upstream, "server weather", "provider acme", "unpriced 0.01"),
		"reverse_proxy", "rewrite * /sse\n\t\treverse_proxy", 1))
	_, key := g.NewAgent(t, "alice", "1.00")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Endpoint(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Secret)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	told := bufio.NewScanner(resp.Body)
	var text strings.Builder
	for told.Scan() { // reads until the connection is cut
		text.WriteString(told.Text())
	}
	if !strings.Contains(text.String(), "have it serve streamable HTTP") || strings.Contains(text.String(), "sessionId") {
		t.Errorf("the client received %q", text.String())
	}
}
