package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	// fetchEvery is the shortest time between two attempts to fetch the keys of an
	// issuer. Tokens with invented key ids cannot cause more requests than that.
	fetchEvery = 10 * time.Second
	// staleTime is the time for which keys may still be used after their freshness has
	// ended, if newer ones cannot be fetched.
	staleTime = time.Hour
	// maxKeys bounds the keys of an issuer.
	maxKeys = 64
	// maxCandidates bounds the keys by which a signature is checked if its token names no
	// key.
	maxCandidates = 8
)

// keySet holds the public keys of an issuer, and fetches them when they are needed. It is
// safe for concurrent use.
type keySet struct {
	fetch func(ctx context.Context) ([]jose.JSONWebKey, time.Duration, error)

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	until   time.Time     // the keys are fresh until then
	tried   time.Time     // time of the last attempt to fetch
	failure error         // error of the last attempt
	flight  chan struct{} // closed when the attempt that is under way has ended; nil without one
}

func newKeySet(fetch func(ctx context.Context) ([]jose.JSONWebKey, time.Duration, error)) *keySet {
	return &keySet{fetch: fetch}
}

// errKeyUnknown reports that the issuer has no such key.
var errKeyUnknown = errors.New("no such key")

// find returns the keys that may have made a signature by the algorithm. The parameter kid
// is the key id in the token, or "". It returns errKeyUnknown if there is no such key, and
// another error if the keys cannot be fetched.
func (s *keySet) find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	now := clock.Now()
	found := s.matching(kid, alg)
	if len(found) > 0 && now.Before(s.until) {
		s.mu.Unlock()
		return found, nil
	}
	flight := s.refresh(now)
	if len(found) > 0 && s.failure != nil && now.Before(s.until.Add(staleTime)) {
		flight = nil // the issuer was down a moment ago: do not let calls wait for it
	}
	s.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found = s.matching(kid, alg)
	switch {
	case len(found) > 0 && clock.Now().Before(s.until.Add(staleTime)):
		return found, nil
	case s.failure != nil:
		return nil, s.failure
	}
	return nil, errKeyUnknown
}

// findAgain is find after another attempt to fetch the keys. It returns nothing if such an
// attempt was made a moment ago.
func (s *keySet) findAgain(ctx context.Context, kid string, alg jose.SignatureAlgorithm) []jose.JSONWebKey {
	s.mu.Lock()
	flight := s.refresh(clock.Now())
	s.mu.Unlock()
	if flight == nil {
		return nil
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.matching(kid, alg)
}

// refresh begins to fetch the keys, unless an attempt is under way or was made a moment
// ago. It returns the channel of the attempt that is under way, or nil. The caller must
// hold s.mu.
func (s *keySet) refresh(now time.Time) chan struct{} {
	if s.flight != nil || !s.tried.IsZero() && now.Sub(s.tried) < fetchEvery {
		return s.flight
	}
	s.tried, s.flight = now, make(chan struct{})
	go s.renew(s.flight)
	return s.flight
}

// renew fetches the keys for all callers that wait. The context is not that of a request,
// because the client of the request may leave.
func (s *keySet) renew(flight chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	keys, fresh, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure = err; err == nil {
		s.keys, s.until = keys, clock.Now().Add(fresh)
	}
	s.flight = nil
	close(flight)
}

// matching returns the keys that fit a key id and an algorithm. The caller must hold
// s.mu.
func (s *keySet) matching(kid string, alg jose.SignatureAlgorithm) (found []jose.JSONWebKey) {
	for _, k := range s.keys {
		if kid != "" && k.KeyID != kid || k.Algorithm != "" && k.Algorithm != string(alg) || !fits(k.Key, alg) {
			continue
		}
		if found = append(found, k); len(found) == maxCandidates {
			break
		}
	}
	return found
}

// fits reports whether a public key is of the kind that the algorithm needs.
func fits(key any, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256() || alg == jose.ES384 && k.Curve == elliptic.P384() ||
			alg == jose.ES512 && k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// Bounds of the length of RSA keys, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

// parseKeys reads a JWK set (RFC 7517). It leaves out keys that cannot verify signatures:
// those for another use, shared secrets, private keys, and keys of unknown kinds.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := strict.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the keys are not a JWK set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the JWK set has more than %d keys", maxKeys)
	}
	var usable []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" || !verifies(raw) {
			continue
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && (r.N.BitLen() < minRSA || r.N.BitLen() > maxRSA) {
			continue
		}
		usable = append(usable, k)
	}
	if len(usable) == 0 {
		return nil, errors.New("the JWK set has no public key for signatures")
	}
	return usable, nil
}

// verifies reports whether key_ops, if it is there, allows a key to verify signatures.
func verifies(raw []byte) bool {
	var k struct {
		Operations *[]string `json:"key_ops"`
	}
	if strict.Unmarshal(raw, &k) != nil {
		return false
	}
	if k.Operations == nil {
		return true
	}
	for _, op := range *k.Operations {
		if op == "verify" {
			return true
		}
	}
	return false
}

// fetchKeys fetches the issuer's keys, and its metadata before them if the config does
// not name the address of the keys.
func (s *Source) fetchKeys(ctx context.Context) (keys []jose.JSONWebKey, fresh time.Duration, err error) {
	defer func() {
		s.o.Metrics.IssuerFetched("keys", err == nil)
		if err != nil {
			s.o.Logger.Warn("the keys of an issuer cannot be fetched", "issuer", s.o.Issuer, "error", err)
		}
	}()
	address := s.o.JWKS
	if address == "" {
		if address, err = s.discover(ctx); err != nil {
			return nil, 0, err
		}
	}
	body, header, err := s.get(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	if keys, err = parseKeys(body); err != nil {
		return nil, 0, err
	}
	return keys, freshness(header), nil
}

// discover returns the address of the issuer's keys from its metadata (RFC 8414 and
// OpenID Connect Discovery).
func (s *Source) discover(ctx context.Context) (string, error) {
	var failure error
	for _, address := range metadataURLs(s.o.Issuer) {
		body, _, err := s.get(ctx, address)
		if err == nil {
			var jwks string
			if jwks, err = s.jwksOf(body); err == nil {
				return jwks, nil
			}
		}
		// An error that is not a status says more: most places answer 404.
		if failure == nil || !errors.As(err, new(statusError)) {
			failure = err
		}
	}
	return "", fmt.Errorf("its metadata: %w", failure)
}

// metadataURLs returns the addresses at which an issuer may have its metadata.
func metadataURLs(issuer string) []string {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil // cannot happen, because the options are checked
	}
	origin, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	addresses := []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + path + "/.well-known/openid-configuration",
	}
	if path != "" {
		addresses = append(addresses, origin+"/.well-known/openid-configuration"+path)
	}
	return addresses
}

// jwksOf returns the address of the keys in a metadata document. The document must name
// the issuer exactly: otherwise one issuer could stand in for another at the same host.
func (s *Source) jwksOf(body []byte) (string, error) {
	var document struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := strict.Unmarshal(body, &document); err != nil {
		return "", errors.New("the metadata of the issuer cannot be read")
	}
	if document.Issuer != s.o.Issuer {
		return "", fmt.Errorf("the metadata are those of the issuer %.200q", document.Issuer)
	}
	if _, err := CheckURL(document.JWKS); err != nil {
		return "", fmt.Errorf("jwks_uri in the metadata: %w", err)
	}
	return document.JWKS, nil
}
