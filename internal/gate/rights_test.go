package gate

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

var catalogue = func() *keys.Catalogue {
	c, err := keys.NewCatalogue([]keys.Scope{{Name: "read"}, {Name: "write"}, {Name: "all", Includes: []string{"read", "write"}}, {Name: "base"}}, nil)
	if err != nil {
		panic(err)
	}
	return c
}()

// newLibrary returns a bench with a server that requires scopes.
func newLibrary(t *testing.T, require ...string) *bench {
	t.Helper()
	b := newBench(t)
	var err error
	b.policy.Prices, err = pricing.Compile([]pricing.Rule{{Pattern: "delete_paid", Amount: 1_000}, {Pattern: "varies", CEL: "size(args.text)", Max: 10}, {Pattern: "hidden"}, {Pattern: "*"}, {Pattern: "method:vendor/thing"}, {Pattern: "method:vendor/other"}},
		pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	b.policy.Rights, err = NewRights(catalogue, []ScopeRule{
		{"delete_*", []string{"write"}}, {"read_*", []string{"read"}}, {"both", []string{"read", "write"}}, {"delete_own", []string{"read"}},
		{"prompt:p*", []string{"read"}}, {"resource:docs://*", []string{"read"}}, {"resource:docs://open", []string{"agent:connect"}},
		{"method:vendor/thing", []string{"write"}}, {"method:logging/setLevel", []string{"write"}},
	}, require)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPermit checks that a key may use an item if the key's scopes, together with the
// scopes that they include, cover the item's requirement. This holds for tools,
// prompts, resources and methods, and for requests that refer to them. Items without a
// rule need the server's scopes.
func TestPermit(t *testing.T) {
	const none = ""
	b := newLibrary(t, "base")
	for _, c := range []struct {
		method, params string
		needs          string // the required scopes, or "params" if the request is refused because of its params
	}{
		{"tools/call", `{"name":"delete_x"}`, "write"}, {"tools/call", `{"name":"delete_own"}`, "read"}, {"tools/call", `{"name":"read_x"}`, "read"},
		{"tools/call", `{"name":"both"}`, "read write"}, {"tools/call", `{"name":"other"}`, "base"}, {"tools/call", `{"name":"delete_paid"}`, "write agent:connect"},
		{"prompts/get", `{"name":"poem"}`, "read"}, {"prompts/get", `{"name":"essay"}`, "base"},
		{"resources/read", `{"uri":"docs://a"}`, "read"}, {"resources/read", `{"uri":"docs://open"}`, "agent:connect"}, {"resources/read", `{"uri":"other://a"}`, "base"},
		{"resources/read", `{"uri":"DOCS://a"}`, "params"}, {"resources/subscribe", `{"uri":"docs://a"}`, "read"}, {"resources/subscribe", `{"uri":"docs://%61"}`, "params"},
		{"resources/unsubscribe", `{"uri":"docs://a"}`, "read"}, {"resources/subscribe", `{}`, "params"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"poem"},"argument":{}}`, "read"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://open"}}`, "agent:connect"},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://{id}"}}`, "read"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://a/{+path}{?q}"}}`, "read"},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"other://{id}"}}`, "base"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"DOCS://{id}"}}`, "params"},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://%61/{id}"}}`, "params"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://{id"}}`, "params"},
		{"resources/read", `{"uri":"docs://{id}"}`, "params"}, {"resources/subscribe", `{"uri":"docs://{id}"}`, "params"},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"essay"}}`, "base"}, {"completion/complete", `{"ref":{"type":"ref/prompt","name":"essay","Name":"poem"}}`, "params"},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://{name}"},"argument":{"name":"name","value":"a"}}`, "read"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"other://{name}{?q}"}}`, "base"},
		{"completion/complete", `{"ref":{"type":"ref/resource","uri":"DOCS://{name}"}}`, "params"}, {"completion/complete", `{"ref":{"type":"ref/resource","uri":"docs://{name"}}`, "params"}, {"resources/read", `{"uri":"docs://{name}"}`, "params"},
		{"vendor/thing", `{}`, "write"}, {"vendor/other", `{}`, "base"}, {"logging/setLevel", `{"level":"debug"}`, "write"},
		{"ping", `{}`, none}, {"initialize", `{}`, none}, {"tools/list", `{}`, none}, {"prompts/list", `{}`, none}, {"resources/templates/list", `{}`, none},
		{"subscriptions/listen", `{"notifications":{"toolsListChanged":true}}`, none}, {"subscriptions/listen", `{"notifications":{"resourceSubscriptions":["docs://open","docs://a"]}}`, "agent:connect read"},
		{"subscriptions/listen", `{"notifications":{"ResourceSubscriptions":["docs://a"]}}`, "params"},
	} {
		for _, scopes := range []string{none, "read", "write", "all", "base", "agent:connect", "read agent:connect", "write agent:connect", "all base agent:connect", "undeclared"} {
			for _, kind := range []keys.Kind{keys.Personal, keys.Agent, keys.Access} {
				key := &keys.Key{ID: "key_1", Lineage: "key_1", Account: b.payer.ID, Kind: kind, Environment: keys.Live, Scopes: strings.Fields(scopes)}
				m, err := mcp.Decode([]byte(request(c.method, c.params)))
				if err != nil {
					t.Fatal(err)
				}
				era := mcp.EraSession
				if c.method == "subscriptions/listen" {
					era = mcp.EraStateless
				}
				var lacks []string
				for _, need := range strings.Fields(c.needs) {
					if !key.HasScope(need) && !catalogue.Includes(key.Scopes, need) {
						lacks = append(lacks, need)
					}
				}
				call, refusal := b.Admit(context.Background(), callerFor(key), era, &m)
				switch {
				case c.needs == "params":
					if refusal == nil || refusal.Code != ParamsInvalid {
						t.Errorf("%s %s: %v", c.method, c.params, refusal)
					}
				case len(lacks) > 0:
					if refusal == nil || refusal.Code != ScopeInsufficient {
						t.Errorf("%s key with %q, %s %s: got %v, %v", kind, scopes, c.method, c.params, call, refusal)
						continue
					}
					// A refusal is about one item, and lists all the scopes of that
					// item.
					if !subset(refusal.Lacking, lacks) || !subset(refusal.Scopes, strings.Fields(c.needs)) || len(refusal.Lacking) == 0 {
						t.Errorf("%s %s needs %v and lacks %v; refused with %v and %v", c.method, c.params, c.needs, lacks, refusal.Scopes, refusal.Lacking)
					}
				case refusal != nil:
					t.Errorf("%s key with %q, %s %s: refused, %v", kind, scopes, c.method, c.params, refusal)
				default:
					call.Close(context.Background())
				}
			}
		}
	}
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(of, s) })
}

// TestPermitAcrossEras checks a method that only one protocol era has (with or without
// sessions). The operator allows the method in the other era. A request with this
// method requires the same scopes in both eras, and also the scopes that the operator
// requires for the method itself.
func TestPermitAcrossEras(t *testing.T) {
	b := newLibrary(t, "base")
	var err error
	b.policy.Prices, err = pricing.Compile([]pricing.Rule{{Pattern: "method:resources/subscribe"}, {Pattern: "method:resources/unsubscribe"}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"resources/subscribe", "resources/unsubscribe"} {
		m, err := mcp.Decode([]byte(request(method, `{"uri":"docs://a"}`)))
		if err != nil {
			t.Fatal(err)
		}
		for scopes, want := range map[string]map[mcp.Era]bool{
			"base": {}, "read": {mcp.EraSession: true}, "base read": {mcp.EraSession: true, mcp.EraStateless: true},
		} {
			for _, era := range []mcp.Era{mcp.EraSession, mcp.EraStateless} {
				_, refusal := b.Admit(context.Background(), callerFor(&keys.Key{Kind: keys.Personal, Account: b.payer.ID, Scopes: strings.Fields(scopes)}), era, &m)
				if (refusal == nil) != want[era] || refusal != nil && refusal.Code != ScopeInsufficient {
					t.Errorf("%s of a %s, key with %q: %v", method, era, scopes, refusal)
				}
			}
		}
	}
}

// TestUsualRights checks that a server requires agent:connect for everything if the
// operator has set neither rules nor other scopes. A rule changes only the items
// that it names.
func TestUsualRights(t *testing.T) {
	for name, b := range map[string]*bench{"no rights": newBench(t), "rules": newLibrary(t)} {
		for scopes, code := range map[string]Code{"": ScopeInsufficient, "read": ScopeInsufficient, "agent:connect": ""} {
			key := &keys.Key{Account: b.payer.ID, Kind: keys.Personal, Scopes: strings.Fields(scopes)}
			m, _ := mcp.Decode([]byte(request("tools/call", `{"name":"free"}`)))
			_, refusal := b.Admit(context.Background(), callerFor(key), mcp.EraSession, &m)
			if refusal == nil && code != "" || refusal != nil && refusal.Code != code {
				t.Errorf("%s, a personal key with %q: %v", name, scopes, refusal)
			}
		}
	}
}

// TestUnpricedIsUnknownBeforeScopes checks that a tool that no caller may call is
// unknown, no matter which scopes the key lacks.
func TestUnpricedIsUnknownBeforeScopes(t *testing.T) {
	b := newBench(t)
	m, _ := mcp.Decode([]byte(request("tools/call", `{"name":"nobodys"}`)))
	if _, refusal := b.Admit(context.Background(), callerFor(&keys.Key{Kind: keys.Personal}), mcp.EraSession, &m); refusal == nil || refusal.Code != ToolUnknown {
		t.Errorf("got %v", refusal)
	}
}

// TestListsByScope checks that lists contain exactly the items that the key may
// use. A list that depends on the key is marked as private to the caller.
func TestListsByScope(t *testing.T) {
	b := newLibrary(t, "base")
	for _, c := range []struct {
		list mcp.List
		all  []string
		want map[string]string // maps the scopes of the key to the names in the list
	}{
		{mcp.ListTools, []string{"delete_x", "delete_own", "read_x", "both", "other", "delete_paid", "varies", "no\nname"}, map[string]string{
			"": "", "read": "delete_own read_x", "write": "delete_x", "all": "delete_x delete_own read_x both", "base": "other varies",
			"write agent:connect": "delete_x delete_paid",
		}},
		{mcp.ListPrompts, []string{"poem", "essay"}, map[string]string{"": "", "read": "poem", "all": "poem", "base": "essay", "read base": "poem essay"}},
		{mcp.ListResources, []string{"docs://a", "docs://open", "other://a"}, map[string]string{"": "", "read": "docs://a", "agent:connect": "docs://open", "base": "other://a"}},
		{mcp.ListResourceTemplates, []string{"docs://{name}", "other://{name}"}, map[string]string{"": "", "all": "docs://{name}", "base": "other://{name}"}},
	} {
		for scopes, want := range c.want {
			r := b.List(callerFor(&keys.Key{Kind: keys.Personal, Scopes: strings.Fields(scopes)}), c.list)
			var shown []string
			for _, name := range c.all {
				if keep, _ := r.Judge(name); keep {
					shown = append(shown, name)
				}
			}
			if got := strings.Join(shown, " "); got != want || !r.PerCaller {
				t.Errorf("%s for %q: %q, want %q (private: %v)", c.list, scopes, got, want, r.PerCaller)
			}
		}
	}
}

// TestResourceNotificationsByScope checks the notifications of a changed resource.
// Several keys of an account can listen in the same session. The notifications go
// only to those keys that may read the resource.
func TestResourceNotificationsByScope(t *testing.T) {
	b := newLibrary(t, "base")
	for uri, want := range map[string]string{
		`"docs://a"`: "read", `"docs:\/\/a"`: "read", `"docs://open"`: "agent:connect", `"other://a"`: "base", `"DOCS://a"`: "none", `7`: "none", `"docs://a","URI":"docs://open"`: "none",
	} {
		note := []byte(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":` + uri + `}}`)
		for _, scope := range []string{"", "read", "write", "base", "agent:connect"} {
			key := &keys.Key{Kind: keys.Personal, Account: b.payer.ID, Scopes: strings.Fields(scope)}
			if got := b.Notifies(context.Background(), callerFor(key), note); got != (scope == want) {
				t.Errorf("%s to a key with %q: %v", note, scope, got)
			}
		}
	}
	if note := []byte(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a b"}}`); !newBench(t).Notifies(context.Background(), callerFor(&keys.Key{Kind: keys.Agent}), note) {
		t.Error("a server without scopes keeps changes to itself")
	}
}

// TestResumeNeedsTheScopes checks that a key that has lost a required scope cannot
// resume a stream, free or paid.
func TestResumeNeedsTheScopes(t *testing.T) {
	b := newLibrary(t)
	b.deps.Sealer = NewSealer(b.deps.Now, SealKey{Key: [SealKeySize]byte{1}})
	for _, tool := range []string{"delete_x", "delete_paid"} {
		key := &keys.Key{ID: "key_1", Lineage: "key_1", Account: b.payer.ID, Kind: keys.Personal, Environment: keys.Live, Scopes: []string{"all", "agent:connect"}}
		m, _ := mcp.Decode([]byte(request("tools/call", `{"name":"`+tool+`"}`)))
		call, refusal := b.Admit(context.Background(), callerFor(key), mcp.EraSession, &m)
		if refusal != nil {
			t.Fatal(refusal)
		}
		sealed := b.SealEvent(callerFor(key), "s", call.Ticket(&m), []byte("e"))
		for scopes, ok := range map[string]bool{"all agent:connect": true, "write agent:connect": true, "read agent:connect": false, "": false} {
			key.Scopes = strings.Fields(scopes)
			_, ticket, opened := b.OpenEvent(callerFor(key), "s", string(sealed))
			if !opened {
				t.Fatal("the ticket does not open")
			}
			resumed, refusal := b.Resume(t.Context(), callerFor(key), ticket)
			if (refusal == nil) != ok || refusal != nil && refusal.Code != ScopeInsufficient {
				t.Errorf("%s with %q: %v", tool, scopes, refusal)
			}
			if resumed != nil {
				resumed.Suspend()
			}
		}
		call.Close(context.Background())
	}
}

// TestNewRightsRefuses checks that invalid rules are refused.
func TestNewRightsRefuses(t *testing.T) {
	for _, c := range []struct {
		rules   []ScopeRule
		require []string
		want    string
	}{
		{[]ScopeRule{{"a", []string{"nothing"}}}, nil, `unknown scope "nothing"; declared: read, write, all, base`},
		{[]ScopeRule{{"a", nil}}, nil, "want the scopes"}, {[]ScopeRule{{"a[", []string{"read"}}}, nil, "cannot be read"},
		{[]ScopeRule{{"a", []string{"read"}}, {"a", []string{"write"}}}, nil, "named twice"}, {[]ScopeRule{{"prompts:x", []string{"read"}}}, nil, "write prompt:NAME"},
		{[]ScopeRule{{"*", []string{"read"}}, {"a*", []string{"write"}}}, nil, "can never match"},
		{[]ScopeRule{{"method:tools/call", []string{"read"}}}, nil, "depends on what it names"}, {nil, []string{"admin"}, "require: unknown scope"},
	} {
		if _, err := NewRights(catalogue, c.rules, c.require); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: %v", c.rules, c.require, err)
		}
	}
	if _, err := NewRights(nil, []ScopeRule{{"a", []string{"read"}}}, nil); err == nil || !strings.Contains(err.Error(), "declares none") {
		t.Error(err)
	}
	r, err := NewRights(catalogue, []ScopeRule{{"a", []string{"write", "agent:connect"}}, {"b*", []string{"write"}}}, []string{"read"})
	if err != nil || strings.Join(r.Named(), " ") != "read write" || strings.Join(r.Required(), " ") != "read" {
		t.Errorf("%v: named %v, required %v", err, r.Named(), r.Required())
	}
}
