package keys

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func billing(t *testing.T) *Catalogue {
	t.Helper()
	c, err := NewCatalogue([]Scope{
		{Name: "all", Includes: []string{"agent", "customers.read"}},
		{Name: "agent", Includes: []string{"billing.read", "billing.write"}},
		{Name: "billing.read"}, {Name: "billing.write", Includes: []string{"billing.read"}}, {Name: "customers.read"},
	}, []string{"billing.read"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// allows reports whether a key carries a scope, directly or because another of its
// scopes includes it.
func allows(c *Catalogue, k *Key, scope string) bool {
	return k.HasScope(scope) || c.Includes(k.Scopes, scope)
}

// TestCatalogueAllows: a scope grants the scopes that it includes, directly or through
// others, and no more.
func TestCatalogueAllows(t *testing.T) {
	c := billing(t)
	for _, tt := range []struct {
		has    []string
		allows string
	}{
		{nil, ""}, {[]string{"billing.read"}, "billing.read"}, {[]string{"billing.write"}, "billing.read billing.write"},
		{[]string{"agent"}, "agent billing.read billing.write"}, {[]string{"all"}, "agent all billing.read billing.write customers.read"},
		{[]string{"customers.read", "billing.read"}, "billing.read customers.read"}, {[]string{"gone"}, "gone"},
	} {
		k := &Key{Kind: Personal, Scopes: tt.has}
		if got := strings.Join(c.Expand(k.Scopes), " "); got != tt.allows {
			t.Errorf("%v expands to %q, want %q", tt.has, got, tt.allows)
		}
		for _, scope := range append(c.Names(), "gone") {
			if got, want := allows(c, k, scope), slices.Contains(strings.Fields(tt.allows), scope); got != want {
				t.Errorf("%v allows %s: %v, want %v", tt.has, scope, got, want)
			}
		}
	}
	connects := &Key{Kind: Personal, Scopes: []string{ScopeConnect}}
	if !allows(c, connects, ScopeConnect) || allows(c, &Key{Kind: Personal, Scopes: []string{"all"}}, ScopeConnect) || allows(c, &Key{Kind: Agent, Scopes: []string{ScopeAdmin}}, ScopeAdmin) {
		t.Error("what comes with a kind does not come with a scope")
	}
	if n := testing.AllocsPerRun(100, func() { c.Includes(connects.Scopes, "customers.read") }); n != 0 {
		t.Errorf("Includes allocates %v times", n)
	}
	var none *Catalogue
	if none.Includes([]string{"a"}, "b") || none.Names() != nil || none.Default() != nil {
		t.Error("the nil catalogue declares something")
	}
}

// TestNewCatalogueRefuses: an invalid catalogue is refused, and the error names the
// scope and the allowed values.
func TestNewCatalogueRefuses(t *testing.T) {
	for _, tt := range []struct {
		scopes   []Scope
		defaults []string
		of       string
		want     string
	}{
		{[]Scope{{Name: "a", Includes: []string{"b"}}}, nil, "a", `unknown scope "b"; declared: a`},
		{[]Scope{{Name: "a", Includes: []string{"a"}}}, nil, "a", "a includes a"},
		{[]Scope{{Name: "x"}, {Name: "a", Includes: []string{"x", "b"}}, {Name: "b", Includes: []string{"c"}}, {Name: "c", Includes: []string{"a"}}}, nil, "a", "a includes b includes c includes a"},
		{[]Scope{{Name: "a"}, {Name: "a"}}, nil, "a", "declared twice"},
		{[]Scope{{Name: "A"}}, nil, "A", "want 1 to 64"}, {[]Scope{{Name: ""}}, nil, "", "want 1 to 64"},
		{[]Scope{{Name: "agent:connect"}}, nil, "agent:connect", "comes with a kind"},
		{[]Scope{{Name: "a", Includes: []string{"agent:connect"}}}, nil, "a", "unknown scope"},
		{[]Scope{{Name: "a"}}, []string{"b"}, "", `the default scopes: unknown scope "b"`},
		{nil, []string{"b"}, "", "the config declares none"},
	} {
		_, err := NewCatalogue(tt.scopes, tt.defaults)
		var about *ScopeError
		if !errors.As(err, &about) || about.Scope != tt.of || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, %v: got %v; want an error about %q with %q", tt.scopes, tt.defaults, err, tt.of, tt.want)
		}
	}
	if _, err := NewCatalogue(make([]Scope, MaxScopes+1), nil); err == nil {
		t.Error("there is no bound")
	}
	// Many paths to one scope are not a cycle. Each scope must be visited only once,
	// because a visit for each path would take forever with these 60 scopes.
	var wide []Scope
	for i := range 60 {
		s := Scope{Name: string(rune('a'+i/26)) + string(rune('a'+i%26))}
		for j := range i {
			s.Includes = append(s.Includes, wide[j].Name)
		}
		wide = append(wide, s)
	}
	if _, err := NewCatalogue(wide, nil); err != nil {
		t.Error(err)
	}
}

// TestParseRate: a printed rate parses to the same rate, and rates out of bounds are
// refused.
func TestParseRate(t *testing.T) {
	for text, want := range map[string]string{
		"60/1m burst 100": "60/1m burst 100", "60/60s": "60/1m", "1/1s": "1/1s", "7/1h30m": "7/1h30m", "10/24h burst 10": "10/24h", "5/90s burst 1": "5/1m30s burst 1",
	} {
		r, err := ParseRate(text)
		if err != nil || r.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, r, err, want)
		}
		if again, err := ParseRate(r.String()); err != nil || again != r {
			t.Errorf("%s is read as %+v, %v", r, again, err)
		}
	}
	for _, text := range []string{"", "60", "60/", "/1m", "0/1m", "-1/1m", "60/0s", "60/1", "60/25h", "60/1m burst", "60/1m burst 0", "60/1m burst x", "60/1m bursts 5", "2000000/1m", "60/1m burst 5 6", "1/24h burst 32", "6e1/1m"} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q is read as %s", text, r)
		}
	}
	if every := (Rate{Requests: 7, Per: 60e9}).Every(); every*7 < 60e9 || every*7 > 60e9+7 {
		t.Errorf("7 a minute: one every %s", every)
	}
	if (Rate{}).String() != "none" || !(Rate{}).IsZero() {
		t.Error("the zero rate is a bound")
	}
}
