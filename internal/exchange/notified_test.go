package exchange

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"

	"github.com/fareboxhq/farebox/internal/clock"
)

// bindings is a gate.Bindings in memory.
type bindings map[ledger.HandleHash]ledger.Binding

func (b bindings) Bind(_ context.Context, binding ledger.Binding) error {
	b[binding.HandleHash] = binding
	return nil
}

func (b bindings) Binding(_ context.Context, _ string, m ledger.HandleHash) (ledger.Binding, error) {
	if binding, ok := b[m]; ok {
		return binding, nil
	}
	return ledger.Binding{}, ledger.ErrNotFound
}

// TestTaskStatusNeedsTheScope checks promise 6 of docs/promises.md. An open stream
// delivers a task's status only as long as the key may ask for the task, even if the
// stream itself needs no scope.
func TestTaskStatusNeedsTheScope(t *testing.T) {
	catalogue, err := keys.NewCatalogue([]keys.Scope{{Name: "read"}, {Name: "write"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := gate.NewRights(catalogue, []gate.ScopeRule{{Pattern: "slow", Scopes: []string{"read"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "slow"}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	key := &keys.Key{Account: "acct_1", Kind: keys.Personal, Environment: keys.Live, Scopes: []string{"read"}}
	store := &onlyKey{key}
	site := newSite()
	site.Gate = gate.New(gate.Policy{Server: "s", Secrets: &keys.DefaultFormat, Prices: book, Rights: rights}, gate.Deps{Keys: store, Bindings: make(bindings), Now: clock.Now, Logger: site.Logger})
	m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","task":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	caller := callerOf(site.Gate, key)
	call, refusal := site.Gate.Admit(t.Context(), &caller, mcp.EraSession, &m)
	if refusal != nil {
		t.Fatal(refusal)
	}
	accepted := []byte(`{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t","status":"working"}}}`)
	if refusal := site.Gate.Bind(t.Context(), &caller, call.Ticket(&m), mcp.OutcomeTask, accepted); refusal != nil {
		t.Fatal(refusal)
	}
	x := New(site, new(fakeHost), nil, httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/mcp", nil))
	x.caller = caller // the caller as it was when the stream began
	status := []byte(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t","status":"working"}}`)
	for _, c := range []struct {
		what   string
		change func(*keys.Key)
		told   bool
	}{
		{"as it was", func(*keys.Key) {}, true},
		{"without the scope", func(k *keys.Key) { k.Scopes = []string{"write"} }, false},
		{"with the scope again", func(k *keys.Key) { k.Scopes = []string{"read"} }, true},
		{"disabled", func(k *keys.Key) { k.DisabledAt = clock.Now() }, false},
	} {
		now := *store.key
		c.change(&now)
		store.key = &now
		if told := x.notifies(status); told != c.told {
			t.Errorf("%s: told %t", c.what, told)
		}
	}
}
