package integration

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// TestStartNamesTheStore checks that each start and reload logs one line with the
// store's kind, location, schema and currency. People read this line first when a
// balance is unexpected.
func TestStartNamesTheStore(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site("http://127.0.0.1:1", "server nowhere", "provider acme", "free *"))
	schema, err := sqlitestore.Schema()
	if err != nil || schema < 1 {
		t.Fatalf("schema %d: %v", schema, err)
	}
	if at := openedLine(t, g, "sqlite", schema); at != filepath.Join(g.Data(), "farebox.db") {
		t.Errorf("the store is at %s", at)
	}
}

// openedLine checks the log line about the open store and returns the store's
// location.
func openedLine(t *testing.T, g *harness.Gateway, store string, schema int64) (at string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(g.Process().Output(t)) {
		var record struct {
			Level, Msg, Store, At, Currency string
			Schema                          int64
		}
		if json.Unmarshal([]byte(line), &record) != nil || record.Msg != "the store is open" {
			continue
		}
		n++
		at = record.At
		if record.Level != "info" || record.Store != store || record.Schema != schema || record.Currency != "USD" || strings.ContainsAny(at, "@?=") || at == "" {
			t.Errorf("got %s", line)
		}
	}
	if n != 1 {
		t.Errorf("%d lines tell of the open store; want one", n)
	}
	return at
}
