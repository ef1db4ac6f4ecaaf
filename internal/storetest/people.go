package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// withRows is a store that keeps rows of other packages, such as people. The store of a
// platform's gateway keeps no such rows.
type withRows interface{ Rows() sqltx.Database }

func runPeople(t *testing.T, open func(t *testing.T) Harness) {
	if _, ok := open(t).Store.(withRows); !ok {
		t.Skip("the store keeps no people")
	}
	each(t, open,
		named{"a person is found by id, e-mail address and provider", personFound},
		named{"an e-mail address belongs to one person", emailOnce},
		named{"a change of a person replaces its memberships", personUpdated},
		named{"a deleted person leaves nothing behind", personDeleted},
		named{"persons are listed in pages, all or those of an account", personPages},
		named{"a session is found with its person until it is deleted", sessionFound},
		named{"all sessions of a person but one can be deleted", sessionsDeleted},
		named{"an invitation is listed until it is used, withdrawn or expired", invitationListed},
		named{"a passkey has an id that no other one has", passkeyOnce},
		named{"a ceremony is taken once", ceremonyOnce},
		named{"a change that fails changes nothing", changeFails},
		named{"a change without its audit row is not made", changeNotAudited},
		named{"changes run one after the other", changesInOrder},
		named{"a change survives a crash", changeSurvives},
		named{"no text can make a lookup fail", strangeTexts},
		named{"a person is invited, signs in, is disabled and removed", personOfService},
	)
}

// people returns access to the people in the store.
func (t *test) people() *sqltx.Store[people.Tx] {
	return peoplestore.New(t.Store.(withRows).Rows())
}

// change calls do(tx) with a transaction that can write. The transaction must succeed.
func (t *test) change(do func(people.Tx) error) {
	t.Helper()
	t.ok(t.people().Change(t.ctx, do))
}

// view calls do(tx) with a transaction that can only read. The transaction must
// succeed.
func (t *test) view(do func(people.Tx) error) {
	t.Helper()
	t.ok(t.people().View(t.ctx, do))
}

// micro returns the current time of the store's clock, in the resolution in which the
// store keeps times.
func (t *test) micro() time.Time { return t.Now().UTC().Truncate(time.Microsecond) }

// record returns the record of a new person, without storing it.
func (t *test) record(email string, accounts ...people.Membership) people.Record {
	return people.Record{Person: people.Person{
		ID: newID("psn_"), Email: email, Name: "Zoë " + email, CreatedAt: t.micro(), Accounts: accounts,
	}}
}

// person stores a new person.
func (t *test) person(email string, accounts ...people.Membership) people.Record {
	t.Helper()
	r := t.record(email, accounts...)
	t.change(func(tx people.Tx) error { return tx.InsertPerson(&r) })
	return r
}

// samePerson fails unless two persons are equal.
func (t *test) samePerson(got, want people.Record) {
	t.Helper()
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Fatalf("got  %s\nwant %s", a, b)
	}
}

func personFound(t *test) {
	r := t.record("zoe@example.com", people.Membership{Account: "acct_a", Role: people.Owner}, people.Membership{Account: "acct_b", Role: people.Viewer})
	r.Operator, r.Password, r.HasPassword, r.HasProvider = true, "$argon2id$…", true, true
	r.LastSignIn, r.DisabledAt = r.CreatedAt.Add(time.Second), r.CreatedAt.Add(time.Minute)
	t.change(func(tx people.Tx) error {
		t.ok(tx.InsertPerson(&r))
		return tx.ConnectProvider("https://issuer.example.com", "user 1", r.ID, t.micro())
	})
	t.view(func(tx people.Tx) error {
		for _, find := range []func() (people.Record, error){
			func() (people.Record, error) { return tx.Person(r.ID) },
			func() (people.Record, error) { return tx.PersonByEmail(r.Email) },
			func() (people.Record, error) { return tx.PersonByProvider("https://issuer.example.com", "user 1") },
		} {
			got, err := find()
			t.ok(err)
			t.samePerson(got, r)
		}
		_, err := tx.PersonByProvider("https://issuer.example.com", "user 2")
		t.want(err, ledger.ErrNotFound)
		return nil
	})
}

func emailOnce(t *test) {
	first, second := t.person("a@example.com"), t.person("b@example.com")
	third := t.record("a@example.com")
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error { return tx.InsertPerson(&third) }), ledger.ErrExists)
	second.Email = first.Email
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error { return tx.UpdatePerson(&second) }), ledger.ErrExists)
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error {
		t.ok(tx.ConnectProvider("https://issuer.example.com", "1", first.ID, t.micro()))
		return tx.ConnectProvider("https://issuer.example.com", "1", second.ID, t.micro())
	}), ledger.ErrExists)
}

func personUpdated(t *test) {
	r := t.person("a@example.com", people.Membership{Account: "acct_a", Role: people.Owner}, people.Membership{Account: "acct_b", Role: people.Owner})
	r.Email, r.Name, r.Operator = "c@example.com", "", true
	r.Accounts = []people.Membership{{Account: "acct_b", Role: people.Viewer}, {Account: "acct_c", Role: people.Owner}}
	t.change(func(tx people.Tx) error { return tx.UpdatePerson(&r) })
	t.view(func(tx people.Tx) error {
		got, err := tx.Person(r.ID)
		t.samePerson(got, r)
		return err
	})
	unknown := t.record("x@example.com")
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error { return tx.UpdatePerson(&unknown) }), ledger.ErrNotFound)
}

// session stores a session of a person and returns it with its digest.
func (t *test) session(person string, life time.Duration) (people.Session, people.Digest) {
	t.Helper()
	s := people.Session{
		ID: newID("ses_"), Person: person, Client: people.Client{Address: netip.MustParseAddr("2001:db8::1"), Agent: "Browser/1"},
		CreatedAt: t.micro(), SeenAt: t.micro(), ExpiresAt: t.micro().Add(life),
	}
	var d people.Digest
	copy(d[:], s.ID[len("ses_"):])
	t.change(func(tx people.Tx) error { return tx.InsertSession(&s, d) })
	return s, d
}

// invitation stores an invitation and returns it with its digest.
func (t *test) invitation(change func(*people.Invitation)) (people.Invitation, people.Digest) {
	t.Helper()
	i := people.Invitation{
		ID: newID("inv_"), Account: "acct_a", Role: people.Owner, By: "suite",
		CreatedAt: t.micro(), ExpiresAt: t.micro().Add(time.Hour),
	}
	change(&i)
	var d people.Digest
	copy(d[:], i.ID[len("inv_"):])
	t.change(func(tx people.Tx) error { return tx.InsertInvitation(&i, d) })
	return i, d
}

func personDeleted(t *test) {
	r, other := t.person("a@example.com", people.Membership{Account: "acct_a", Role: people.Owner}), t.person("b@example.com", people.Membership{Account: "acct_a", Role: people.Owner})
	_, digest := t.session(r.ID, time.Hour)
	_, kept := t.session(other.ID, time.Hour)
	_, recovery := t.invitation(func(i *people.Invitation) { i.Account, i.Role, i.Person = "", "", r.ID })
	k := people.Key{Passkey: people.Passkey{ID: newID("pky_"), Name: "one", CreatedAt: t.micro()}, Person: r.ID, CredentialID: []byte{1}, Credential: "{}"}
	t.change(func(tx people.Tx) error {
		t.ok(tx.InsertKey(&k))
		return tx.ConnectProvider("https://issuer.example.com", "1", r.ID, t.micro())
	})
	t.change(func(tx people.Tx) error {
		n, err := tx.DeletePerson(r.ID)
		if n != 1 {
			t.Errorf("%d persons were deleted", n)
		}
		return err
	})
	t.view(func(tx people.Tx) error {
		_, err := tx.Person(r.ID)
		t.want(err, ledger.ErrNotFound)
		_, err = tx.PersonByProvider("https://issuer.example.com", "1")
		t.want(err, ledger.ErrNotFound)
		_, _, err = tx.Session(digest)
		t.want(err, ledger.ErrNotFound)
		_, err = tx.Invitation(recovery)
		t.want(err, ledger.ErrNotFound)
		keys, err := tx.Keys(r.ID)
		t.ok(err)
		members, _, err := tx.Persons(t.ctx, "acct_a", ledger.Page{})
		t.ok(err)
		if len(keys) != 0 || len(members) != 1 {
			t.Errorf("%d passkeys and %d members are left", len(keys), len(members))
		}
		_, _, err = tx.Session(kept)
		return err
	})
	r.ID = newID("psn_")
	t.change(func(tx people.Tx) error { return tx.InsertPerson(&r) }) // the address of the removed person can be used again
}

func personPages(t *test) {
	var all, members []string
	for i := range 5 {
		var accounts []people.Membership
		if i%2 == 0 {
			accounts = []people.Membership{{Account: "acct_a", Role: people.Viewer}}
		}
		r := t.person(fmt.Sprintf("p%d@example.com", i), accounts...)
		all = append(all, r.ID)
		if i%2 == 0 {
			members = append(members, r.ID)
		}
	}
	for account, want := range map[string][]string{"": all, "acct_a": members, "acct_none": nil} {
		var got []string
		for p := (ledger.Page{Limit: 2}); ; {
			var list []people.Person
			var next string
			t.view(func(tx people.Tx) (err error) { list, next, err = tx.Persons(t.ctx, account, p); return err })
			for _, person := range list {
				got = append(got, person.ID)
			}
			if p.After = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("account %q: got %q, want %q", account, got, want)
		}
	}
	t.want(t.people().View(t.ctx, func(tx people.Tx) error {
		_, _, err := tx.Persons(t.ctx, "", ledger.Page{After: "x"})
		return err
	}), ledger.ErrInvalid)
}

func sessionFound(t *test) {
	r := t.person("a@example.com", people.Membership{Account: "acct_a", Role: people.Owner})
	s, d := t.session(r.ID, time.Hour)
	s.SeenAt, s.Client = s.SeenAt.Add(time.Minute), people.Client{Agent: "Browser/2"}
	t.change(func(tx people.Tx) error { return tx.TouchSession(&s) })
	t.view(func(tx people.Tx) error {
		got, person, err := tx.Session(d)
		t.ok(err)
		t.samePerson(person, r)
		byID, err := tx.SessionByID(s.ID)
		if got != s || byID != s {
			t.Errorf("got %+v and %+v, want %+v", got, byID, s)
		}
		return err
	})
	t.change(func(tx people.Tx) error {
		_, err := tx.DeleteSession(s.ID)
		return err
	})
	t.view(func(tx people.Tx) error {
		_, _, err := tx.Session(d)
		t.want(err, ledger.ErrNotFound)
		return nil
	})
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error { return tx.TouchSession(&s) }), ledger.ErrNotFound)
}

func sessionsDeleted(t *test) {
	a, b := t.person("a@example.com"), t.person("b@example.com")
	first, _ := t.session(a.ID, time.Minute)
	second, _ := t.session(a.ID, time.Hour)
	third, _ := t.session(b.ID, time.Hour)
	left := func(person string) (all []string) {
		t.view(func(tx people.Tx) error {
			list, err := tx.Sessions(person)
			for _, s := range list {
				all = append(all, s.ID)
			}
			return err
		})
		return all
	}
	if got := left(a.ID); !slices.Equal(got, []string{first.ID, second.ID}) {
		t.Errorf("sessions %q", got)
	}
	t.change(func(tx people.Tx) error {
		n, err := tx.DeleteSessions(a.ID, first.ID)
		if n != 1 {
			t.Errorf("%d were deleted", n)
		}
		return err
	})
	if got := left(a.ID); !slices.Equal(got, []string{first.ID}) {
		t.Errorf("sessions %q", got)
	}
	t.change(func(tx people.Tx) error {
		_, err := tx.DeleteSessionsBefore(t.micro().Add(2 * time.Minute))
		return err
	})
	if got := append(left(a.ID), left(b.ID)...); !slices.Equal(got, []string{third.ID}) {
		t.Errorf("sessions %q", got)
	}
}

func invitationListed(t *test) {
	first, digest := t.invitation(func(i *people.Invitation) { i.Email = "a@example.com" })
	second, _ := t.invitation(func(i *people.Invitation) { i.Account, i.Role, i.Operator = "", "", true })
	third, _ := t.invitation(func(i *people.Invitation) { i.Registers, i.By = true, "registration" })
	list := func(account string, at time.Time) (all []string) {
		for p := (ledger.Page{Limit: 1}); ; {
			t.view(func(tx people.Tx) error {
				part, next, err := tx.Invitations(t.ctx, account, at, p)
				for _, i := range part {
					all = append(all, i.ID)
				}
				p.After = next
				return err
			})
			if p.After == "" {
				return all
			}
		}
	}
	if got := list("", t.micro()); !slices.Equal(got, []string{third.ID, second.ID, first.ID}) {
		t.Errorf("invitations %q", got)
	}
	if got := list("acct_a", t.micro()); !slices.Equal(got, []string{third.ID, first.ID}) {
		t.Errorf("invitations of the account %q", got)
	}
	if got := list("", t.micro().Add(time.Hour)); got != nil {
		t.Errorf("expired invitations %q", got)
	}
	first.UsedAt, first.UsedBy = t.micro(), "psn_1"
	t.change(func(tx people.Tx) error {
		t.ok(tx.UseInvitation(&first))
		n, err := tx.DeleteInvitationsBy("registration")
		if n != 1 {
			t.Errorf("%d invitations were deleted", n)
		}
		return err
	})
	if got := list("", t.micro()); !slices.Equal(got, []string{second.ID}) {
		t.Errorf("invitations %q", got)
	}
	t.view(func(tx people.Tx) error {
		got, err := tx.Invitation(digest)
		t.ok(err)
		byID, err := tx.InvitationByID(first.ID)
		if got != first || byID != first {
			t.Errorf("got %+v and %+v, want %+v", got, byID, first)
		}
		return err
	})
	t.change(func(tx people.Tx) error {
		for _, c := range []struct{ now, old, want time.Duration }{{0, 0, 0}, {2 * time.Hour, 0, 1}, {2 * time.Hour, 2 * time.Hour, 1}} {
			n, err := tx.DeleteInvitationsBefore(t.micro().Add(c.now), t.micro().Add(c.old))
			t.ok(err)
			if n != int64(c.want) {
				t.Errorf("%v: %d old invitations were deleted", c, n)
			}
		}
		return nil
	})
	kept, _ := t.invitation(func(i *people.Invitation) { i.Account, i.Role, i.Person = "", "", "psn_2" })
	t.invitation(func(i *people.Invitation) { i.Account, i.Role, i.Person = "", "", "psn_2" })
	t.change(func(tx people.Tx) error {
		for _, c := range []struct {
			person, keep string
			want         int64
		}{{"psn_2", kept.ID, 1}, {"psn_3", "", 0}, {"", "", 0}} {
			n, err := tx.DeleteInvitationsFor(c.person, c.keep)
			t.ok(err)
			if n != c.want {
				t.Errorf("%d invitations for %q were deleted, want %d", n, c.person, c.want)
			}
		}
		return nil
	})
}

func passkeyOnce(t *test) {
	r, other := t.person("a@example.com"), t.person("b@example.com")
	k := people.Key{Passkey: people.Passkey{ID: newID("pky_"), Name: "Zoë's key", CreatedAt: t.micro()}, Person: r.ID, CredentialID: []byte{0, 255}, Credential: `{"a":1}`}
	t.change(func(tx people.Tx) error { return tx.InsertKey(&k) })
	again := k
	again.ID, again.Person = newID("pky_"), other.ID
	t.want(t.people().Change(t.ctx, func(tx people.Tx) error { return tx.InsertKey(&again) }), ledger.ErrExists)
	k.UsedAt, k.Credential = t.micro().Add(time.Second), `{"a":2}`
	t.change(func(tx people.Tx) error { return tx.UseKey(&k) })
	t.view(func(tx people.Tx) error {
		keys, err := tx.Keys(r.ID)
		t.ok(err)
		person, err := tx.Person(r.ID)
		if len(keys) != 1 || fmt.Sprint(keys[0]) != fmt.Sprint(k) || !slices.Equal(person.Passkeys, []people.Passkey{k.Passkey}) {
			t.Errorf("got %v and %v, want %v", keys, person.Passkeys, k)
		}
		return err
	})
	t.change(func(tx people.Tx) error {
		foreign, err := tx.DeleteKey(other.ID, k.ID)
		t.ok(err)
		own, err := tx.DeleteKey(r.ID, k.ID)
		if foreign != 0 || own != 1 {
			t.Errorf("%d and %d passkeys were deleted", foreign, own)
		}
		return err
	})
}

func ceremonyOnce(t *test) {
	d, old := people.Digest{1}, people.Digest{2}
	t.change(func(tx people.Tx) error {
		t.ok(tx.InsertCeremony(d, "signin", `{"x":"ü"}`, t.micro().Add(time.Minute)))
		return tx.InsertCeremony(old, "signin", `{}`, t.micro().Add(-time.Minute))
	})
	t.change(func(tx people.Tx) error {
		_, _, err := tx.TakeCeremony(d, "add")
		t.want(err, ledger.ErrNotFound)
		data, expires, err := tx.TakeCeremony(d, "signin")
		if data != `{"x":"ü"}` || !expires.Equal(t.micro().Add(time.Minute)) {
			t.Errorf("took %q until %s", data, expires)
		}
		return err
	})
	t.change(func(tx people.Tx) error {
		_, _, err := tx.TakeCeremony(d, "signin")
		t.want(err, ledger.ErrNotFound)
		n, err := tx.CountCeremonies()
		t.ok(err)
		deleted, err := tx.DeleteCeremoniesBefore(t.micro())
		if n != 1 || deleted != 1 {
			t.Errorf("%d ceremonies were left, and %d deleted", n, deleted)
		}
		return err
	})
}

func changeFails(t *test) {
	boom := errors.New("boom")
	r := t.record("a@example.com")
	err := t.people().Change(t.ctx, func(tx people.Tx) error {
		t.ok(tx.InsertPerson(&r))
		t.ok(tx.Audit(t.audit("person.create", r.ID)))
		return boom
	})
	t.want(err, boom)
	if errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("error %v", err)
	}
	t.want(t.people().View(t.ctx, func(tx people.Tx) error { _, err := tx.Person(r.ID); return err }), ledger.ErrNotFound)
	if rows := t.audited(ledger.AuditFilter{Action: "person.create"}); len(rows) != 0 {
		t.Errorf("audit rows %+v", rows)
	}
	if err := t.people().View(t.ctx, func(tx people.Tx) error { return tx.InsertPerson(&r) }); err == nil {
		t.Errorf("a view has changed the store")
	}
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	t.want(t.people().Change(ctx, func(people.Tx) error { t.Errorf("called after the end of its context"); return nil }), context.Canceled)
}

func changeNotAudited(t *test) {
	r := t.record("a@example.com")
	repair := t.BreakAudit()
	err := t.people().Change(t.ctx, func(tx people.Tx) error {
		t.ok(tx.InsertPerson(&r))
		return tx.Audit(t.audit("person.create", r.ID))
	})
	repair()
	t.refused(err, "a change without an audit row")
	t.want(t.people().View(t.ctx, func(tx people.Tx) error { _, err := tx.Person(r.ID); return err }), ledger.ErrNotFound)
}

// changesInOrder lets callers race for one invitation. Each caller reads the
// invitation, and marks it as used if it is unused. Exactly one caller must find it
// unused.
func changesInOrder(t *test) {
	i, d := t.invitation(func(*people.Invitation) {})
	var running sync.WaitGroup
	won := make(chan string, 32)
	for n := range cap(won) {
		running.Go(func() {
			err := t.people().Change(t.ctx, func(tx people.Tx) error {
				now, err := tx.Invitation(d)
				if err != nil || !now.UsedAt.IsZero() {
					return err
				}
				now.UsedAt, now.UsedBy = t.micro(), fmt.Sprint("psn_", n)
				won <- now.UsedBy
				return tx.UseInvitation(&now)
			})
			if err != nil {
				t.Errorf("racing: %v", err)
			}
		})
	}
	running.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of %d callers found the invitation %s unused", len(won), cap(won), i.ID)
	}
}

func changeSurvives(t *test) {
	r := t.person("a@example.com")
	_, d := t.session(r.ID, time.Hour)
	t.change(func(tx people.Tx) error {
		n, err := tx.DeleteSessions(r.ID, "")
		if n != 1 {
			t.Errorf("%d sessions were deleted", n)
		}
		return err
	})
	t.Store = t.Crash()
	t.view(func(tx people.Tx) error {
		_, _, err := tx.Session(d)
		t.want(err, ledger.ErrNotFound)
		got, err := tx.PersonByEmail(r.Email)
		t.samePerson(got, r)
		return err
	})
}

func strangeTexts(t *test) {
	for _, text := range []string{"", "\x00", "\xff\xfe", "a\x00@example.com", "'; DROP TABLE person; --"} {
		t.change(func(tx people.Tx) error {
			_, err := tx.Person(text)
			t.want(err, ledger.ErrNotFound)
			_, err = tx.PersonByEmail(text)
			t.want(err, ledger.ErrNotFound)
			_, err = tx.PersonByProvider(text, text)
			t.want(err, ledger.ErrNotFound)
			_, err = tx.SessionByID(text)
			t.want(err, ledger.ErrNotFound)
			_, err = tx.InvitationByID(text)
			t.want(err, ledger.ErrNotFound)
			_, err = tx.DeleteSession(text)
			return err
		})
	}
}

// personOfService tests people.Service on the store under test. A person is created by
// accepting an invitation with a password. The test checks that signing out ends the
// person's session at once, and that disabling the person also ends it at once.
func personOfService(t *test) {
	accounts := admin.New(t.Store, nil, func() *admin.Settings { return new(admin.Settings) }, t.micro)
	s := people.New(t.people(), people.Options{Now: t.micro, Accounts: accounts})
	account := t.account("acme", 0, 0)
	actor, client := admin.Actor{Name: "suite"}, people.Client{Address: netip.MustParseAddr("192.0.2.1"), Agent: "Browser/1"}
	invitation, secret, err := s.Invite(t.ctx, actor, people.NewInvitation{Account: "acme", Role: people.Owner})
	t.ok(err)
	in, first, err := s.AcceptWithPassword(t.ctx, client, secret, people.Profile{Email: "a@example.com"}, "violet-anchor-37")
	t.ok(err)
	if in.Person.Role(account) != people.Owner {
		t.Errorf("the person is %+v", in.Person)
	}
	_, err = s.Invitation(t.ctx, secret)
	t.want(err, people.ErrInvitation)
	_, second, err := s.SignIn(t.ctx, client, "a@example.com", "violet-anchor-37")
	t.ok(err)
	_, _, err = s.SignIn(t.ctx, client, "a@example.com", "copper/meadow/91")
	t.want(err, people.ErrCredentials)
	t.Advance(2 * time.Minute)
	seen, err := s.Authenticate(t.ctx, client, first)
	t.ok(err)
	if !seen.Session.SeenAt.After(in.Session.SeenAt) {
		t.Errorf("the session is %+v", seen.Session)
	}
	t.ok(s.SignOut(t.ctx, client, first))
	_, err = s.Authenticate(t.ctx, client, first)
	t.want(err, people.ErrSession)
	_, err = s.Disable(t.ctx, actor, in.Person.ID)
	t.ok(err)
	_, err = s.Authenticate(t.ctx, client, second)
	t.want(err, people.ErrSession)
	_, err = s.Remove(t.ctx, actor, "a@example.com")
	t.ok(err)
	var actions []string
	for _, row := range t.audited(ledger.AuditFilter{Target: in.Person.ID}) {
		actions = append(actions, row.Action)
	}
	if want := []string{"person.remove", "person.disable", "person.signin", "person.signin", "person.create"}; !slices.Equal(actions, want) {
		t.Errorf("audited %q, want %q", actions, want)
	}
	if rows := t.audited(ledger.AuditFilter{Target: invitation.ID}); len(rows) != 1 {
		t.Errorf("audited %+v", rows)
	}
	id := newID("acct_")
	for range 2 {
		opened, err := accounts.OpenAccount(t.ctx, actor, id, "acme", 500_000)
		t.ok(err)
		if opened.ID != id || opened.Name == "acme" || opened.Live.Posted != 500_000 {
			t.Errorf("opened %+v", opened)
		}
	}
	for range 2 {
		opened, err := accounts.Open(t.ctx, actor, admin.Opening{ID: id, Name: "acme", Credit: 300_000, Test: true})
		t.ok(err)
		if opened.Live.Posted != 500_000 || opened.Test.Posted != 300_000 {
			t.Errorf("opened %+v", opened)
		}
	}
}
