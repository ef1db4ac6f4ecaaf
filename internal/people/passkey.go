package people

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxResponse bounds the response of an authenticator in bytes.
const maxResponse = 64 << 10

// newPasskeys returns the verifier of passkeys at the origin. It returns nil if the
// host is an IP address, because an IP address cannot have passkeys. The authenticator
// must verify the user by a PIN or biometrics, so that a passkey needs no password
// beside it.
func newPasskeys(host, origin string) *webauthn.WebAuthn {
	w, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "Farebox", RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
		// Some password managers return extensions that were not requested. Ignore
		// them, because no extension is used here.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil
	}
	return w
}

// user is a person in the form that the webauthn library needs. The user handle is the
// id of the person, which reveals nothing about the person.
type user struct {
	id, email, name string
	keys            []webauthn.Credential
}

// WebAuthnID returns the user handle, which is the person's id.
func (u *user) WebAuthnID() []byte { return []byte(u.id) }

// WebAuthnName returns the name by which a device lists the passkey.
func (u *user) WebAuthnName() string { return u.email }

// WebAuthnDisplayName returns the person's name, or the e-mail address if there is no
// name.
func (u *user) WebAuthnDisplayName() string {
	if u.name == "" {
		return u.email
	}
	return u.name
}

// WebAuthnCredentials returns the passkeys.
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.keys }

// registering is the data of a ceremony that makes a passkey.
type registering struct {
	Session    webauthn.SessionData `json:"session"`
	Person     string               `json:"person"`               // id of the person; a new person is stored only when the ceremony ends
	Invitation []byte               `json:"invitation,omitempty"` // digest of the invitation's secret
	Profile    Profile              `json:"profile"`
}

// beginCreation begins a ceremony that makes a passkey. The ceremony counts for the
// pace of the client's address, so that one client cannot use up the number of
// ceremonies that all people share.
func (s *Service) beginCreation(ctx context.Context, c Client, kind string, u *user, data registering) (options json.RawMessage, ceremony string, err error) {
	w := s.current.Load().passkeys
	if w == nil {
		return nil, "", ErrNoPasskeys
	}
	if err := s.pace.begin(c); err != nil {
		return nil, "", err
	}
	creation, session, err := w.BeginRegistration(u,
		webauthn.WithExclusions(webauthn.Credentials(u.keys).CredentialDescriptors()))
	if err != nil {
		return nil, "", fmt.Errorf("beginning a passkey: %w", err)
	}
	session.Expires = time.Time{} // the ceremony expires by the clock of this service instead
	data.Session = *session
	if ceremony, err = s.beginCeremony(ctx, kind, &data); err != nil {
		return nil, "", err
	}
	options, err = json.Marshal(creation)
	return options, ceremony, err
}

// finishCreation verifies the response of the authenticator and returns the passkey.
func (s *Service) finishCreation(data *registering, response []byte, name string) (*Key, error) {
	w := s.current.Load().passkeys
	if w == nil {
		return nil, ErrNoPasskeys
	}
	if len(response) > maxResponse {
		return nil, ErrPasskey
	}
	now := s.o.Now()
	name, err := normalName(name)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = "Passkey of " + now.UTC().Format(time.DateOnly)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, s.refusedKey(err)
	}
	made, err := w.CreateCredential(&user{id: data.Person}, data.Session, parsed)
	if err != nil {
		return nil, s.refusedKey(err)
	}
	made.Attestation = webauthn.CredentialAttestation{} // not requested, but some authenticators send it
	k := &Key{Passkey: Passkey{ID: id.New("pky_"), Name: name, CreatedAt: now}, Person: data.Person, CredentialID: made.ID}
	return k, k.encode(made)
}

// encode writes the credential to the passkey as JSON.
func (k *Key) encode(c *webauthn.Credential) error {
	text, err := json.Marshal(c)
	k.Credential = string(text)
	return err
}

// refusedKey logs why the response of an authenticator is refused, and returns
// ErrPasskey.
func (s *Service) refusedKey(err error) error {
	fields := []any{"error", err}
	var e *protocol.Error
	if errors.As(err, &e) {
		fields = append(fields, "detail", e.DevInfo)
	}
	s.o.Logger.Info("a passkey was refused", fields...)
	return ErrPasskey
}

// BeginPasskey begins to accept an invitation by a passkey. It returns the options for
// navigator.credentials.create, as JSON with the member publicKey, and the secret of the
// ceremony, which the client must send back (a cookie that only the origin can set).
// Errors: ErrInvitation, ErrEmailTaken, *InputError, *DelayError, ErrNoPasskeys.
func (s *Service) BeginPasskey(ctx context.Context, c Client, secret string, p Profile) (options json.RawMessage, ceremony string, err error) {
	i, p, err := s.prepare(ctx, secret, p)
	if err != nil {
		return nil, "", err
	}
	person := i.Person
	if !i.Recovers() {
		person = id.New("psn_")
	}
	d := digestOf(secret)
	return s.beginCreation(ctx, c, acceptKind, &user{id: person, email: p.Email, name: p.Name},
		registering{Person: person, Invitation: d[:], Profile: p})
}

// FinishPasskey accepts the invitation of BeginPasskey with the JSON of the created
// credential, and signs in. A recovery removes the former password, passkeys and
// sessions. name is the name of the new passkey; "" means a name that contains the
// date. Errors: ErrCeremony, ErrInvitation, ErrPasskey, ErrEmailTaken, *InputError.
func (s *Service) FinishPasskey(ctx context.Context, c Client, ceremony string, response []byte, name string) (SignedIn, string, error) {
	var data registering
	if err := s.takeCeremony(ctx, ceremony, acceptKind, &data); err != nil {
		return SignedIn{}, "", err
	}
	k, err := s.finishCreation(&data, response, name)
	if err != nil {
		return SignedIn{}, "", err
	}
	d := Digest(data.Invitation)
	var i Invitation
	err = s.store.View(ctx, func(tx Tx) (err error) {
		i, _, err = s.usable(tx, d)
		return err
	})
	if err != nil {
		return SignedIn{}, "", err
	}
	return s.accept(ctx, c, d, i, data.Person, data.Profile, credential{passkey: k})
}

// BeginAddPasskey begins to add a passkey to the person that is signed in. Its results
// are those of BeginPasskey. Errors: ErrStale, ErrSession, ErrNoPasskeys, *DelayError,
// *admin.Error if the person already has MaxPasskeys passkeys.
func (s *Service) BeginAddPasskey(ctx context.Context, by SignedIn) (options json.RawMessage, ceremony string, err error) {
	if err := s.fresh(&by); err != nil {
		return nil, "", err
	}
	u := user{id: by.Person.ID}
	err = s.store.View(ctx, func(tx Tx) error {
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		u.email, u.name = r.Email, r.Name
		if err := roomForKey(&r.Person); err != nil {
			return err
		}
		list, err := tx.Keys(r.ID)
		if err != nil {
			return err
		}
		u.keys, err = credentials(list)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return s.beginCreation(ctx, by.Session.Client, addKind, &u, registering{Person: u.id})
}

func roomForKey(p *Person) error {
	if len(p.Passkeys) >= MaxPasskeys {
		return refuse(admin.Conflict, "a person has at most %d passkeys: remove one first", MaxPasskeys)
	}
	return nil
}

// credentials decodes the credentials in a list of passkeys.
func credentials(list []Key) (all []webauthn.Credential, err error) {
	for _, k := range list {
		var c webauthn.Credential
		if err := json.Unmarshal([]byte(k.Credential), &c); err != nil {
			return nil, fmt.Errorf("passkey %s: %w", k.ID, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// FinishAddPasskey adds the passkey that the authenticator made. The person stays
// signed in with the same session. Errors: ErrCeremony, ErrPasskey, ErrSession,
// *InputError, *admin.Error.
func (s *Service) FinishAddPasskey(ctx context.Context, by SignedIn, ceremony string, response []byte, name string) (Passkey, error) {
	var data registering
	if err := s.takeCeremony(ctx, ceremony, addKind, &data); err != nil {
		return Passkey{}, err
	}
	if data.Person != by.Person.ID {
		return Passkey{}, ErrCeremony
	}
	k, err := s.finishCreation(&data, response, name)
	if err != nil {
		return Passkey{}, err
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		if err := roomForKey(&r.Person); err != nil {
			return err
		}
		if err := insertKey(tx, r.ID, k); err != nil {
			return err
		}
		return tx.Audit(s.audit(self(r.ID, by.Session.Client), "passkey.add", r.ID, keyDetail{k.ID}))
	})
	if err != nil {
		return Passkey{}, err
	}
	return k.Passkey, nil
}

// keyDetail is the detail of the audit row of a passkey.
type keyDetail struct {
	Passkey string `json:"passkey"`
}

// RemovePasskey removes a passkey of the person that is signed in. Errors:
// ErrLastCredential, ErrSession, *admin.Error if there is no such passkey.
func (s *Service) RemovePasskey(ctx context.Context, by SignedIn, passkey string) error {
	return s.store.Change(ctx, func(tx Tx) error {
		r, err := present(tx, &by)
		if err != nil {
			return err
		}
		n, err := tx.DeleteKey(r.ID, passkey)
		if err != nil {
			return err
		}
		if n == 0 {
			return explain(ledger.ErrNotFound, "passkey", passkey)
		}
		if len(r.Passkeys) == 1 && !r.HasPassword && (!r.HasProvider || s.current.Load().provider == nil) {
			return ErrLastCredential
		}
		return tx.Audit(s.audit(self(r.ID, by.Session.Client), "passkey.remove", r.ID, keyDetail{passkey}))
	})
}

// BeginSignIn begins a sign-in by a passkey. The person enters no name, because the
// passkey contains the person's id. BeginSignIn returns the options for
// navigator.credentials.get, as JSON with the member publicKey, and the secret of the
// ceremony. Errors: ErrNoPasskeys, *DelayError.
func (s *Service) BeginSignIn(ctx context.Context, c Client) (options json.RawMessage, ceremony string, err error) {
	w := s.current.Load().passkeys
	if w == nil {
		return nil, "", ErrNoPasskeys
	}
	if err := s.pace.begin(c); err != nil {
		return nil, "", err
	}
	assertion, session, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", fmt.Errorf("beginning a sign-in: %w", err)
	}
	session.Expires = time.Time{} // the ceremony expires by the clock of this service instead
	if ceremony, err = s.beginCeremony(ctx, signInKind, session); err != nil {
		return nil, "", err
	}
	options, err = json.Marshal(assertion)
	return options, ceremony, err
}

// FinishSignIn signs in with the JSON of the authenticator's assertion. Errors:
// ErrCeremony, ErrPasskey.
func (s *Service) FinishSignIn(ctx context.Context, c Client, ceremony string, response []byte) (in SignedIn, token string, err error) {
	w := s.current.Load().passkeys
	if w == nil {
		return in, "", ErrNoPasskeys
	}
	c = shown(c)
	var session webauthn.SessionData
	if err := s.takeCeremony(ctx, ceremony, signInKind, &session); err != nil {
		return in, "", err
	}
	if len(response) > maxResponse {
		return in, "", ErrPasskey
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return in, "", s.refusedKey(err)
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		k, err := s.verify(tx, w, &session, parsed)
		if err != nil {
			return err
		}
		if err := tx.UseKey(k); err != nil {
			return err
		}
		in, token, err = s.open(tx, c, k.Person, "passkey")
		return err
	})
	if err != nil {
		return SignedIn{}, "", err
	}
	return in, token, nil
}

// verify verifies an assertion and returns the passkey that made it, with UsedAt set to
// now. verify refuses an assertion if the authenticator's counter went back, because
// the authenticator may have been copied.
func (s *Service) verify(tx Tx, w *webauthn.WebAuthn, session *webauthn.SessionData, parsed *protocol.ParsedCredentialAssertionData) (*Key, error) {
	var list []Key
	var failed error // error of the store during the lookup
	used, err := w.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
		r, err := tx.Person(string(handle))
		if err == nil && !r.DisabledAt.IsZero() {
			err = ledger.ErrNotFound
		}
		if err == nil {
			list, err = tx.Keys(r.ID)
		}
		if err != nil {
			if !errors.Is(err, ledger.ErrNotFound) {
				failed = err
			}
			return nil, err
		}
		u := &user{id: r.ID, email: r.Email, name: r.Name}
		u.keys, err = credentials(list)
		return u, err
	}, *session, parsed)
	switch {
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, s.refusedKey(err)
	case used.Authenticator.CloneWarning:
		return nil, s.refusedKey(errors.New("the counter of the authenticator went back: it may be a copy"))
	}
	for i := range list {
		if k := &list[i]; bytes.Equal(k.CredentialID, used.ID) {
			k.UsedAt = s.o.Now()
			return k, k.encode(used)
		}
	}
	return nil, ErrPasskey
}
