package ops

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
)

const allDeclared = "declared: billing.read, billing.write, billing.agent"

// TestScopesAreDeclared checks that keys of every kind get only declared scopes,
// both on creation and later. The error for an undeclared scope lists the declared
// ones.
func TestScopesAreDeclared(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	for _, kind := range []string{"agent", "provider", "gateway", "personal", "admin"} {
		n := admin.NewKey{Account: "alice", Kind: kind, Name: "ci", Scopes: []string{"billing.write", "billing.read"}}
		k := do[admin.KeyView](o, "POST", "keys", n)
		if !slices.Equal(k.Scopes, n.Scopes) {
			t.Errorf("%s: made with %q", kind, k.Scopes)
		}
		changed := do[admin.KeyView](o, "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{"billing.agent"}})
		if !slices.Equal(changed.Scopes, []string{"billing.agent"}) {
			t.Errorf("%s: changed to %q", kind, changed.Scopes)
		}
		n.Scopes = []string{"billing.read", "mail.read"}
		o.refused(admin.Invalid, `unknown scope "mail.read"; `+allDeclared, "POST", "keys", n)
		o.refused(admin.Invalid, `unknown scope "mail.read"; `+allDeclared, "PATCH", "keys/"+k.ID, map[string]any{"scopes": n.Scopes})
		o.refused(admin.Invalid, `unknown scope ""; `+allDeclared, "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{""}})
		if got := do[admin.KeyView](o, "GET", "keys/"+k.ID, nil); !slices.Equal(got.Scopes, changed.Scopes) {
			t.Errorf("%s: a refused change left %q", kind, got.Scopes)
		}
	}
	o.settings.Store(new(admin.Settings))
	o.refused(admin.Invalid, `unknown scope "billing.read": the config declares none`, "POST", "keys", admin.NewKey{Account: "alice", Scopes: []string{"billing.read"}})
}

// TestScopesThatAreNoLongerDeclared checks that a key keeps a scope after its
// declaration was removed, until the scopes of the key are changed.
func TestScopesThatAreNoLongerDeclared(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}})
	path := "keys/" + k.ID
	o.settings.Store(new(admin.Settings))
	for _, change := range []map[string]any{
		{"name": "laptop"}, {"servers": []string{"weather"}}, {"expires_in": "24h"}, {"rate": "5/1s"}, {"caps": map[string]string{"day": "1"}},
	} {
		if got := do[admin.KeyView](o, "PATCH", path, change); !slices.Equal(got.Scopes, k.Scopes) {
			t.Errorf("%v: scopes %q", change, got.Scopes)
		}
	}
	do[admin.KeyView](o, "POST", path+"/disable", nil)
	do[admin.KeyView](o, "POST", path+"/enable", nil)
	if next := do[admin.KeyView](o, "POST", path+"/rotate", admin.Rotation{}); !slices.Equal(next.Scopes, k.Scopes) {
		t.Errorf("successor with %q", next.Scopes)
	}
	o.refused(admin.Invalid, `unknown scope "billing.read"`, "PATCH", path, map[string]any{"scopes": []string{"billing.read"}})
}

// TestPersonalKeysHaveNames checks that a personal key must always have a name.
func TestPersonalKeysHaveNames(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := admin.NewKey{Account: "alice", Kind: "personal", Scopes: []string{"billing.read"}}
	for _, n.Name = range []string{"", "  "} {
		o.refused(admin.Invalid, "a personal key needs a name", "POST", "keys", n)
	}
	n.Name = "laptop"
	k := do[admin.KeyView](o, "POST", "keys", n)
	o.refused(admin.Invalid, "a personal key needs a name", "PATCH", "keys/"+k.ID, map[string]any{"name": ""})
	if got := do[admin.KeyView](o, "PATCH", "keys/"+k.ID, map[string]any{"name": "desk", "rate": "5/1s"}); got.Name != "desk" {
		t.Errorf("renamed to %q", got.Name)
	}
	agent := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"})
	do[admin.KeyView](o, "PATCH", "keys/"+agent.ID, map[string]any{"name": ""})
}

// TestPersonalKeysHaveScopes checks that a personal key gets the default scopes if the
// request names none, and that the audit log records them. A personal key without
// scopes could do nothing. So a request for such a key is refused if there are no
// default scopes, and an update cannot remove all scopes of a personal key.
func TestPersonalKeysHaveScopes(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := admin.NewKey{Account: "alice", Kind: "personal", Name: "ci"}
	o.refused(admin.Invalid, "name one or more, of agent:connect and the declared billing.read, billing.write, billing.agent", "POST", "keys", n)
	o.settings.Store(new(admin.Settings))
	o.refused(admin.Invalid, "name agent:connect, or declare others", "POST", "keys", n)

	o.settings.Store(declare(t, "billing.read"))
	k := do[admin.KeyView](o, "POST", "keys", n)
	if !slices.Equal(k.Scopes, []string{"billing.read"}) {
		t.Errorf("by default it has %q", k.Scopes)
	}
	if row := o.audits()[0]; !strings.Contains(row.Detail, `"scopes":["billing.read"]`) {
		t.Errorf("audit %s", row.Detail)
	}
	n.Scopes = []string{keys.ScopeConnect}
	if got := do[admin.KeyView](o, "POST", "keys", n); !slices.Equal(got.Scopes, n.Scopes) {
		t.Errorf("asked for %q, got %q", n.Scopes, got.Scopes)
	}
	if agent := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"}); len(agent.Scopes) != 0 {
		t.Errorf("an agent key got %q", agent.Scopes)
	}
	o.refused(admin.Invalid, "would have none", "PATCH", "keys/"+k.ID, map[string]any{"scopes": []string{}})
	if got := do[admin.KeyView](o, "GET", "keys/"+k.ID, nil); !slices.Equal(got.Scopes, k.Scopes) {
		t.Errorf("a refused change left %q", got.Scopes)
	}
}

// TestPersonalKeysExpire checks that a personal key expires after the lifetime in the
// settings unless the request sets another one, and that it always expires.
func TestPersonalKeysExpire(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	n := admin.NewKey{Account: "alice", Kind: "personal", Name: "ci", Scopes: []string{"billing.read"}}
	life := func(what string, k admin.KeyView, want time.Duration) {
		t.Helper()
		if k.ExpiresAt == nil || k.ExpiresAt.Sub(k.CreatedAt) != want {
			t.Errorf("%s: expires at %v, made at %v, want a life of %v", what, k.ExpiresAt, k.CreatedAt, want)
		}
	}
	life("by default", do[admin.KeyView](o, "POST", "keys", n), admin.DefaultPersonalLife)
	settings := declare(t)
	settings.PersonalLife = 36 * time.Hour
	o.settings.Store(settings)
	k := do[admin.KeyView](o, "POST", "keys", n)
	life("as the settings say", k, 36*time.Hour)
	n.ExpiresIn = "1h"
	life("as was asked", do[admin.KeyView](o, "POST", "keys", n), time.Hour)
	n.ExpiresIn = admin.Never
	o.refused(admin.Invalid, "always expires", "POST", "keys", n)
	o.refused(admin.Invalid, "always expires", "PATCH", "keys/"+k.ID, map[string]any{"expires_in": admin.Never})
	o.refused(admin.Invalid, "always expires", "POST", "keys/"+k.ID+"/rotate", admin.Rotation{ExpiresIn: admin.Never})
	if next := do[admin.KeyView](o, "POST", "keys/"+k.ID+"/rotate", admin.Rotation{}); next.ExpiresAt == nil || !next.ExpiresAt.Equal(*k.ExpiresAt) {
		t.Errorf("the successor ends at %v, the old key at %v", next.ExpiresAt, k.ExpiresAt)
	}
}
