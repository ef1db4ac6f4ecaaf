package harness

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// Cluster is several gateways at one PostgreSQL database, with the same key
// files.
type Cluster struct {
	Nodes []*Gateway
}

// OnPostgres makes the Caddyfile of Site one for the nodes of a cluster. It has
// them log less, since a cluster is there to be asked often; options are further
// lines of the global option.
func OnPostgres(caddyfile string, options ...string) string {
	shared := strings.Join(append([]string{
		"store postgres {env.FAREBOX_DSN}",
		"receipt_key_file {$FAREBOX_SHARED}/receipt-key", "seal_key_file {$FAREBOX_SHARED}/seal-key",
	}, options...), "\n\t\t")
	return strings.NewReplacer("store sqlite {$FAREBOX_DATA}/farebox.db", shared, "level DEBUG", "level INFO").Replace(caddyfile)
}

// StartCluster starts so many new gateways at once on an empty database of the
// server, so that they race to set up their shared state.
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

// Admin returns a client of each node's admin endpoint. They are for one
// goroutine.
func (c *Cluster) Admin() []*ops.Client {
	clients := make([]*ops.Client, len(c.Nodes))
	for i, g := range c.Nodes {
		clients[i] = g.AdminClient()
	}
	return clients
}

// NewAgent makes an account with credits of the live kind, if any, and a key
// for it, without the commands, which take their time.
func (c *Cluster) NewAgent(t testing.TB, name string, credits ledger.Amount) Key {
	t.Helper()
	client := c.Nodes[0].AdminClient()
	Ask(t, client, http.MethodPost, "accounts", map[string]any{"name": name}, nil)
	if credits > 0 {
		Ask(t, client, http.MethodPost, "accounts/"+name+"/credits", map[string]any{"amount": credits, "reason": "for the test"}, nil)
	}
	return c.NewKey(t, client, map[string]any{"account": name})
}

// NewKey makes a key by a node's admin endpoint, and has every node's output
// searched for its secret.
func (c *Cluster) NewKey(t testing.TB, client *ops.Client, body map[string]any) Key {
	t.Helper()
	var key Key
	Ask(t, client, http.MethodPost, "keys", body, &key)
	for _, g := range c.Nodes {
		g.AddSecret(key.Secret)
	}
	return key
}

// Ask asks an admin endpoint, requires success, and reads the answer into v unless
// v is nil.
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
