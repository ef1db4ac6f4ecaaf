package integration

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestClusterCommands checks that the commands also work directly on the database while
// gateways have it open. Their changes take effect immediately at every gateway, and
// every gateway refuses a deleted key as soon as the command has returned. A command
// that works only on store files fails with an error that names the alternative.
func TestClusterCommands(t *testing.T) {
	cluster := startCluster(t, &postgres, harness.OnPostgres(harness.Site("http://127.0.0.1:1", "server nowhere", "provider acme", "free *")))
	g := cluster.Nodes[0]
	offline := func(args ...string) []string {
		return append(args, "--offline", "--config", filepath.Join(g.Dir, "Caddyfile"), "--adapter", "caddyfile")
	}
	var migrated struct {
		Store    string
		From, To int64
	}
	g.CLI(t, &migrated, offline("migrate")...)
	if migrated.From != migrated.To || migrated.To < 1 || strings.Contains(migrated.Store, "host=") {
		t.Errorf("migrate: %+v", migrated)
	}
	// The start-up log names the database without its password.
	openedLine(t, g, "postgres", migrated.To)
	g.CLI(t, nil, offline("account", "create", "alice")...)
	g.CLI(t, nil, offline("credit", "alice", "5.00", "--reason", "test")...)
	var account struct{ Balance string }
	cluster.Nodes[1].CLI(t, &account, "account", "show", "alice")
	if account.Balance != "5.00" {
		t.Errorf("balance %s", account.Balance)
	}
	for range 3 {
		var key harness.Key
		g.CLI(t, &key, offline("key", "create", "--account", "alice")...)
		for i, node := range cluster.Nodes {
			node.AddSecret(key.Secret)
			if answer := post(t, node, key.Secret, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); answer.Code() != "UPSTREAM_FAILED" { // the key works, and only the server is missing
				t.Errorf("node %d: a new key: %d %s", i, answer.Status, answer.Body)
			}
		}
		g.CLI(t, nil, offline("key", "delete", key.ID)...)
		for i, node := range cluster.Nodes {
			if status := post(t, node, key.Secret, `{"jsonrpc":"2.0","id":1,"method":"ping"}`).Status; status != http.StatusUnauthorized {
				t.Errorf("node %d: a deleted key: %d", i, status)
			}
		}
	}
	g.CLI(t, nil, offline("ledger", "verify")...)
	for _, refused := range [][]string{{"backup", "copy.db"}, offline("restore", "copy.db"), offline("backup", "copy.db")} {
		if _, err := g.Command(refused...); err == nil || !strings.Contains(err.Error(), "own means") {
			t.Errorf("%v: %v", refused, err)
		}
	}
}
