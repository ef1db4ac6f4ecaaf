package engine

import (
	"log/slog"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/people"
)

// unmanaged hides all methods of a store that are not in the interface Store. The
// store of a platform's gateway has only these methods.
type unmanaged struct{ Store }

// TestPeople checks that a runtime with a store of its own has people, and applies the
// settings of the newest valid config to them. A platform's gateway has no people, and
// ignores such settings.
func TestPeople(t *testing.T) {
	r, store := open(t, t.TempDir())
	s := r.People()
	if s == nil {
		t.Fatal("there are no people")
	}
	ctx := t.Context()
	if _, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	_, secret, err := s.Invite(ctx, admin.Actor{Name: "offline"}, people.NewInvitation{Account: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Link(secret); ok {
		t.Error("there is a link without a console")
	}
	const origin = "https://console.example.com"
	if err := r.ConfigurePeople(people.Settings{Origin: origin, Link: func(string) string { return origin }}); err != nil {
		t.Fatal(err)
	}
	if link, ok := s.Link(secret); !ok || link != origin || !s.HasPasskeys() {
		t.Errorf("the link is %q, %v", link, ok)
	}
	if err := r.ConfigurePeople(people.Settings{Origin: "nonsense"}); err == nil || s.Settings().Origin != origin {
		t.Errorf("malformed settings: %v, %+v", err, s.Settings())
	}
	if NewPeople(unmanaged{store}, r.Service(), nil, slog.New(slog.DiscardHandler)) != nil || (&Runtime{}).ConfigurePeople(people.Settings{Origin: "nonsense"}) != nil {
		t.Error("a gateway of a platform has people")
	}
	if err := r.Destruct(); err != nil {
		t.Error(err)
	}
}

// TestGrantsOfPersons checks that the grants of a person end when the person is disabled
// or removed, or loses the role of an owner or the rights of an operator. Grants at the
// expense of accounts that the person still owns stay. A person without the right cannot
// give a grant. A sweep ends grants that outlived the right because the process was killed.
func TestGrantsOfPersons(t *testing.T) {
	r, _ := open(t, t.TempDir())
	ctx, by := t.Context(), admin.Actor{Name: "offline"}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	accounts := make(map[string]string)
	for _, name := range []string{"acme", "other"} {
		a, err := r.Service().CreateAccount(ctx, by, admin.NewAccount{Name: name})
		check(err)
		accounts[name] = a.ID
	}
	join := func(email string, n people.NewInvitation) people.Person {
		t.Helper()
		_, secret, err := r.People().Invite(ctx, by, n)
		check(err)
		in, _, err := r.People().AcceptWithPassword(ctx, people.Client{}, secret, people.Profile{Email: email}, "violet-anchor-37")
		check(err)
		return in.Person
	}
	approve := func(p *people.Person, account string) (oauth.Grant, error) {
		return r.OAuth().Approve(ctx, admin.Actor{Name: p.ID}, oauth.Consent{Client: "app", Server: "weather", Person: p.ID, Account: accounts[account], Environment: keys.Live})
	}
	give := func(p *people.Person, account string) oauth.Grant {
		t.Helper()
		g, err := approve(p, account)
		check(err)
		return g
	}
	live := func(g oauth.Grant, want bool, when string) {
		t.Helper()
		now, err := r.OAuth().Grant(ctx, g.ID)
		check(err)
		if got := now.Live(r.OAuth().Now()); got != want {
			t.Errorf("%s: live %t, want %t", when, got, want)
		}
	}
	owner := join("owner@example.com", people.NewInvitation{Account: "acme", Role: people.Owner})
	operator := join("operator@example.com", people.NewInvitation{Operator: true})
	viewer := join("viewer@example.com", people.NewInvitation{Account: "acme", Role: people.Viewer})
	for name, p := range map[string]*people.Person{"a viewer": &viewer, "an owner of another account": &owner, "a person that does not exist": {ID: "psn_none"}} {
		account := "acme"
		if p == &owner {
			account = "other"
		}
		if g, err := approve(p, account); oauth.CodeOf(err) != oauth.InvalidGrant {
			t.Errorf("%s gave the grant %+v, %v", name, g, err)
		}
	}

	all := func(roles ...people.Membership) *[]people.Membership { return &roles }
	update := func(p *people.Person, c people.PersonChange) {
		t.Helper()
		_, err := r.People().Update(ctx, by, p.ID, c)
		check(err)
	}
	update(&owner, people.PersonChange{Accounts: all(people.Membership{Account: "acme", Role: people.Owner}, people.Membership{Account: "other", Role: people.Owner})})
	first, second := give(&owner, "acme"), give(&owner, "other")
	update(&owner, people.PersonChange{Name: new("Olga")})
	live(second, true, "after a change of the name")
	update(&owner, people.PersonChange{Accounts: all(people.Membership{Account: "acme", Role: people.Owner}, people.Membership{Account: "other", Role: people.Viewer})})
	live(first, true, "for an account that the person still owns")
	live(second, false, "for an account that the person does not own any more")

	update(&operator, people.PersonChange{Accounts: all(people.Membership{Account: "acme", Role: people.Owner})})
	ours, foreign := give(&operator, "acme"), give(&operator, "other")
	live(foreign, true, "of an operator")
	update(&operator, people.PersonChange{Operator: new(false)})
	live(ours, true, "of a former operator that owns the account")
	live(foreign, false, "of a former operator")
	_, err := r.People().Remove(ctx, by, operator.ID)
	check(err)
	live(ours, false, "of a removed person")

	_, err = r.People().Disable(ctx, by, owner.ID)
	check(err)
	live(first, false, "of a disabled person")
	if g, err := approve(&owner, "acme"); oauth.CodeOf(err) != oauth.InvalidGrant {
		t.Errorf("a disabled person gave the grant %+v, %v", g, err)
	}
	_, err = r.People().Enable(ctx, by, owner.ID)
	check(err)
	third := give(&owner, "acme")
	r.People().WithGrants(nil) // as if the process were killed between the two changes
	_, err = r.People().Disable(ctx, by, owner.ID)
	check(err)
	live(third, true, "before the sweep")
	check(r.OAuth().Sweep(ctx))
	live(third, false, "after the sweep")
	check(r.Destruct())
}
