package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/singleflight"

	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/recent"
)

// Bounds of key sets.
const (
	maxKeySet  = 64 << 10 // bytes of its JSON
	maxKeys    = 64       // that are looked at
	minRSABits = 2048
	maxRSABits = 8192 // verifying by a larger key takes long
	maxKeySets = 250  // in each generation of the map in memory
	// keepKeys is how long keys are used after the time to fetch them again, while fetching
	// fails. It is short, because a key may have been withdrawn.
	keepKeys = time.Hour
)

// signingAlgs lists the algorithms of assertions. The header of an assertion chooses
// among them only: neither none, nor an HMAC with a public key as its secret.
var signingAlgs = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}

// SigningAlgs lists the algorithms for token_endpoint_auth_signing_alg_values_supported in
// the server's metadata.
func SigningAlgs() []string {
	names := make([]string, len(signingAlgs))
	for i, alg := range signingAlgs {
		names[i] = string(alg)
	}
	return names
}

// keySet is a set of keys in memory. It does not change.
type keySet struct {
	keys      []jose.JSONWebKey // nil if it was never fetched without a failure
	freshTo   time.Time         // the keys need not be fetched before
	attempted time.Time         // the last fetch, failed or not
}

// keySets finds the keys of clients that publish them at a URL.
type keySets struct {
	fetch  *fetch.Client
	now    func() time.Time
	flight singleflight.Group

	mu   sync.Mutex
	sets *recent.Map[string, keySet]
}

func newKeySets(o *Options) *keySets {
	return &keySets{fetch: o.Fetch, now: o.Now, sets: recent.New[string, keySet](maxKeySets)}
}

// find returns the keys at a URL that fit an assertion with the key id and algorithm. An
// unknown key id fetches the keys again, at most once in retryAfter. An empty list means
// that the client does not have the key. An error means that the keys are not known.
func (k *keySets) find(ctx context.Context, source netip.Addr, url, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	set, _ := k.get(url)
	now := k.now()
	found := fitting(set.keys, kid, alg)
	if len(found) > 0 && now.Before(set.freshTo) {
		return found, nil
	}
	again, err := k.load(ctx, source, url)
	switch {
	case err == nil:
		return fitting(again.keys, kid, alg), nil
	case len(found) > 0 && now.Before(set.freshTo.Add(keepKeys)):
		return found, nil
	}
	return nil, err
}

// errFetchedBefore means that the last fetch has failed, and that it is too early for
// another one.
var errFetchedBefore = errors.New("the client's keys could not be fetched a moment ago")

func (k *keySets) get(url string) (keySet, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets.Get(url)
}

// load fetches the keys at a URL, unless they were fetched within retryAfter. All that wait
// for the URL share one fetch.
func (k *keySets) load(ctx context.Context, source netip.Addr, url string) (keySet, error) {
	done := k.flight.DoChan(url, func() (any, error) {
		if set, ok := k.get(url); ok && k.now().Sub(set.attempted) < retryAfter {
			if !k.now().Before(set.freshTo) {
				return set, errFetchedBefore
			}
			return set, nil // another caller has just fetched them
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
		defer cancel()
		got, err := k.fetch.JSON(ctx, source, url, maxKeySet)
		if errors.Is(err, fetch.ErrBusy) {
			return keySet{}, err
		}
		var keys []jose.JSONWebKey
		if err == nil {
			keys, err = parseKeys(got.Body)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		set, _ := k.sets.Get(url)
		set.attempted = k.now()
		if err == nil {
			set.keys, set.freshTo = keys, set.attempted.Add(freshFor(got.MaxAge))
		}
		k.sets.Put(url, set)
		return set, err
	})
	select {
	case r := <-done:
		return r.Val.(keySet), r.Err
	case <-ctx.Done():
		return keySet{}, ctx.Err()
	}
}

// parseKeys returns the keys of a set that can verify an assertion: public keys for
// signatures with the kind and size that signingAlgs need. All others are left out. A set
// without such a key is an error.
func parseKeys(text []byte) ([]jose.JSONWebKey, error) {
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("the key set has more than %d bytes", maxKeySet)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := strict.Unmarshal(text, &set); err != nil {
		return nil, malformed(err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has more than %d keys", maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(one); err == nil && (key.Use == "" || key.Use == "sig") && algOf(key.Key) != "" {
			key.Certificates = nil
			keys = append(keys, key)
		}
	}
	if keys == nil {
		return nil, errors.New("the key set has no public key for RS256 or ES256")
	}
	return keys, nil
}

// algOf returns the one algorithm that a key is used with, or "". A private or symmetric
// key in a public document is no secret, so it is not used.
func algOf(key any) jose.SignatureAlgorithm {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSABits && bits <= maxRSABits && k.E >= 3 {
			return jose.RS256
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256
		}
	}
	return ""
}

// maxCandidates bounds the keys that an assertion is tried with.
const maxCandidates = 4

// fitting returns the keys for an algorithm with the key id, or all keys for the algorithm
// if an assertion names no key.
func fitting(keys []jose.JSONWebKey, kid string, alg jose.SignatureAlgorithm) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, key := range keys {
		if algOf(key.Key) == alg && (kid == "" || key.KeyID == kid) && (key.Algorithm == "" || key.Algorithm == string(alg)) && len(found) < maxCandidates {
			found = append(found, key)
		}
	}
	return found
}
