package integration

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// sharedSite is twoServersSite for the nodes of a cluster, which have one name: that of the
// given port.
func sharedSite(upstream, port string) string {
	text := harness.OnPostgres(twoServersSite(upstream))
	return strings.ReplaceAll(text, "resource http://localhost:{$FAREBOX_PORT}", "resource http://localhost:"+port)
}

// at returns the client at a node: the requests go to the node's port.
func (c *rawClient) at(t testing.TB, g *harness.Gateway) *rawClient {
	u, err := url.Parse(c.issuer)
	if err != nil {
		t.Fatal(err)
	}
	other := *c
	other.t, other.issuer = t, "http://localhost:"+g.Port+u.Path
	return &other
}

// TestOAuthAcrossNodes checks that the nodes of a cluster are one issuer. A code from one
// node is redeemed at another, a client can begin at one node and go on at another, and
// refreshes with one token at all nodes at once get the same pair. When the command that
// deletes the agent key returns, the tokens that the key gave are dead at all nodes, also
// at one that was killed and started again.
func TestOAuthAcrossNodes(t *testing.T) {
	t.Parallel()
	const port = "1" // the port of a proxy in front of the nodes; this test uses no proxy
	cluster := startCluster(t, &postgres, sharedSite(binaries.StartWeather(t, "-stateless"), port))
	key := cluster.NewAgent(t, "agent", 5*ledger.Unit)
	first, second := cluster.Nodes[0], cluster.Nodes[1]
	harness.Ask(t, first.AdminClient(), http.MethodPatch, "keys/"+key.ID, map[string]any{"scopes": []string{"cities.read"}}, nil)
	endpoint := func(g *harness.Gateway) string { return "http://localhost:" + g.Port + "/weather/mcp" }
	c := register(t, "http://localhost:"+first.Port+"/oauth/weather")

	// The pages name the shared host, so the person goes to a node by hand.
	consent := func(g *harness.Gateway, p page) page {
		p.text = strings.ReplaceAll(p.text, "http://localhost:"+port+"/", "http://localhost:"+g.Port+"/")
		return p
	}
	b := newBrowser(t)
	asked := consent(second, b.open(c.authorization(nil)))
	decision := consent(first, b.submit(asked, map[string]string{"key": key.Secret, "step": "key"}))
	sent := b.submit(decision, map[string]string{"step": "allow"})
	if sent.location == nil || sent.location.Query().Get("iss") != "http://localhost:"+port+"/oauth/weather" {
		t.Fatalf("%d %v\n%s", sent.status, sent.location, sent.text)
	}
	first.Kill()
	tokens := c.at(t, second).exchange(sent.location.Query().Get("code"))
	if tokens.Status != 200 {
		t.Fatalf("the second node: %d %s %s", tokens.Status, tokens.Error, tokens.Description)
	}
	first.Start(t)
	for _, g := range cluster.Nodes {
		if status := c.statusAt(endpoint(g), tokens.Access); status != 200 {
			t.Errorf("the token gets %d", status)
		}
	}

	answers := make([]tokenAnswer, 4*len(cluster.Nodes))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range answers {
		at := c.at(t, cluster.Nodes[i%len(cluster.Nodes)])
		wg.Go(func() {
			<-start
			answers[i] = at.refresh(tokens.Refresh)
		})
	}
	close(start)
	wg.Wait()
	for i, got := range answers {
		if got.Status != 200 || got.Access == "" || got.Access != answers[0].Access || got.Refresh != answers[0].Refresh {
			t.Errorf("refresh %d: %d %s, same pair %t", i, got.Status, got.Error, got.Access == answers[0].Access)
		}
	}
	for _, g := range cluster.Nodes { // every node has the tokens in its cache
		for _, token := range []string{tokens.Access, answers[0].Access} {
			if status := c.statusAt(endpoint(g), token); status != 200 {
				t.Errorf("before the end of the key, a token gets %d", status)
			}
		}
	}
	first.CLI(t, nil, "key", "delete", key.ID)
	dead := func() {
		t.Helper()
		for _, g := range cluster.Nodes {
			for _, token := range []string{tokens.Access, answers[0].Access} {
				if status := c.statusAt(endpoint(g), token); status != 401 {
					t.Errorf("after the end of the key, a token gets %d", status)
				}
			}
			if r := c.at(t, g).refresh(answers[0].Refresh); r.Status != 400 || r.Error != "invalid_grant" {
				t.Errorf("after the end of the key, a refresh token gets %d %s", r.Status, r.Error)
			}
		}
	}
	dead()
	second.Kill()
	second.Start(t)
	dead()
	first.VerifyLedger(t)
}
