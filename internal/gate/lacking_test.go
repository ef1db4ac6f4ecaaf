package gate

import (
	"context"
	"slices"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestRefusalTellsAllScopes checks that a refusal for lack of scopes lists all required
// scopes together. The required scopes include agent:connect if the item always has a
// price, but not if its price may turn out to be zero.
func TestRefusalTellsAllScopes(t *testing.T) {
	b := newLibrary(t, "base")
	for _, c := range []struct {
		kind           keys.Kind
		tool           string
		scopes         []string // the scopes that the key carries
		needs, lacking []string
	}{
		{keys.Personal, "delete_paid", nil, []string{"write", "agent:connect"}, []string{"write", "agent:connect"}},
		{keys.Personal, "delete_paid", []string{"write"}, []string{"write", "agent:connect"}, []string{"agent:connect"}},
		{keys.Personal, "delete_paid", []string{"agent:connect"}, []string{"write"}, []string{"write"}},
		{keys.Agent, "delete_paid", nil, []string{"write"}, []string{"write"}},
		{keys.Personal, "delete_free", nil, []string{"write"}, []string{"write"}},
		{keys.Personal, "varies", nil, []string{"base"}, []string{"base"}},
	} {
		key := &keys.Key{ID: "key_1", Lineage: "key_1", Account: b.payer.ID, Kind: c.kind, Environment: keys.Live, Scopes: c.scopes}
		m, err := mcp.Decode([]byte(request("tools/call", `{"name":"`+c.tool+`","arguments":{"text":"x"}}`)))
		if err != nil {
			t.Fatal(err)
		}
		_, refusal := b.Admit(context.Background(), callerFor(key), mcp.EraSession, &m)
		if refusal == nil || refusal.Code != ScopeInsufficient || !slices.Equal(refusal.Scopes, c.needs) || !slices.Equal(refusal.Lacking, c.lacking) {
			t.Errorf("%s key with %v calls %s: %+v; want it to need %v and to lack %v", c.kind, c.scopes, c.tool, refusal, c.needs, c.lacking)
		}
	}
}
