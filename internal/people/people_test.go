package people_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// TestFirstOperator checks that one person becomes an operator by the link that a
// command makes, and that the link works once.
func TestFirstOperator(t *testing.T) {
	w := newWorld(t, people.Settings{})
	i, secret, err := w.Invite(t.Context(), operator, people.NewInvitation{Operator: true})
	w.ok(err)
	w.secret(secret)
	if life := i.ExpiresAt.Sub(i.CreatedAt); life != people.DefaultInvitationLife {
		t.Errorf("the link lives for %s", life)
	}
	if link, ok := w.Link(secret); !ok || link != origin+"/invitation#"+secret {
		t.Errorf("the link is %q, %v", link, ok)
	}
	found, err := w.Invitation(t.Context(), secret)
	w.ok(err)
	if found != i {
		t.Errorf("found %+v, want %+v", found, i)
	}
	in, token, err := w.AcceptWithPassword(t.Context(), client(1), secret, people.Profile{Email: " Zoe@Example.com ", Name: "Zoë"}, good)
	w.ok(err)
	now := w.signedIn(token)
	if p := now.Person; p.ID != in.Person.ID || p.Email != "zoe@example.com" || !p.Operator || !p.HasPassword || p.LastSignIn.IsZero() || p.Rights() != identity.Operator {
		t.Errorf("the person is %+v", p)
	}
	_, err = w.Invitation(t.Context(), secret)
	w.want(err, people.ErrInvitation)
	_, _, err = w.AcceptWithPassword(t.Context(), client(1), secret, people.Profile{Email: "b@example.com"}, good)
	w.want(err, people.ErrInvitation)
	if got := w.actions(in.Person.ID); !slices.Equal(got, []string{"person.create", "person.signin"}) {
		t.Errorf("audited %q", got)
	}
	w.secret(token)
}

// TestInvitationOnce checks that if many clients accept one invitation at the same
// time, exactly one person is created.
func TestInvitationOnce(t *testing.T) {
	w := newWorld(t, people.Settings{})
	secret := w.invite(people.NewInvitation{Operator: true})
	other := w.node(people.Settings{})
	var running sync.WaitGroup
	results := make(chan error, 20)
	for n := range cap(results) {
		service := []*people.Service{w.Service, other}[n%2]
		running.Go(func() {
			_, _, err := service.AcceptWithPassword(t.Context(), client(n), secret, people.Profile{Email: string(rune('a'+n)) + "@example.com"}, good)
			results <- err
		})
	}
	running.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else if !errors.Is(err, people.ErrInvitation) {
			t.Errorf("unexpected error: %v", err)
		}
	}
	list, _, err := w.Persons(t.Context(), people.PersonQuery{})
	w.ok(err)
	if won != 1 || len(list) != 1 {
		t.Errorf("%d have accepted, %d persons exist", won, len(list))
	}
}

// TestInvitationRefused checks that an invitation cannot be accepted after it has
// expired or was withdrawn, that a person gets the address that the invitation names,
// and that malformed invitations cannot be made.
func TestInvitationRefused(t *testing.T) {
	w := newWorld(t, people.Settings{InvitationLife: time.Hour})
	account := w.account("acme")
	ctx := t.Context()
	for _, n := range []people.NewInvitation{
		{}, {Account: "acme", Operator: true}, {Operator: true, Role: people.Owner}, {Account: "acme", Role: "admin"},
		{Account: "acme", Life: time.Second}, {Account: "acme", Life: 31 * 24 * time.Hour}, {Account: "acme", Life: -time.Hour},
		{Account: "acme", Email: "nobody"}, {Person: "psn_1", Email: "a@example.com"},
	} {
		_, _, err := w.Invite(ctx, operator, n)
		w.refused(err, admin.Invalid)
	}
	for _, n := range []people.NewInvitation{{Account: "nobody"}, {Person: "psn_1"}} {
		_, _, err := w.Invite(ctx, operator, n)
		w.refused(err, admin.NotFound)
	}
	expired := w.invite(people.NewInvitation{Account: "acme"})
	w.advance(time.Hour)
	bound := w.invite(people.NewInvitation{Account: account, Role: people.Owner, Email: "A@example.com"})
	i, withdrawn, err := w.Invite(ctx, operator, people.NewInvitation{Account: account})
	w.ok(err)
	_, err = w.Withdraw(ctx, operator, "acct_other", i.ID)
	w.refused(err, admin.NotFound)
	_, err = w.Withdraw(ctx, operator, account, i.ID)
	w.ok(err)
	for _, secret := range []string{expired, withdrawn, "", "fbi_", "fbi_" + strings.Repeat("A", 43), strings.Repeat("x", 1000)} {
		_, err := w.Invitation(ctx, secret)
		w.want(err, people.ErrInvitation)
		_, _, err = w.AcceptWithPassword(ctx, client(1), secret, people.Profile{Email: "x@example.com"}, good)
		w.want(err, people.ErrInvitation)
	}
	list, _, err := w.Invitations(ctx, people.InvitationQuery{Account: "acme"})
	w.ok(err)
	if len(list) != 1 || list[0].Email != "a@example.com" {
		t.Errorf("invitations %+v", list)
	}
	in, _, err := w.AcceptWithPassword(ctx, client(1), bound, people.Profile{Email: "mallory@example.com"}, good)
	w.ok(err)
	if in.Person.Email != "a@example.com" || in.Person.Role(account) != people.Owner {
		t.Errorf("the person is %+v", in.Person)
	}
	_, err = w.Withdraw(ctx, operator, "", list[0].ID)
	w.refused(err, admin.Conflict)
}

// TestAcceptSignedIn checks that a person that is signed in gets a membership by a
// link. A link for another address or for a recovery is refused, and no link takes
// rights away.
func TestAcceptSignedIn(t *testing.T) {
	w := newWorld(t, people.Settings{})
	acme, beta := w.account("acme"), w.account("beta")
	in, token := w.member(people.NewInvitation{Account: acme, Role: people.Owner}, "a@example.com")
	_, _, err := w.AcceptWithPassword(t.Context(), client(1), w.invite(people.NewInvitation{Account: beta}), people.Profile{Email: "a@example.com"}, good)
	w.want(err, people.ErrEmailTaken)
	for _, n := range []people.NewInvitation{{Account: acme}, {Account: beta, Email: "a@example.com"}} {
		_, err := w.Accept(t.Context(), in, w.invite(n))
		w.ok(err)
	}
	for _, n := range []people.NewInvitation{{Operator: true, Email: "b@example.com"}, {Person: in.Person.ID}} {
		_, err := w.Accept(t.Context(), in, w.invite(n))
		w.want(err, people.ErrInvitation)
	}
	p := w.signedIn(token).Person
	if p.Operator || p.Role(acme) != people.Owner || p.Role(beta) != people.Viewer || p.Rights() != 0 {
		t.Errorf("the person is %+v", p)
	}
	w.ok(w.SignOut(t.Context(), client(1), token))
	_, err = w.Accept(t.Context(), in, w.invite(people.NewInvitation{Operator: true}))
	w.want(err, people.ErrSession)
}

// TestRecovery checks that a recovery link removes the person's password, passkeys and
// sessions, keeps the rights, and makes the person's other recovery links unusable.
func TestRecovery(t *testing.T) {
	w := newWorld(t, people.Settings{})
	account := w.account("acme")
	in, token := w.member(people.NewInvitation{Account: account, Role: people.Owner}, "a@example.com")
	a := newAuthenticator(w)
	a.add(in)
	secret := w.invite(people.NewInvitation{Person: in.Person.ID})
	again, fresh, err := w.AcceptWithPassword(t.Context(), client(1), secret, people.Profile{Email: "other@example.com", Name: "x"}, better)
	w.ok(err)
	if p := again.Person; p.ID != in.Person.ID || p.Email != "a@example.com" || p.Name != "Zoë" || len(p.Passkeys) != 0 || p.Role(account) != people.Owner {
		t.Errorf("the person is %+v", p)
	}
	w.ended(token)
	w.signedIn(fresh)
	_, _, err = w.SignIn(t.Context(), client(1), "a@example.com", good)
	w.want(err, people.ErrCredentials)
	_, _, err = a.signIn()
	w.want(err, people.ErrPasskey)
	_, _, err = w.SignIn(t.Context(), client(1), "a@example.com", better)
	w.ok(err)

	former, latter := w.invite(people.NewInvitation{Person: in.Person.ID}), w.invite(people.NewInvitation{Person: in.Person.ID})
	_, _, err = w.AcceptWithPassword(t.Context(), client(1), latter, people.Profile{}, good)
	w.ok(err)
	_, _, err = w.AcceptWithPassword(t.Context(), client(1), former, people.Profile{}, better)
	w.want(err, people.ErrInvitation) // a thief may have the former link

	unused := w.invite(people.NewInvitation{Person: in.Person.ID})
	_, err = w.Disable(t.Context(), operator, in.Person.ID)
	w.ok(err)
	_, err = w.Invitation(t.Context(), unused)
	w.want(err, people.ErrInvitation)
}

// TestManage checks that an operator finds, changes, disables, enables and removes a
// person. A loss of rights makes the unused invitations that the person sent unusable.
func TestManage(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	acme, beta := w.account("acme"), w.account("beta")
	in, token := w.member(people.NewInvitation{Account: acme, Role: people.Owner}, "a@example.com")
	other, _ := w.member(people.NewInvitation{Account: beta}, "b@example.com")
	self := admin.Actor{Name: in.Person.ID}
	_, secret, err := w.Invite(ctx, self, people.NewInvitation{Account: acme})
	w.ok(err)

	name, email, accounts := "Zoë Q", "C@example.com", []people.Membership{{Account: "beta", Role: people.Owner}, {Account: "acme", Role: people.Viewer}}
	p, err := w.Update(ctx, operator, "A@example.com", people.PersonChange{Name: &name, Email: &email, Accounts: &accounts})
	w.ok(err)
	if p.Name != name || p.Email != "c@example.com" || p.Role(acme) != people.Viewer || p.Role(beta) != people.Owner {
		t.Errorf("the person is %+v", p)
	}
	if now := w.signedIn(token).Person; now.Role(acme) != people.Viewer {
		t.Errorf("the session has the role %s", now.Role(acme))
	}
	_, err = w.Invitation(ctx, secret)
	w.want(err, people.ErrInvitation)
	taken, twice, bad := "b@example.com", []people.Membership{{Account: acme, Role: people.Owner}, {Account: "acme", Role: people.Viewer}}, []people.Membership{{Account: acme, Role: "x"}}
	evil := "a\u202eb"
	for code, c := range map[admin.Code]people.PersonChange{admin.Exists: {Email: &taken}, admin.Invalid: {Accounts: &twice}} {
		_, err := w.Update(ctx, operator, p.ID, c)
		w.refused(err, code)
	}
	for _, c := range []people.PersonChange{{Accounts: &bad}, {Name: &evil}, {Email: &evil}} {
		_, err := w.Update(ctx, operator, p.ID, c)
		w.refused(err, admin.Invalid)
	}
	p, err = w.Disable(ctx, operator, p.ID)
	w.ok(err)
	if p.DisabledAt.IsZero() || p.Rights() != 0 {
		t.Errorf("the person is %+v", p)
	}
	w.ended(token)
	_, _, err = w.SignIn(ctx, client(1), "c@example.com", good)
	w.want(err, people.ErrCredentials)
	_, err = w.Enable(ctx, operator, p.ID)
	w.ok(err)
	w.ended(token) // enabling a person does not restore its sessions
	_, token, err = w.SignIn(ctx, client(1), "c@example.com", good)
	w.ok(err)
	members, next, err := w.Persons(ctx, people.PersonQuery{Account: "beta", Page: ledger.Page{Limit: 1}})
	w.ok(err)
	if len(members) != 1 || next == "" {
		t.Errorf("%d members, and the cursor %q", len(members), next)
	}
	_, err = w.Remove(ctx, operator, "c@example.com")
	w.ok(err)
	w.ended(token)
	_, err = w.Person(ctx, p.ID)
	w.refused(err, admin.NotFound)
	_, err = w.Person(ctx, other.Person.Email)
	w.ok(err)
	want := []string{"person.create", "person.signin", "person.update", "person.disable", "person.enable", "person.signin", "person.remove"}
	if got := w.actions(p.ID); !slices.Equal(got, want) {
		t.Errorf("audited %q, want %q", got, want)
	}
}

// TestRightsOfActors checks that a person must still have the right to an operation
// when it is performed. An owner may invite to its account and withdraw such
// invitations. Only an operator may make operators, recover persons, and change or
// remove other persons.
func TestRightsOfActors(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	acme, beta := w.account("acme"), w.account("beta")
	boss, _ := w.operatorPerson("boss@example.com")
	owner, _ := w.member(people.NewInvitation{Account: acme, Role: people.Owner}, "owner@example.com")
	viewer, _ := w.member(people.NewInvitation{Account: acme}, "viewer@example.com")
	actor := func(in people.SignedIn) admin.Actor { return admin.Actor{Name: in.Person.ID} }
	invite := func(by people.SignedIn, n people.NewInvitation) (string, error) {
		i, _, err := w.Invite(ctx, actor(by), n)
		return i.ID, err
	}
	name, yes, all := "New", true, []people.Membership{{Account: beta, Role: people.Owner}}
	for _, by := range []people.SignedIn{owner, viewer, {Person: people.Person{ID: "psn_removed"}}} {
		for _, n := range []people.NewInvitation{{Operator: true}, {Account: beta}, {Person: boss.Person.ID}} {
			_, err := invite(by, n)
			w.refused(err, admin.Forbidden)
		}
		for _, c := range []people.PersonChange{{Operator: &yes}, {Accounts: &all}} {
			_, err := w.Update(ctx, actor(by), owner.Person.ID, c)
			w.refused(err, admin.Forbidden)
		}
		_, err := w.Update(ctx, actor(by), boss.Person.ID, people.PersonChange{Name: &name})
		w.refused(err, admin.Forbidden)
		_, err = w.Disable(ctx, actor(by), boss.Person.ID)
		w.refused(err, admin.Forbidden)
		_, err = w.Enable(ctx, actor(by), boss.Person.ID)
		w.refused(err, admin.Forbidden)
		_, err = w.Remove(ctx, actor(by), boss.Person.ID)
		w.refused(err, admin.Forbidden)
		w.refused(w.EndSession(ctx, actor(by), "", boss.Session.ID), admin.Forbidden)
		_, err = w.EndSessions(ctx, actor(by), boss.Person.ID, "")
		w.refused(err, admin.Forbidden)
	}
	_, err := invite(viewer, people.NewInvitation{Account: acme})
	w.refused(err, admin.Forbidden)
	id, err := invite(owner, people.NewInvitation{Account: acme, Role: people.Owner})
	w.ok(err)
	_, err = w.Withdraw(ctx, actor(viewer), acme, id)
	w.refused(err, admin.Forbidden)
	_, err = w.Withdraw(ctx, actor(owner), acme, id)
	w.ok(err)
	_, err = w.Update(ctx, actor(viewer), viewer.Person.ID, people.PersonChange{Name: &name})
	w.ok(err)
	w.ok(w.EndSession(ctx, actor(viewer), "", viewer.Session.ID))
	_, err = invite(boss, people.NewInvitation{Operator: true})
	w.ok(err)
	_, err = w.Update(ctx, actor(boss), owner.Person.ID, people.PersonChange{Operator: &yes})
	w.ok(err)
	_, err = w.Disable(ctx, actor(owner), boss.Person.ID)
	w.ok(err)
	_, err = invite(boss, people.NewInvitation{Operator: true})
	w.refused(err, admin.Forbidden)
}

// TestRegister checks that a person with the code and an address of an allowed domain
// gets one account with the starting credit, even if the process stops after it has
// created the account and before it has created the person.
func TestRegister(t *testing.T) {
	const code = "a code of the operator"
	settings := people.Settings{Registration: &people.Registration{Code: code, Domains: []string{"example.com"}, Credit: 500_000}}
	w := newWorld(t, settings)
	ctx := t.Context()
	w.secret(code)
	if w.Settings().Registration.Code != "" || !w.RegistersByCode() {
		t.Error("the settings show the code, or registration is closed")
	}
	_, _, err := w.Register(ctx, client(1), "wrong", "a@example.com")
	w.want(err, people.ErrRegistration)
	_, _, err = w.Register(ctx, client(1), code, "a@example.org")
	w.want(err, people.ErrRegistration)
	i, secret, err := w.Register(ctx, client(1), code, "a@example.com")
	w.ok(err)
	w.account("a@example.com") // the name is taken now, so the new account must get another name
	if _, err := w.admin.OpenAccount(ctx, operator, i.Account, "a@example.com", 500_000); err != nil {
		t.Fatal(err) // the state after a crash
	}
	in, _, err := w.AcceptWithPassword(ctx, client(1), w.secret(secret), people.Profile{}, good)
	w.ok(err)
	if in.Person.Email != "a@example.com" || in.Person.Role(i.Account) != people.Owner || len(in.Person.Accounts) != 1 {
		t.Errorf("the person is %+v", in.Person)
	}
	account, err := w.admin.Account(ctx, i.Account)
	w.ok(err)
	if account.Live.Posted != 500_000 || account.Name == "a@example.com" {
		t.Errorf("the account is %+v", account)
	}
	_, _, err = w.Register(ctx, client(1), code, "a@example.com")
	w.want(err, people.ErrEmailTaken)

	_, late, err := w.Register(ctx, client(1), code, "b@example.com")
	w.ok(err)
	w.ok(w.Configure(people.Settings{Origin: origin}))
	_, _, err = w.AcceptWithPassword(ctx, client(1), late, people.Profile{}, good)
	w.want(err, people.ErrRegistration) // registration was closed meanwhile
	_, _, err = w.Register(ctx, client(1), "", "c@example.com")
	w.want(err, people.ErrRegistration)
	if err := w.Configure(people.Settings{Origin: origin, Registration: new(people.Registration)}); err == nil {
		t.Error("registration without a proof was accepted")
	}
}

// TestConfigure checks that a malformed origin or life is refused, and that the
// settings stay unchanged then.
func TestConfigure(t *testing.T) {
	w := newWorld(t, people.Settings{SessionIdle: time.Hour})
	for _, s := range []people.Settings{
		{Origin: "http://console.example.com"}, {Origin: origin + "/"}, {Origin: "console.example.com"}, {Origin: "https://user@console.example.com"}, {Origin: "https://Console.example.com"}, {Origin: origin + ":443"},
		{SessionIdle: time.Second}, {SessionIdle: 2 * time.Hour, SessionLife: time.Hour}, {InvitationLife: 1000 * time.Hour},
		{Origin: origin, Registration: &people.Registration{Code: "short"}},
	} {
		if err := w.Configure(s); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	if got := w.Settings(); got.SessionIdle != time.Hour || got.Origin != origin {
		t.Errorf("the settings are %+v", got)
	}
	w.ok(w.Configure(people.Settings{Origin: "http://localhost:8080"}))
	if !w.HasPasskeys() {
		t.Error("no passkeys at localhost")
	}
	w.ok(w.Configure(people.Settings{Origin: "https://192.0.2.1:8443"}))
	_, _, err := w.BeginSignIn(t.Context(), client(1))
	w.want(err, people.ErrNoPasskeys)
}

// TestStoreDown checks that while the store is closed, no request is authenticated, and
// the error says that the store is unavailable.
func TestStoreDown(t *testing.T) {
	w := newWorld(t, people.Settings{})
	_, token := w.operatorPerson("a@example.com")
	w.ok(w.store.Close())
	_, err := w.Authenticate(context.WithoutCancel(t.Context()), client(1), token)
	w.want(err, ledger.ErrUnavailable)
	_, _, err = w.SignIn(t.Context(), client(1), "a@example.com", good)
	w.want(err, ledger.ErrUnavailable)
}
