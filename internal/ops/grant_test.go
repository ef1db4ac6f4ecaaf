package ops

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
)

// newGrantOffice returns an office that also serves the operations on grants.
func newGrantOffice(t *testing.T) (*office, *oauth.Service) {
	t.Helper()
	o := newOffice(t)
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	accounts := admin.New(o.store, o.revoked, o.settings.Load, now)
	s := oauth.New(oauthstore.New(o.store.Rows()), oauth.Options{
		Now: now, Keys: accounts, Secrets: func() *keys.Format { return &keys.DefaultFormat }, Catalogue: func() *keys.Catalogue { return o.settings.Load().Scopes },
	})
	accounts.WithGrants(s)
	m := NewAdminEndpoint(asTest{}, slog.New(slog.DiscardHandler))
	Register(m, Always(accounts), Store())
	Register(m, Always(&Grants{OAuth: s, Accounts: accounts}), OnGrants())
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	o.Client = &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
	return o, s
}

// TestGrantOperations checks that grants are listed by account, client, server and key,
// with the last use of their tokens, and that a revoked grant is only in the list of all
// and has no live token.
func TestGrantOperations(t *testing.T) {
	o, s := newGrantOffice(t)
	ctx := t.Context()
	if list := do[admin.List[GrantView]](o, "GET", "grants", nil); len(list.Items) != 0 {
		t.Errorf("grants %+v", list)
	}
	alice, bob := o.account("alice"), o.account("bob")
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Scopes: []string{"billing.read"}, Caps: &admin.Caps{Day: new(ledger.Amount(ledger.Unit))}})
	approve := func(c oauth.Consent) oauth.Grant {
		t.Helper()
		g, err := s.Approve(ctx, admin.Actor{Name: "test"}, c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	byKey := approve(oauth.Consent{Client: "https://app.example:8443/id", ClientName: "App", Host: "back.example", Server: "weather", Scopes: []string{"billing.read"}, Key: k.ID})
	byPerson := approve(oauth.Consent{Client: "registered", Server: "mail", Person: "psn_1", Account: bob.ID, Environment: keys.Test, ExpiresAt: clock.Now().UTC().Add(time.Hour).Truncate(time.Microsecond)})

	want := GrantView{
		ID: byKey.ID, State: "live", Account: alice.ID, AccountName: "alice", Environment: "live", Server: "weather", Client: "https://app.example:8443/id", ClientName: "App",
		ClientHost: "app.example:8443", RedirectHost: "back.example", Key: k.ID, CreatedAt: byKey.CreatedAt,
	}
	got := do[GrantView](o, "GET", "grants/"+byKey.ID, nil)
	if got.Caps == nil || got.Caps.Day == nil || *got.Caps.Day != ledger.Unit || !slices.Equal(got.Scopes, []string{"billing.read"}) || !slices.Equal(got.Allows, got.Scopes) || got.LastUsedAt != nil {
		t.Errorf("the grant is %+v", got)
	}
	got.Caps, got.Scopes, got.Allows = nil, nil, nil
	if text, expected := jsonOf(t, got), jsonOf(t, want); text != expected {
		t.Errorf("the grant is %s, want %s", text, expected)
	}
	if got := do[GrantView](o, "GET", "grants/"+byPerson.ID, nil); got.Person != "psn_1" || got.Key != "" || got.ClientHost != "" || got.ExpiresAt == nil || got.Environment != "test" {
		t.Errorf("the grant of a person is %+v", got)
	}

	for query, ids := range map[string][]string{
		"": {byPerson.ID, byKey.ID}, "?account=alice": {byKey.ID}, "?account=" + bob.ID: {byPerson.ID}, "?client=registered": {byPerson.ID}, "?server=weather": {byKey.ID},
		"?key=" + k.ID: {byKey.ID}, "?account=alice&server=mail": nil, "?key=key_other": nil, "?limit=1": {byPerson.ID},
	} {
		list := do[admin.List[GrantView]](o, "GET", "grants"+query, nil)
		if got := idsOf(list.Items); !slices.Equal(got, ids) {
			t.Errorf("grants%s: %q, want %q", query, got, ids)
		}
		if query == "?limit=1" {
			if next := do[admin.List[GrantView]](o, "GET", "grants?limit=1&after="+list.Next, nil); !slices.Equal(idsOf(next.Items), []string{byKey.ID}) || next.Next != "" {
				t.Errorf("the second page is %+v", next)
			}
		}
	}
	o.refused(admin.NotFound, `no account "nobody"`, "GET", "grants?account=nobody", nil)
	o.refused(admin.NotFound, "there is no grant grant_1", "GET", "grants/grant_1", nil)
	o.refused(admin.NotFound, "there is no grant grant_1", "DELETE", "grants/grant_1", nil)

	client := oauth.Client{ID: byKey.Client, Server: "weather", Actor: admin.Actor{Name: "client"}}
	tokens, err := s.IssueFor(ctx, client, byKey.ID, nil, oauth.Lives{Access: time.Hour, Refresh: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	token, err := o.store.KeyByDigest(ctx, keys.DigestOf(tokens.Access))
	if err != nil {
		t.Fatal(err)
	}
	used := clock.Now().UTC().Truncate(time.Second)
	if err := o.store.TouchKeys(ctx, map[string]time.Time{token.ID: used}); err != nil {
		t.Fatal(err)
	}
	if got := do[GrantView](o, "GET", "grants/"+byKey.ID, nil); got.LastUsedAt == nil || !got.LastUsedAt.Equal(used) {
		t.Errorf("last used %v, want %v", got.LastUsedAt, used)
	}

	for range 2 {
		if got := do[GrantView](o, "DELETE", "grants/"+byKey.ID, nil); got.State != "revoked" || got.RevokedAt == nil || got.Reason != "revoked by test" {
			t.Errorf("the revoked grant is %+v", got)
		}
	}
	if token, err = o.store.KeyByDigest(ctx, keys.DigestOf(tokens.Access)); err == nil && token.DeletedAt.IsZero() {
		t.Error("a token of the revoked grant lives on")
	}
	if list := do[admin.List[GrantView]](o, "GET", "grants", nil); !slices.Equal(idsOf(list.Items), []string{byPerson.ID}) {
		t.Errorf("live grants %+v", list.Items)
	}
	if list := do[admin.List[GrantView]](o, "GET", "grants?all=true", nil); !slices.Equal(idsOf(list.Items), []string{byPerson.ID, byKey.ID}) {
		t.Errorf("all grants %+v", list.Items)
	}
	rows := do[admin.List[admin.AuditView]](o, "GET", "audit?action=grant.revoke&target="+byKey.ID, nil)
	if len(rows.Items) != 1 || rows.Items[0].Actor != "test" {
		t.Errorf("the audit log has %+v", rows.Items)
	}
}

func idsOf(list []GrantView) (ids []string) {
	for i := range list {
		ids = append(ids, list[i].ID)
	}
	return ids
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
