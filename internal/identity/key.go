package identity

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// maxAuthorization bounds the Authorization header in bytes.
const maxAuthorization = 512

// Keys finds keys by the digests of their secrets. Lookup returns keys.ErrUnknown if
// there is no such key.
type Keys interface {
	Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error)
}

// StoredKeys authenticates requests by the secret of a stored key. It accepts the
// secret only as a bearer token in the Authorization header (RFC 6750, 2.1).
type StoredKeys struct {
	Keys    Keys
	Secrets *keys.Format
	Now     func() time.Time
}

// Authenticate returns the principal of the key in the request. A token with a wrong
// form or checksum is refused without a lookup.
func (s *StoredKeys) Authenticate(r *http.Request, client netip.Addr) (p Principal, err error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return p, ErrMissing
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || len(values[0]) > maxAuthorization || !strings.EqualFold(scheme, "Bearer") {
		return p, ErrInvalid
	}
	digest, err := s.Secrets.Parse(token)
	if err != nil {
		return p, ErrInvalid
	}
	key, err := s.Keys.Lookup(r.Context(), client, digest)
	if err != nil {
		if errors.Is(err, keys.ErrUnknown) {
			err = ErrInvalid
		}
		return p, err
	}
	switch err := key.Check(s.Now(), keys.Use{}); {
	case errors.Is(err, keys.ErrExpired):
		return p, ErrExpired
	case err != nil:
		return p, ErrInvalid
	}
	return Principal{
		Subject: key.ID, Account: key.Account, Key: key, Rights: RightsOf(key), Environment: key.Environment, Client: client,
	}, nil
}
