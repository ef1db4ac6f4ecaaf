package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/pgtest"
)

var clusterRounds = flag.Int("cluster-rounds", 1, "by how many times the tests of several gateways are longer")

// clusterNodes is the number of gateways that share a database.
const clusterNodes = 3

// workerSite returns the Caddyfile for a cluster in front of a worker. The tool "dig"
// is free. The tools "weave" and "mill" cost 0.01 each, and "mill" needs a scope.
func workerSite(w *worker, directives ...string) string {
	return harness.OnPostgres(harness.Site(w.url, append([]string{"server worker", "provider acme",
		"free dig", "price weave 0.01", "price mill 0.01", "scope mill trade"}, directives...)...), "scopes {", "trade", "}")
}

// startCluster starts clusterNodes gateways on a new database of the PostgreSQL
// server.
func startCluster(t *testing.T, server *pgtest.Cluster, caddyfile string) *harness.Cluster {
	t.Helper()
	dsn := server.Database(t, func(context.Context, string) error { return nil })
	return binaries.StartCluster(t, clusterNodes, dsn, caddyfile)
}

// withHandle returns the Caddyfile site with the /mcp handler of another Caddyfile
// added to it, under the given path.
func withHandle(site, other, path string) string {
	const begin, end = "\thandle /mcp* {", "\thandle {"
	block := other[strings.Index(other, begin):strings.Index(other, end)]
	return strings.Replace(site, begin, strings.Replace(block, "/mcp*", path+"*", 1)+begin, 1)
}

// postAt sends a call to a path of the site.
func postAt(ctx context.Context, g *harness.Gateway, client *http.Client, path, secret, body string) (*harness.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost:"+g.Port+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	return g.Send(client, secret, req)
}

// seeded returns a random number generator and logs its seed.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// manyCalls returns a client for n concurrent calls at each node.
func manyCalls(t *testing.T, n int) *http.Client {
	client := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// paidFor returns the id of a result's charge, or "" if the answer is not a paid
// result.
func paidFor(answer *harness.Answer) string {
	if answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil {
		return ""
	}
	return answer.Result.Meta.Charge.ID
}

// nothingHeld waits until no credits of the account are reserved, and returns the
// account.
func nothingHeld(t *testing.T, g *harness.Gateway, account string) harness.Account {
	t.Helper()
	var a harness.Account
	harness.Eventually(t, "reservations to end", func() error {
		harness.Ask(t, g.AdminClient(), http.MethodGet, "accounts/"+account, nil, &a)
		if a.Reserved != 0 {
			return fmt.Errorf("%s still reserved", a.Reserved)
		}
		return nil
	})
	return a
}

// chargesOf returns all charges of an account, newest first.
func chargesOf(t *testing.T, g *harness.Gateway, account string) (all []harness.Charge) {
	t.Helper()
	client := g.AdminClient()
	for after := ""; ; {
		var list struct {
			Items []harness.Charge `json:"items"`
			Next  string           `json:"next"`
		}
		harness.Ask(t, client, http.MethodGet, "charges?account="+account+"&limit=500&after="+url.QueryEscape(after), nil, &list)
		all = append(all, list.Items...)
		if after = list.Next; after == "" {
			return all
		}
	}
}
