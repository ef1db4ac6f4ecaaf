package people_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/people"
)

// authenticator is a person's device with a passkey, in a browser at the origin of the
// console.
type authenticator struct {
	w      *world
	party  virtualwebauthn.RelyingParty
	device virtualwebauthn.Authenticator
	key    virtualwebauthn.Credential
}

func newAuthenticator(w *world) *authenticator {
	return &authenticator{
		w: w, party: virtualwebauthn.RelyingParty{ID: "console.example.com", Name: "Farebox", Origin: origin},
		device: virtualwebauthn.NewAuthenticator(), key: newKey(w),
	}
}

// newKey returns a credential. The virtualwebauthn library cuts leading zeros of a
// public key, although no real authenticator does. So newKey makes keys until neither
// coordinate has a leading zero.
func newKey(w *world) virtualwebauthn.Credential {
	w.Helper()
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.ok(err)
		point, err := key.PublicKey.Bytes()
		w.ok(err)
		if point[1] == 0 || point[33] == 0 {
			continue
		}
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		w.ok(err)
		return virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, encoded)
	}
}

// create returns the authenticator's response to the options for making a passkey.
func (a *authenticator) create(options []byte) []byte {
	a.w.Helper()
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(options))
	a.w.ok(err)
	a.device.Options.UserHandle = []byte(parsed.UserID)
	a.device.AddCredential(a.key)
	return []byte(virtualwebauthn.CreateAttestationResponse(a.party, a.device, a.key, *parsed))
}

// accept accepts an invitation with a new passkey.
func (a *authenticator) accept(secret, email string) (people.SignedIn, string, error) {
	a.w.Helper()
	options, ceremony, err := a.w.BeginPasskey(a.w.Context(), client(1), secret, people.Profile{Email: email})
	a.w.ok(err)
	a.w.secret(ceremony)
	return a.w.FinishPasskey(a.w.Context(), client(1), ceremony, a.create(options), "")
}

// add adds a passkey to the person that is signed in.
func (a *authenticator) add(by people.SignedIn) people.Passkey {
	a.w.Helper()
	options, ceremony, err := a.w.BeginAddPasskey(a.w.Context(), by)
	a.w.ok(err)
	k, err := a.w.FinishAddPasskey(a.w.Context(), by, ceremony, a.create(options), "My key")
	a.w.ok(err)
	return k
}

// get begins a sign-in, and returns its ceremony and the authenticator's response.
func (a *authenticator) get() (ceremony string, response []byte) {
	a.w.Helper()
	options, ceremony, err := a.w.BeginSignIn(a.w.Context(), client(1))
	a.w.ok(err)
	parsed, err := virtualwebauthn.ParseAssertionOptions(string(options))
	a.w.ok(err)
	return a.w.secret(ceremony), []byte(virtualwebauthn.CreateAssertionResponse(a.party, a.device, a.key, *parsed))
}

// signIn signs in by the passkey.
func (a *authenticator) signIn() (people.SignedIn, string, error) {
	a.w.Helper()
	ceremony, response := a.get()
	return a.w.FinishSignIn(a.w.Context(), client(1), ceremony, response)
}

// TestPasskey checks that a person accepts an invitation with a passkey, and then signs
// in by it on another node, without a name or password. Each response works only once.
// A disabled person cannot sign in.
func TestPasskey(t *testing.T) {
	w := newWorld(t, people.Settings{})
	a := newAuthenticator(w)
	secret := w.invite(people.NewInvitation{Operator: true})
	in, token, err := a.accept(secret, "a@example.com")
	w.ok(err)
	if p := w.signedIn(w.secret(token)).Person; p.HasPassword || len(p.Passkeys) != 1 || !strings.HasPrefix(p.Passkeys[0].Name, "Passkey of ") || !p.Passkeys[0].UsedAt.IsZero() {
		t.Errorf("the person is %+v", p)
	}
	_, err = w.Invitation(t.Context(), secret)
	w.want(err, people.ErrInvitation)
	ceremony, response := a.get()
	again, fresh, err := w.node(people.Settings{}).FinishSignIn(t.Context(), client(2), ceremony, response)
	w.ok(err)
	if again.Person.ID != in.Person.ID || fresh == token || again.Person.Passkeys[0].UsedAt.IsZero() {
		t.Errorf("signed in as %+v", again.Person)
	}
	_, _, err = w.FinishSignIn(t.Context(), client(2), ceremony, response)
	w.want(err, people.ErrCeremony) // each ceremony ends once
	_, err = w.Disable(t.Context(), operator, in.Person.ID)
	w.ok(err)
	_, _, err = a.signIn()
	w.want(err, people.ErrPasskey)
}

// TestPasskeyRefused checks that a response is refused in each of these cases: the
// response comes from another origin or relying party, the device has not verified the
// person, the counter went back, or the response belongs to another ceremony, comes too
// late or is malformed. Afterwards a correct response is still accepted.
func TestPasskeyRefused(t *testing.T) {
	w := newWorld(t, people.Settings{})
	a := newAuthenticator(w)
	a.key.Counter = 7
	_, _, err := a.accept(w.invite(people.NewInvitation{Operator: true}), "a@example.com")
	w.ok(err)
	for name, change := range map[string]func(*authenticator){
		"another origin":      func(a *authenticator) { a.party.Origin = "https://console.example.com.evil.example" },
		"an open origin":      func(a *authenticator) { a.party.Origin = "http://console.example.com" },
		"another port":        func(a *authenticator) { a.party.Origin += ":8443" },
		"another party":       func(a *authenticator) { a.party.ID = "example.com" },
		"no verification":     func(a *authenticator) { a.device.Options.UserNotVerified = true },
		"no presence":         func(a *authenticator) { a.device.Options.UserNotPresent = true },
		"a counter before":    func(a *authenticator) { a.key.Counter = 3 },
		"an unknown key":      func(a *authenticator) { a.key = newKey(a.w) },
		"another person":      func(a *authenticator) { a.device.Options.UserHandle = []byte("psn_other") },
		"no person":           func(a *authenticator) { a.device.Options.UserHandle = nil },
		"not even valid text": func(a *authenticator) { a.device.Options.UserHandle = []byte{0, 0xff} },
	} {
		b := *a
		b.key.Counter = 8
		change(&b)
		if _, _, err := b.signIn(); !errors.Is(err, people.ErrPasskey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.key.Counter = 9
	first, _ := a.get()
	_, foreign := a.get()
	for _, response := range [][]byte{foreign, nil, []byte("{}"), []byte("null"), []byte(strings.Repeat("[", 100_000))} {
		_, _, err := w.FinishSignIn(t.Context(), client(1), first, response)
		if !errors.Is(err, people.ErrPasskey) && !errors.Is(err, people.ErrCeremony) {
			t.Errorf("error %v", err)
		}
	}
	late, response := a.get()
	w.advance(people.CeremonyLife)
	_, _, err = w.FinishSignIn(t.Context(), client(1), late, response)
	w.want(err, people.ErrCeremony)
	for _, ceremony := range []string{"", "fbc_", "fbc_" + strings.Repeat("A", 43)} {
		_, _, err = w.FinishSignIn(t.Context(), client(1), ceremony, response)
		w.want(err, people.ErrCeremony)
	}
	_, _, err = a.signIn()
	w.ok(err)
}

// TestPasskeyCreationRefused checks that no passkey is made at another origin, without
// verification of the person, for an invitation that was used meanwhile, or in a
// ceremony of another kind.
func TestPasskeyCreationRefused(t *testing.T) {
	w := newWorld(t, people.Settings{})
	secret := w.invite(people.NewInvitation{Operator: true})
	for _, change := range []func(*authenticator){
		func(a *authenticator) { a.party.Origin = "https://evil.example" },
		func(a *authenticator) { a.device.Options.UserNotVerified = true },
	} {
		a := newAuthenticator(w)
		change(a)
		_, _, err := a.accept(secret, "a@example.com")
		w.want(err, people.ErrPasskey)
	}
	a := newAuthenticator(w)
	options, ceremony, err := w.BeginPasskey(t.Context(), client(1), secret, people.Profile{Email: "a@example.com"})
	w.ok(err)
	response := a.create(options)
	_, _, err = w.FinishSignIn(t.Context(), client(1), ceremony, response)
	w.want(err, people.ErrCeremony) // the ceremony is for accepting, not for signing in
	_, _, err = w.AcceptWithPassword(t.Context(), client(1), secret, people.Profile{Email: "b@example.com"}, good)
	w.ok(err)
	_, _, err = w.FinishPasskey(t.Context(), client(1), ceremony, response, "")
	w.want(err, people.ErrInvitation)
	list, _, err := w.Persons(t.Context(), people.PersonQuery{})
	w.ok(err)
	if len(list) != 1 {
		t.Errorf("persons %+v", list)
	}
}

// TestPasskeysOfPerson checks that a person adds and removes passkeys, but cannot
// remove the last way to sign in or another person's passkey. Adding a passkey needs a
// session younger than FreshTime.
func TestPasskeysOfPerson(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	a, b := newAuthenticator(w), newAuthenticator(w)
	in, _, err := a.accept(w.invite(people.NewInvitation{Operator: true}), "a@example.com")
	w.ok(err)
	other, _ := w.operatorPerson("b@example.com")
	second := b.add(in)
	if second.Name != "My key" {
		t.Errorf("the passkey is %+v", second)
	}
	signed, _, err := b.signIn()
	w.ok(err)
	if signed.Person.ID != in.Person.ID || len(signed.Person.Passkeys) != 2 {
		t.Errorf("signed in as %+v", signed.Person)
	}
	w.refused(w.RemovePasskey(ctx, other, second.ID), admin.NotFound)
	options, ceremony, err := w.BeginAddPasskey(ctx, in)
	w.ok(err)
	_, err = w.FinishAddPasskey(ctx, other, ceremony, newAuthenticator(w).create(options), "")
	w.want(err, people.ErrCeremony)
	w.ok(w.RemovePasskey(ctx, in, second.ID))
	w.want(w.RemovePasskey(ctx, in, in.Person.Passkeys[0].ID), people.ErrLastCredential)
	_, _, err = b.signIn()
	w.want(err, people.ErrPasskey)
	_, _, err = a.signIn()
	w.ok(err)
	w.ok(w.SetPassword(ctx, in, "", better))
	w.ok(w.RemovePasskey(ctx, in, in.Person.Passkeys[0].ID))
	_, _, err = a.signIn()
	w.want(err, people.ErrPasskey)
	w.advance(people.FreshTime + 1_000_000_000)
	_, _, err = w.BeginAddPasskey(ctx, in)
	w.want(err, people.ErrStale)
}

// TestPaceOfPasskeys checks that after too many ceremonies from one address, everyone
// at this address must wait, even a person that is signed in or the holder of an
// invitation. Otherwise one person could use up the number of ceremonies that all
// people share, and no one could begin to sign in by a passkey. Clients at another
// address can still begin a ceremony.
func TestPaceOfPasskeys(t *testing.T) {
	w := newWorld(t, people.Settings{})
	in, _ := w.member(people.NewInvitation{Account: w.account("acme")}, "a@example.com")
	secret := w.invite(people.NewInvitation{Operator: true})
	for name, begin := range map[string]func() error{
		"a member": func() error { _, _, err := w.BeginAddPasskey(t.Context(), in); return err },
		"an invited person": func() error {
			_, _, err := w.BeginPasskey(t.Context(), client(2), secret, people.Profile{Email: "b@example.com"})
			return err
		},
	} {
		var err error
		for n := 0; err == nil && n < 1000; n++ {
			err = begin()
		}
		if w.wait(err) > time.Minute {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := w.BeginSignIn(t.Context(), client(3))
	w.ok(err)
}
