package keys

import (
	"reflect"
	"strings"
	"testing"
)

// TestKindNames: each kind's name parses to that kind, and no other text parses. Stores
// and commands use these names.
func TestKindNames(t *testing.T) {
	want := []string{"agent", "provider", "gateway", "personal", "admin", "access", "refresh"}
	if got := Kinds(); !reflect.DeepEqual(got, want) {
		t.Errorf("kinds %v, want %v", got, want)
	}
	for i, name := range want {
		k, err := ParseKind(name)
		if err != nil || k != Kind(i+1) || k.String() != name {
			t.Errorf("%s: kind %d (%v), error %v", name, k, k, err)
		}
	}
	for _, name := range []string{"", "Agent", "agent ", "agents", "Kind(0)", "root"} {
		if k, err := ParseKind(name); k != 0 || err == nil || !strings.Contains(err.Error(), "want one of agent, ") {
			t.Errorf("%q: kind %v, error %v", name, k, err)
		}
	}
	for k, name := range map[Kind]string{0: "Kind(0)", 8: "Kind(8)", 255: "Kind(255)"} {
		if got := k.String(); got != name {
			t.Errorf("%q, want %q", got, name)
		}
	}
	if got, want := CreatedKinds(), want[:5]; !reflect.DeepEqual(got, want) {
		t.Errorf("kinds that people create: %v, want %v", got, want)
	}
	Kinds()[0] = "changed"
	if Kinds()[0] != "agent" {
		t.Error("a caller changed the names of the kinds")
	}
}

// TestImpliedScopes: each kind except personal implies one scope. Only agent keys and
// access tokens imply the same scope, because both call servers.
func TestImpliedScopes(t *testing.T) {
	want := map[Kind]string{
		Agent: "agent:connect", Provider: "provider:charge", Gateway: "gateway:lookup", Admin: "admin",
		Access: "agent:connect", Refresh: "oauth:refresh", Personal: "", 0: "", Refresh + 1: "",
	}
	for k, scope := range want {
		if got := k.Implied(); got != scope {
			t.Errorf("%v implies %q, want %q", k, got, scope)
		}
	}
}

// TestKindRules: every kind has its own rules, and the rules of an invalid kind allow
// nothing.
func TestKindRules(t *testing.T) {
	if got := PayingKinds(); !reflect.DeepEqual(got, []Kind{Agent, Personal, Access}) {
		t.Errorf("paying kinds %v", got)
	}
	for k := Agent; k.valid(); k++ {
		rules := k.Rules()
		if rules.Name == "" || (rules.Implied == "") != rules.NamedRights {
			t.Errorf("%v: a kind has a name, and either an implied scope or named rights: %+v", k, *rules)
		}
	}
	for _, k := range []Kind{0, Refresh + 1, 255} {
		if rules := k.Rules(); *rules != (KindRules{}) {
			t.Errorf("Kind(%d) has rules: %+v", k, *rules)
		}
	}
}

// TestEnvironmentNames: the two names parse, and no other spelling does.
func TestEnvironmentNames(t *testing.T) {
	for name, want := range map[string]Environment{"live": Live, "test": Test} {
		if got, err := ParseEnvironment(name); err != nil || got != want {
			t.Errorf("%s: %q, error %v", name, got, err)
		}
	}
	for _, name := range []string{"", "Live", "prod", "live,test"} {
		if got, err := ParseEnvironment(name); got != "" || err == nil || !strings.Contains(err.Error(), "want live or test") {
			t.Errorf("%q: %q, error %v", name, got, err)
		}
	}
}

// TestHasScope: a key carries the scope that its kind implies, and scopes that it
// names exactly.
func TestHasScope(t *testing.T) {
	key := Key{Kind: Personal, Scopes: []string{"billing.read", ScopeConnect}}
	for scope, want := range map[string]bool{
		"billing.read": true, ScopeConnect: true,
		"billing": false, "billing.read ": false, "Billing.Read": false, "billing.*": false, "*": false, ScopeAdmin: false,
	} {
		if got := key.HasScope(scope); got != want {
			t.Errorf("%q: %v", scope, got)
		}
	}
	for k := Agent; k <= Refresh; k++ {
		if i := k.Implied(); i != "" && !(&Key{Kind: k}).HasScope(i) {
			t.Errorf("%v lacks the scope that it implies", k)
		}
	}
}

// TestAllowsServer: a key without a list of servers may call all servers. A key with a
// list may call exactly the servers in the list.
func TestAllowsServer(t *testing.T) {
	for _, servers := range [][]string{nil, {}} {
		if !(&Key{Servers: servers}).AllowsServer("weather") {
			t.Errorf("%#v refuses a server", servers)
		}
	}
	key := Key{Servers: []string{"weather", "maps"}}
	for server, want := range map[string]bool{"weather": true, "maps": true, "": false, "Weather": false, "weather2": false, "*": false} {
		if got := key.AllowsServer(server); got != want {
			t.Errorf("%q: %v", server, got)
		}
	}
}
