package harness

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// Cluster is a set of gateways that share one PostgreSQL database and the key files.
type Cluster struct {
	Nodes []*Gateway
}

// OnPostgres changes a Caddyfile that Site returned into one for the nodes of a
// cluster. The nodes log less, because tests send a cluster many requests. options are
// further lines of the global option farebox.
func OnPostgres(caddyfile string, options ...string) string {
	shared := strings.Join(append([]string{
		"store postgres {env.FAREBOX_DSN}",
		"receipt_key_file {$FAREBOX_SHARED}/receipt-key", "seal_key_file {$FAREBOX_SHARED}/seal-key",
	}, options...), "\n\t\t")
	return strings.NewReplacer("store sqlite {$FAREBOX_DATA}/farebox.db", shared, "level DEBUG", "level INFO").Replace(caddyfile)
}

// StartCluster starts the given number of new gateways on an empty database. All
// gateways start at the same time and race to set up their shared state.
func (b *Binaries) StartCluster(t testing.TB, nodes int, dsn, caddyfile string) *Cluster {
	t.Helper()
	c := &Cluster{}
	shared := t.TempDir()
	for range nodes {
		g := b.newGateway(t, caddyfile, "FAREBOX_DSN="+dsn, "FAREBOX_SHARED="+shared)
		g.launch(t)
		c.Nodes = append(c.Nodes, g)
	}
	for _, g := range c.Nodes {
		g.await(t)
	}
	return c
}

// Admin returns a client of each node's admin endpoint. Each client must be used by
// one goroutine only.
func (c *Cluster) Admin() []*ops.Client {
	clients := make([]*ops.Client, len(c.Nodes))
	for i, g := range c.Nodes {
		clients[i] = g.AdminClient()
	}
	return clients
}

// NewAgent makes an account, credits its live balance if credits is not zero, and makes
// a key for it. NewAgent uses the admin endpoint, because commands are slow.
func (c *Cluster) NewAgent(t testing.TB, name string, credits ledger.Amount) Key {
	t.Helper()
	client := c.Nodes[0].AdminClient()
	Ask(t, client, http.MethodPost, "accounts", map[string]any{"name": name}, nil)
	if credits > 0 {
		Ask(t, client, http.MethodPost, "accounts/"+name+"/credits", map[string]any{"amount": credits, "reason": "for the test"}, nil)
	}
	return c.NewKey(t, client, map[string]any{"account": name})
}

// NewKey makes a key through a node's admin endpoint. At the end of the test, the
// output of every node is searched for the key's secret.
func (c *Cluster) NewKey(t testing.TB, client *ops.Client, body map[string]any) Key {
	t.Helper()
	var key Key
	Ask(t, client, http.MethodPost, "keys", body, &key)
	for _, g := range c.Nodes {
		g.AddSecret(key.Secret)
	}
	return key
}

// Ask calls an admin endpoint, requires success, and decodes the response into v
// unless v is nil.
func Ask(t testing.TB, client *ops.Client, method, path string, body, v any) {
	t.Helper()
	raw, err := client.Do(t.Context(), method, path, body)
	if err == nil && v != nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}
