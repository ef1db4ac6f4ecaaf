package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

const allDeclared = "declared: billing.read, billing.write, billing.agent"

// A scope that is not declared is not given to a key of any kind, neither when
// it is made nor later, and the answer says which there are.
func TestScopesAreDeclared(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	for _, kind := range []string{"agent", "provider", "gateway", "personal", "admin"} {
		n := NewKey{Account: "alice", Kind: kind, Name: "ci", Scopes: []string{"billing.write", "billing.read"}}
		k := do[KeyView](o, "POST", "keys", n)
		if !slices.Equal(k.Scopes, n.Scopes) {
			t.Errorf("%s: made with %q", kind, k.Scopes)
		}
		changed := do[KeyView](o, "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{"billing.agent"}})
		if !slices.Equal(changed.Scopes, []string{"billing.agent"}) {
			t.Errorf("%s: changed to %q", kind, changed.Scopes)
		}
		n.Scopes = []string{"billing.read", "mail.read"}
		o.refused(Invalid, `unknown scope "mail.read"; `+allDeclared, "POST", "keys", n)
		o.refused(Invalid, `unknown scope "mail.read"; `+allDeclared, "PATCH", "keys/"+k.ID, map[string]any{"scopes": n.Scopes})
		o.refused(Invalid, `unknown scope ""; `+allDeclared, "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{""}})
		if got := do[KeyView](o, "GET", "keys/"+k.ID, nil); !slices.Equal(got.Scopes, changed.Scopes) {
			t.Errorf("%s: a refused change left %q", kind, got.Scopes)
		}
	}
	o.settings.Store(new(Settings))
	o.refused(Invalid, `unknown scope "billing.read": the config declares none`, "POST", "keys", NewKey{Account: "alice", Scopes: []string{"billing.read"}})
}

// A key keeps a scope that is no longer declared through every change but one of
// its scopes.
func TestScopesThatAreNoLongerDeclared(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[KeyView](o, "POST", "keys", NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}})
	path := "keys/" + k.ID
	o.settings.Store(new(Settings))
	for _, change := range []map[string]any{
		{"name": "laptop"}, {"servers": []string{"weather"}}, {"expires_in": "24h"}, {"rate": "5/1s"}, {"caps": map[string]string{"day": "1"}},
	} {
		if got := do[KeyView](o, "PATCH", path, change); !slices.Equal(got.Scopes, k.Scopes) {
			t.Errorf("%v: scopes %q", change, got.Scopes)
		}
	}
	do[KeyView](o, "POST", path+"/disable", nil)
	do[KeyView](o, "POST", path+"/enable", nil)
	if next := do[KeyView](o, "POST", path+"/rotate", Rotation{}); !slices.Equal(next.Scopes, k.Scopes) {
		t.Errorf("successor with %q", next.Scopes)
	}
	o.refused(Invalid, `unknown scope "billing.read"`, "PATCH", path, map[string]any{"scopes": []string{"billing.read"}})
}

// A personal key has a name, from the beginning to the end.
func TestPersonalKeysHaveNames(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := NewKey{Account: "alice", Kind: "personal", Scopes: []string{"billing.read"}}
	for _, n.Name = range []string{"", "  "} {
		o.refused(Invalid, "a personal key needs a name", "POST", "keys", n)
	}
	n.Name = "laptop"
	k := do[KeyView](o, "POST", "keys", n)
	o.refused(Invalid, "a personal key needs a name", "PATCH", "keys/"+k.ID, map[string]any{"name": ""})
	if got := do[KeyView](o, "PATCH", "keys/"+k.ID, map[string]any{"name": "desk", "rate": "5/1s"}); got.Name != "desk" {
		t.Errorf("renamed to %q", got.Name)
	}
	agent := do[KeyView](o, "POST", "keys", NewKey{Account: "alice"})
	do[KeyView](o, "PATCH", "keys/"+agent.ID, map[string]any{"name": ""})
}

// A personal key for which no scope is named gets the default ones, which the
// audit tells. Without a default, and when its scopes would be taken away, it is
// refused: it would do nothing.
func TestPersonalKeysHaveScopes(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := NewKey{Account: "alice", Kind: "personal", Name: "ci"}
	o.refused(Invalid, "name one or more, of agent:connect and the declared billing.read, billing.write, billing.agent", "POST", "keys", n)
	o.settings.Store(new(Settings))
	o.refused(Invalid, "name agent:connect, or declare others", "POST", "keys", n)

	o.settings.Store(declare(t, "billing.read"))
	k := do[KeyView](o, "POST", "keys", n)
	if !slices.Equal(k.Scopes, []string{"billing.read"}) {
		t.Errorf("by default it has %q", k.Scopes)
	}
	if row := o.audits()[0]; !strings.Contains(row.Detail, `"scopes":["billing.read"]`) {
		t.Errorf("audit %s", row.Detail)
	}
	n.Scopes = []string{keys.ScopeConnect}
	if got := do[KeyView](o, "POST", "keys", n); !slices.Equal(got.Scopes, n.Scopes) {
		t.Errorf("asked for %q, got %q", n.Scopes, got.Scopes)
	}
	if agent := do[KeyView](o, "POST", "keys", NewKey{Account: "alice"}); len(agent.Scopes) != 0 {
		t.Errorf("an agent key got %q", agent.Scopes)
	}
	o.refused(Invalid, "would have none", "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{}})
	if got := do[KeyView](o, "GET", "keys/"+k.ID, nil); !slices.Equal(got.Scopes, k.Scopes) {
		t.Errorf("a refused change left %q", got.Scopes)
	}
}

// A personal key lives as long as the settings say unless something else is
// asked, and never for ever.
func TestPersonalKeysExpire(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}}
	life := func(what string, k KeyView, want time.Duration) {
		t.Helper()
		if k.ExpiresAt == nil || k.ExpiresAt.Sub(k.CreatedAt) != want {
			t.Errorf("%s: expires at %v, made at %v, want a life of %v", what, k.ExpiresAt, k.CreatedAt, want)
		}
	}
	life("by default", do[KeyView](o, "POST", "keys", n), DefaultPersonalLife)
	settings := declare(t)
	settings.PersonalLife = 36 * time.Hour
	o.settings.Store(settings)
	k := do[KeyView](o, "POST", "keys", n)
	life("as the settings say", k, 36*time.Hour)
	n.ExpiresIn = "1h"
	life("as was asked", do[KeyView](o, "POST", "keys", n), time.Hour)
	n.ExpiresIn = Never
	o.refused(Invalid, "always expires", "POST", "keys", n)
	o.refused(Invalid, "always expires", "PATCH", "keys/"+k.ID, map[string]any{"expires_in": Never})
	o.refused(Invalid, "always expires", "POST", "keys/"+k.ID+"/rotate", Rotation{ExpiresIn: Never})
	if next := do[KeyView](o, "POST", "keys/"+k.ID+"/rotate", Rotation{}); next.ExpiresAt == nil || !next.ExpiresAt.Equal(*k.ExpiresAt) {
		t.Errorf("the successor ends at %v, the old key at %v", next.ExpiresAt, k.ExpiresAt)
	}
}
