package issuers

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

const idp = "https://idp.example.com"

// testSite returns the settings of a site with a resource.
func testSite() Site {
	return Site{
		Resource: "https://mcp.example.com/mcp", Environments: []keys.Environment{keys.Live},
		Metrics: telemetry.New(&telemetry.Process{}), Logger: slog.New(slog.DiscardHandler),
	}
}

// TestLoad checks the defaults of an issuer: the audience from the site's resource, with and
// without a slash, and the site's only environment.
func TestLoad(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Issuer, *Site)
		want   string // audiences and environment
	}{
		"the resource":            {func(*Issuer, *Site) {}, "[https://mcp.example.com/mcp https://mcp.example.com/mcp/] live"},
		"a resource with a slash": {func(_ *Issuer, s *Site) { s.Resource += "/" }, "[https://mcp.example.com/mcp https://mcp.example.com/mcp/] live"},
		"its own audience":        {func(i *Issuer, _ *Site) { i.Audience = []string{"weather"} }, "[weather] live"},
		"a site for tests":        {func(_ *Issuer, s *Site) { s.Environments = []keys.Environment{keys.Test} }, "[https://mcp.example.com/mcp https://mcp.example.com/mcp/] test"},
		"a site for both":         {func(_ *Issuer, s *Site) { s.Environments = []keys.Environment{keys.Test, keys.Live} }, "[https://mcp.example.com/mcp https://mcp.example.com/mcp/] live"},
		"one of both, by its name": {func(i *Issuer, s *Site) {
			s.Environments, i.Environment = []keys.Environment{keys.Test, keys.Live}, "test"
		}, "[https://mcp.example.com/mcp https://mcp.example.com/mcp/] test"},
	} {
		i, s := Issuer{Issuer: idp, Account: &Account{Claim: "sub"}}, testSite()
		c.change(&i, &s)
		l, err := Load([]Issuer{i}, s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprint(l.trusts[0].Audiences, " ", l.trusts[0].Environment); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		l.Close()
	}
}

// TestLoadRefuses checks that issuers that cannot be used together with their site are
// refused with the reason, and that none of their sources stays in the pool.
func TestLoadRefuses(t *testing.T) {
	introspection := &Introspection{URL: idp + "/introspect", ClientID: "farebox", Secret: "secret"}
	other := Issuer{Issuer: "https://other.example.com", Account: &Account{Claim: "sub"}, Introspection: introspection}
	for want, change := range map[string]func(*[]Issuer, *Site){
		"want audience":             func(_ *[]Issuer, s *Site) { s.Resource = "" },
		"does not admit test":       func(list *[]Issuer, _ *Site) { (*list)[0].Environment = "test" },
		"with unchecked secrets":    func(list *[]Issuer, s *Site) { (*list)[0].Introspection, s.Unchecked = introspection, true },
		"is named twice":            func(list *[]Issuer, _ *Site) { *list = append(*list, (*list)[0]) },
		"only one issuer of a site": func(list *[]Issuer, _ *Site) { (*list)[0].Introspection = introspection; *list = append(*list, other) },
		"unrecognized placeholder": func(list *[]Issuer, _ *Site) {
			(*list)[0].Introspection = &Introspection{URL: idp, ClientID: "a", Secret: "{nothing.like.that}"}
		},
		"unknown scope":           func(list *[]Issuer, _ *Site) { (*list)[0].Map = []Mapping{{"a", []string{"b"}}} },
		"want account":            func(list *[]Issuer, _ *Site) { (*list)[0].Account = nil },
		"not both":                func(list *[]Issuer, _ *Site) { (*list)[0].Account.CEL = "claims.sub" },
		"cap for a day: 0 is not": func(list *[]Issuer, _ *Site) { (*list)[0].Caps = &Caps{Day: "0"} },
	} {
		list, s := []Issuer{{Issuer: idp, Account: &Account{Claim: "sub"}}}, testSite()
		change(&list, &s)
		if _, err := Load(list, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	sources.Range(func(key, _ any) bool {
		t.Errorf("%v is left in the pool", key)
		return true
	})
}

// TestSourcesSurviveReloads checks that a source is shared by configs with the same settings,
// so that a reload keeps its keys, and not by others.
func TestSourcesSurviveReloads(t *testing.T) {
	load := func(i Issuer) *Loaded {
		i.Issuer, i.Account = idp, &Account{Claim: "sub"}
		l, err := Load([]Issuer{i}, testSite())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before, after, other := load(Issuer{}), load(Issuer{Audience: []string{"x"}}), load(Issuer{Algorithms: []string{"ES256"}})
	if before.trusts[0].Source != after.trusts[0].Source || before.trusts[0].Source == other.trusts[0].Source {
		t.Error("sources are shared by others than the configs of the same issuer")
	}
	before.Close()
	if again := load(Issuer{}); again.trusts[0].Source != after.trusts[0].Source {
		t.Error("the source was dropped while a config uses it")
	} else {
		again.Close()
	}
	after.Close()
	other.Close()
	if got, err := (*Loaded)(nil).Authenticators(nil, nil); got != nil || err != nil {
		t.Errorf("without issuers: %v, %v", got, err)
	}
}
