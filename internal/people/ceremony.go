package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxCeremonies bounds the ceremonies in the store, because anyone can begin one.
const maxCeremonies = 20_000

// The kinds of ceremonies. takeCeremony finds a secret only under the kind with which
// it was created.
const (
	acceptKind   = "accept"   // accepting an invitation with a new passkey
	addKind      = "add"      // adding a passkey to the person that is signed in
	signInKind   = "signin"   // signing in by a passkey
	providerKind = "provider" // visiting the OpenID provider
)

// beginCeremony stores a ceremony with its data and returns its secret.
func (s *Service) beginCeremony(ctx context.Context, kind string, data any) (secret string, err error) {
	secret, digest := newSecret(CeremonyPrefix)
	return secret, s.storeCeremony(ctx, digest, kind, data)
}

func (s *Service) storeCeremony(ctx context.Context, d Digest, kind string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding a ceremony: %w", err)
	}
	return s.store.Change(ctx, func(tx Tx) error {
		now := s.o.Now()
		if _, err := tx.DeleteCeremoniesBefore(now); err != nil {
			return err
		}
		if n, err := tx.CountCeremonies(); err != nil {
			return err
		} else if n >= maxCeremonies {
			return &DelayError{Wait: CeremonyLife / 10}
		}
		return tx.InsertCeremony(d, kind, string(text), now.Add(CeremonyLife))
	})
}

// takeCeremony deletes a ceremony and decodes its data. A further call with the same
// secret fails. Errors: ErrCeremony.
func (s *Service) takeCeremony(ctx context.Context, secret, kind string, into any) error {
	d, ok := parseSecret(CeremonyPrefix, secret)
	if !ok {
		return ErrCeremony
	}
	return s.store.Change(ctx, func(tx Tx) error {
		data, expires, err := tx.TakeCeremony(d, kind)
		if errors.Is(err, ledger.ErrNotFound) || err == nil && !s.o.Now().Before(expires) {
			return ErrCeremony // an expired ceremony stays in the store until the next one begins
		}
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(data), into)
	})
}
