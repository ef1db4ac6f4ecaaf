package ops

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
)

// newPeopleOffice returns an office that also serves the operations on people.
func newPeopleOffice(t *testing.T) (*office, *people.Service) {
	t.Helper()
	o := newOffice(t)
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	accounts := admin.New(o.store, o.revoked, o.settings.Load, now)
	s := people.New(peoplestore.New(o.store.Rows()), people.Options{Now: now, Accounts: accounts})
	m := NewAdminEndpoint(asTest{}, slog.New(slog.DiscardHandler))
	Register(m, Always(accounts), Store())
	Register(m, Always(s), OnPeople())
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	o.Client = &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
	return o, s
}

// TestPeople checks that an operator invites people, sees and changes them, ends their
// sessions and withdraws invitations. The link of an invitation is only in the response
// to its creation.
func TestPeople(t *testing.T) {
	o, s := newPeopleOffice(t)
	acme := o.account("acme")
	o.refused(admin.Invalid, "no console is configured", "POST", "invitations", NewInvitation{Operator: true})
	if list := do[admin.List[InvitationView]](o, "GET", "invitations", nil); len(list.Items) != 0 {
		t.Errorf("invitations %+v", list)
	}
	const address = "https://console.example.com"
	if err := s.Configure(people.Settings{Origin: address, Link: func(secret string) string { return address + "/#" + secret }}); err != nil {
		t.Fatal(err)
	}
	o.refused(admin.Invalid, `"soon" is not a time`, "POST", "invitations", NewInvitation{Operator: true, Life: "soon"})
	o.refused(admin.NotFound, "no person", "POST", "invitations", NewInvitation{Person: "a@example.com"})
	i := do[InvitationView](o, "POST", "invitations", NewInvitation{Account: "acme", Role: "owner", Life: "1d"})
	if i.Account != acme.ID || i.By != "test" || i.ExpiresAt.Sub(i.CreatedAt) != 24*time.Hour {
		t.Errorf("the invitation is %+v", i)
	}
	link := i.Link
	i.Link = ""
	if list := do[admin.List[InvitationView]](o, "GET", "invitations?account=acme", nil); !slices.Equal(list.Items, []InvitationView{i}) {
		t.Errorf("invitations %+v", list)
	}
	_, secret, _ := strings.Cut(link, "#")
	client := people.Client{Address: netip.MustParseAddr("192.0.2.1"), Agent: "Browser/1"}
	in, token, err := s.AcceptWithPassword(t.Context(), client, secret, people.Profile{Email: "a@example.com"}, "violet-anchor-37")
	if err != nil {
		t.Fatal(err)
	}
	p := do[PersonView](o, "GET", "persons/a@example.com", nil)
	if p.ID != in.Person.ID || p.State != "active" || !slices.Equal(p.SignsInBy, []string{"password"}) || !slices.Equal(p.Accounts, []MembershipView{{acme.ID, "acme", "owner"}}) {
		t.Errorf("the person is %+v", p)
	}
	sessions := do[admin.List[SessionView]](o, "GET", "persons/"+p.ID+"/sessions", nil).Items
	if len(sessions) != 1 || sessions[0].ID != in.Session.ID || sessions[0].Address != "192.0.2.1" {
		t.Fatalf("sessions %+v", sessions)
	}
	if _, err := o.Do(t.Context(), "DELETE", "sessions/"+sessions[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), client, token); !errors.Is(err, people.ErrSession) {
		t.Errorf("the session lives: %v", err)
	}
	p = do[PersonView](o, "PATCH", "persons/"+p.ID, map[string]any{"operator": true, "accounts": []MembershipChange{}})
	if !p.Operator || len(p.Accounts) != 0 {
		t.Errorf("the person is %+v", p)
	}
	o.refused(admin.Invalid, "neither owner nor viewer", "PATCH", "persons/"+p.ID, map[string]any{"accounts": []MembershipChange{{"acme", "boss"}}})
	if p = do[PersonView](o, "POST", "persons/"+p.ID+"/disable", nil); p.State != "disabled" {
		t.Errorf("the person is %+v", p)
	}
	if p = do[PersonView](o, "POST", "persons/"+p.ID+"/enable", nil); p.State != "active" {
		t.Errorf("the person is %+v", p)
	}
	recovery := do[InvitationView](o, "POST", "invitations", NewInvitation{Person: "a@example.com"})
	if recovery.Person != p.ID {
		t.Errorf("the invitation is %+v", recovery)
	}
	do[InvitationView](o, "DELETE", "invitations/"+recovery.ID, nil)
	o.refused(admin.NotFound, "no invitation", "DELETE", "invitations/"+recovery.ID, nil)
	if list := do[admin.List[PersonView]](o, "GET", "persons?limit=1", nil); len(list.Items) != 1 || list.Next != "" {
		t.Errorf("persons %+v", list)
	}
	do[PersonView](o, "DELETE", "persons/a@example.com", nil)
	o.refused(admin.NotFound, "no person", "GET", "persons/a@example.com", nil)
}

// TestNoKeyManagesPeople checks that every operation on people needs the right
// ManagePeople, and that no kind of key has this right. So the API, which serves keys,
// does not offer these operations.
func TestNoKeyManagesPeople(t *testing.T) {
	if kinds := identity.KindsWith(identity.ManagePeople); len(kinds) > 0 {
		t.Errorf("kinds %v", kinds)
	}
	for _, name := range keys.Kinds() {
		kind, err := keys.ParseKind(name)
		if err != nil || identity.RightsOf(&keys.Key{Kind: kind}).Has(identity.ManagePeople) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if served := ForKeys(OnPeople()); len(served) > 0 {
		t.Errorf("the API has %+v", Describe(served))
	}
	everything := identity.Operator &^ identity.ManagePeople
	m := NewAdminEndpoint(identity.As{Subject: "somebody", Rights: everything}, slog.New(slog.DiscardHandler))
	Register(m, func() (*people.Service, func(), error) { t.Error("opened"); return nil, nil, context.Canceled }, OnPeople())
	for _, o := range Describe(OnPeople()) {
		r := httptest.NewRequest(o.Method, AdminBase+strings.NewReplacer("{ref}", "x", "{id}", "x").Replace(o.Path), nil)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != 403 || !strings.Contains(w.Body.String(), "the operator alone") {
			t.Errorf("%s: %d %s", o.ID, w.Code, w.Body)
		}
	}
}
