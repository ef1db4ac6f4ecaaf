package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/oauth/rate"
)

const (
	issuer        = "https://mcp.example.com/weather"
	tokenEndpoint = "https://mcp.example.com/weather/token"
)

// signer signs assertions as a client would.
type signer struct {
	t   *testing.T
	kid string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func newSigner(t *testing.T, kid string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, kid, jose.ES256, key}
}

func newRSASigner(t *testing.T, kid string) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, kid, jose.RS256, key}
}

// jwks returns the set with the public keys of signers.
func (s *signer) jwks(others ...*signer) string {
	var set jose.JSONWebKeySet
	for _, one := range append([]*signer{s}, others...) {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: one.key.Public(), KeyID: one.kid, Use: "sig"})
	}
	text, err := json.Marshal(set)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// sign returns an assertion with the claims, and with further members of the header.
func (s *signer) sign(claims map[string]any, header ...map[jose.HeaderKey]any) string {
	s.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.signRaw(payload, header...)
}

func (s *signer) signRaw(payload []byte, header ...map[jose.HeaderKey]any) string {
	s.t.Helper()
	o := new(jose.SignerOptions)
	for _, h := range header {
		for name, value := range h {
			o.WithHeader(name, value)
		}
	}
	j, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: jose.JSONWebKey{Key: s.key, KeyID: s.kid}}, o)
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := j.Sign(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// claimsAt returns valid claims, changed by others; a nil value removes a claim.
func claimsAt(now time.Time, others map[string]any) map[string]any {
	claims := map[string]any{
		"iss": agentID, "sub": agentID, "aud": tokenEndpoint, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, others)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// asserted returns a request that authenticates by an assertion.
func asserted(assertion string) *Request {
	return &Request{Source: somebody, Audiences: []string{issuer, tokenEndpoint}, Form: url.Values{
		"grant_type": {"authorization_code"}, "client_assertion_type": {assertionType}, "client_assertion": {assertion},
	}}
}

// withKeys returns a registry, and a web with a client that publishes the keys at a URL.
func withKeys(t *testing.T, jwks string) (*Registry, *web, *testClock) {
	t.Helper()
	w := newWeb(t, "agent.example")
	w.json(agentPlace, documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://agent.example/jwks.json"`), "max-age=86400")
	w.json("agent.example/jwks.json", jwks, "max-age=86400")
	r, _, c := newRegistry(t, w, Options{})
	return r, w, c
}

// TestAssertions: an assertion authenticates a client only if everything in it is right.
// Each refused row is an attack or a mistake.
func TestAssertions(t *testing.T) {
	ec, rs := newSigner(t, "ec"), newRSASigner(t, "rs")
	stranger := newSigner(t, "ec")
	r, _, c := withKeys(t, ec.jwks(rs))
	now := c.now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	with := func(others map[string]any) string { return ec.sign(claimsAt(now, others)) }
	valid := with(nil)
	parts := strings.Split(valid, ".")

	for _, row := range []struct {
		name, assertion string
		ok              bool
	}{
		{"ES256", valid, true},
		{"RS256", rs.sign(claimsAt(now, nil)), true},
		{"the issuer as audience", with(map[string]any{"aud": issuer}), true},
		{"a list of audiences", with(map[string]any{"aud": []string{"https://other.example", tokenEndpoint}}), true},
		{"typ JWT", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"typ": "JWT"}), true},
		{"typ of an assertion", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"typ": "client-authentication+jwt"}), true},
		{"no iat", with(map[string]any{"iat": nil}), true},
		{"clocks differ", with(map[string]any{"iat": at(50 * time.Second), "nbf": at(50 * time.Second)}), true},
		{"expired within the skew", with(map[string]any{"exp": at(-50 * time.Second)}), true},
		{"fractions", with(map[string]any{"exp": float64(at(time.Minute)) + 0.5}), true},
		{"no kid", (&signer{t, "", ec.alg, ec.key}).sign(claimsAt(now, nil)), true},

		{"iss", with(map[string]any{"iss": "https://evil.example/c"}), false},
		{"no iss", with(map[string]any{"iss": nil}), false},
		{"sub of another client", with(map[string]any{"sub": "https://agent.example/other"}), false},
		{"no sub", with(map[string]any{"sub": nil}), false},
		{"aud of another server", with(map[string]any{"aud": "https://mcp.example.com/other/token"}), false},
		{"aud is a prefix", with(map[string]any{"aud": "https://mcp.example.com"}), false},
		{"aud with more", with(map[string]any{"aud": tokenEndpoint + "/"}), false},
		{"list without the audience", with(map[string]any{"aud": []string{"https://other.example"}}), false},
		{"empty list", with(map[string]any{"aud": []string{}}), false},
		{"aud is an object", with(map[string]any{"aud": map[string]any{"a": tokenEndpoint}}), false},
		{"no aud", with(map[string]any{"aud": nil}), false},
		{"no exp", with(map[string]any{"exp": nil}), false},
		{"expired", with(map[string]any{"exp": at(-time.Minute)}), false},
		{"far away", with(map[string]any{"exp": at(12 * time.Minute)}), false},
		{"milliseconds", with(map[string]any{"exp": at(time.Minute) * 1000}), false},
		{"huge exp", with(map[string]any{"exp": 1e300}), false},
		{"negative exp", with(map[string]any{"exp": -1}), false},
		{"exp is a text", with(map[string]any{"exp": "9999999999"}), false},
		{"iat in the future", with(map[string]any{"iat": at(2 * time.Minute)}), false},
		{"nbf in the future", with(map[string]any{"nbf": at(2 * time.Minute)}), false},
		{"no jti", with(map[string]any{"jti": nil}), false},
		{"long jti", with(map[string]any{"jti": strings.Repeat("x", maxJTI+1)}), false},
		{"claim twice", ec.signRaw([]byte(fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":"x","aud":%q,"jti":"j","exp":%d}`, agentID, agentID, tokenEndpoint, at(time.Minute)))), false},
		{"claims are a list", ec.signRaw([]byte(`[]`)), false},
		{"claims are no JSON", ec.signRaw([]byte(`x`)), false},

		{"another key with the kid", stranger.sign(claimsAt(now, nil)), false},
		{"unknown kid", (&signer{t, "other", ec.alg, ec.key}).sign(claimsAt(now, nil)), false},
		{"kid of the other key", (&signer{t, "rs", ec.alg, ec.key}).sign(claimsAt(now, nil)), false},
		{"key in the header", embedded(stranger, claimsAt(now, nil)), false},
		{"none", unsigned(claimsAt(now, nil), "none") + ".", false},
		{"None", unsigned(claimsAt(now, nil), "None") + ".", false},
		{"none with a signature", unsigned(claimsAt(now, nil), "none") + "." + parts[2], false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"HS256 with the public key", confused(t, rs, claimsAt(now, nil)), false},
		{"PS256", (&signer{t, "rs", jose.PS256, rs.key}).sign(claimsAt(now, nil)), false},
		{"RS512", (&signer{t, "rs", jose.RS512, rs.key}).sign(claimsAt(now, nil)), false},
		{"signature of other claims", parts[0] + "." + strings.Split(with(nil), ".")[1] + "." + parts[2], false},
		{"typ of an access token", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"typ": "at+jwt"}), false},
		{"typ is a number", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"typ": 7}), false},
		{"crit", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"crit": []string{"x"}, "x": 1}), false},
		{"unencoded payload", ec.sign(claimsAt(now, nil), map[jose.HeaderKey]any{"b64": true, "crit": []string{"b64"}}), false},
		{"large", with(map[string]any{"x": strings.Repeat("x", maxAssertion)}), false},
		{"four parts", valid + ".x", false},
		{"JSON form", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, false},
		{"empty", "", false},
		{"replay", valid, false},
	} {
		got, method, err := r.Authenticate(t.Context(), asserted(row.assertion))
		switch {
		case row.ok && (err != nil || got.ID != agentID || method != PrivateKeyJWT):
			t.Errorf("%s: %v", row.name, err)
		case !row.ok && (err == nil || got != nil):
			t.Errorf("%s: accepted as %+v", row.name, got)
		case !row.ok && codeOf(t, err) != InvalidClient:
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// embedded returns an assertion with the signer's own key in its header.
func embedded(s *signer, claims map[string]any) string {
	s.t.Helper()
	j, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		s.t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	signed, err := j.Sign(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	return text
}

// unsigned returns the first two parts of a JWT with an algorithm.
func unsigned(claims map[string]any, alg string) string {
	payload, _ := json.Marshal(claims)
	header := fmt.Sprintf(`{"alg":%q}`, alg)
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload)
}

// confused returns an assertion with an HMAC that has the client's public key as its secret.
func confused(t *testing.T, s *signer, claims map[string]any) string {
	t.Helper()
	secret, err := jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	j, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, new(jose.SignerOptions).WithHeader("kid", s.kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	signed, err := j.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signed.CompactSerialize()
	return text
}

// TestReplayedAssertion: an assertion works once, even with another node and up to the last
// moment of its life, and its row is deleted afterwards.
func TestReplayedAssertion(t *testing.T) {
	s := newSigner(t, "k")
	r, w, c := withKeys(t, s.jwks())
	once := s.sign(claimsAt(c.now(), map[string]any{"exp": c.now().Add(time.Minute).Unix()}))
	if _, _, err := r.Authenticate(t.Context(), asserted(once)); err != nil {
		t.Fatal(err)
	}
	other, err := New(Options{Store: r.store, Fetch: w.fetcher(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for range 130 {
		if _, _, err := other.Authenticate(t.Context(), asserted(once)); codeOf(t, err) != InvalidClient {
			t.Fatalf("at %v: %v", c.now(), err)
		}
		if _, err := r.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Second)
	}
	if n := len(r.store.(*memory).used); n != 0 {
		t.Errorf("%d rows remain", n)
	}
}

// TestRateOfAssertions: a client cannot fill the store with ids of assertions.
func TestRateOfAssertions(t *testing.T) {
	s := newSigner(t, "k")
	r, _, c := withKeys(t, s.jwks())
	r.assertions = rate.New(time.Second, 3)
	for i := range 4 {
		_, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil))))
		if want := map[bool]Code{true: TooMany}[i == 3]; codeOf(t, err) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := len(r.store.(*memory).used); n != 3 {
		t.Errorf("%d rows", n)
	}
}

// TestRotatedKeys: a new key works at once, by one fetch; an unknown key id makes at most one
// fetch in 30 seconds, however many assertions name one.
func TestRotatedKeys(t *testing.T) {
	old, fresh := newSigner(t, "old"), newSigner(t, "fresh")
	r, w, c := withKeys(t, old.jwks())
	use := func(s *signer, want Code) {
		t.Helper()
		if _, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil)))); codeOf(t, err) != want {
			t.Errorf("%s: %v, want %q", s.kid, err, want)
		}
	}
	use(old, "")
	w.json("agent.example/jwks.json", fresh.jwks(), "max-age=86400")
	before := w.requests.Load()
	use(fresh, InvalidClient) // the keys were fetched a moment ago
	use(old, "")
	c.advance(retryAfter)
	use(fresh, "")
	use(old, InvalidClient)
	for i := range 20 {
		use(newSigner(t, fmt.Sprint("made-up", i)), InvalidClient)
	}
	if n := w.requests.Load() - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// TestKeysDuringAnOutage: known keys work for an hour after the time to fetch them again.
// Then, and for unknown keys, the client is unavailable; it is not refused as an impostor.
func TestKeysDuringAnOutage(t *testing.T) {
	known, unknown := newSigner(t, "known"), newSigner(t, "unknown")
	r, w, c := withKeys(t, known.jwks())
	w.json("agent.example/jwks.json", known.jwks(), "max-age=600")
	use := func(s *signer, want Code) {
		t.Helper()
		if _, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil)))); codeOf(t, err) != want {
			t.Errorf("%s at %v: %v, want %q", s.kid, c.now(), err, want)
		}
	}
	use(known, "")
	w.serve("agent.example/jwks.json", http.NotFound)
	c.advance(10 * time.Minute)
	use(known, "")
	use(unknown, Unavailable)
	use(known, "")
	c.advance(59 * time.Minute)
	use(known, "")
	use(unknown, Unavailable)
	c.advance(time.Minute)
	use(known, Unavailable)
	use(known, Unavailable)
	w.json("agent.example/jwks.json", known.jwks(), "")
	c.advance(retryAfter)
	use(known, "")
}

// TestOneFetchOfKeys: assertions at the same time share one fetch of the keys, and those that
// come while too many documents are fetched make the client unavailable.
func TestOneFetchOfKeys(t *testing.T) {
	s := newSigner(t, "k")
	r, w, c := withKeys(t, s.jwks())
	if _, err := r.Find(t.Context(), somebody, agentID); err != nil {
		t.Fatal(err)
	}
	before := w.requests.Load()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil)))); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := w.requests.Load() - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
	r.keys.fetch = fetch.New(fetch.Options{InFlight: -1})
	c.advance(24 * time.Hour)
	stranger := newSigner(t, "other")
	if _, _, err := r.Authenticate(t.Context(), asserted(stranger.sign(claimsAt(c.now(), nil)))); codeOf(t, err) != Unavailable {
		t.Errorf("%v", err)
	}
}

// TestKeySets: keys that cannot or must not verify an assertion are left out of a set, and
// a set without others is refused.
func TestKeySets(t *testing.T) {
	good := newSigner(t, "good")
	goodKey := strings.TrimSuffix(strings.TrimPrefix(good.jwks(), `{"keys":[`), `]}`)
	private, err := json.Marshal(jose.JSONWebKey{Key: good.key, KeyID: "p"})
	if err != nil {
		t.Fatal(err)
	}
	weak := weakRSA(t)
	for name, row := range map[string]struct {
		set  string
		keys int // 0 for a refusal
	}{
		"one":         {`{"keys":[` + goodKey + `]}`, 1},
		"others":      {`{"keys":[{"kty":"OKP","crv":"X25519","x":"AA"},{"kty":"new"},{},` + goodKey + `]}`, 1},
		"extra":       {`{"keys":[` + goodKey + `],"x":1}`, 1},
		"encryption":  {`{"keys":[` + strings.Replace(goodKey, `"sig"`, `"enc"`, 1) + `]}`, 0},
		"private":     {`{"keys":[` + string(private) + `]}`, 0},
		"symmetric":   {`{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`, 0},
		"weak":        {`{"keys":[` + weak + `]}`, 0},
		"none":        {`{"keys":[]}`, 0},
		"no member":   {`{}`, 0},
		"twice":       {`{"keys":[` + goodKey + `],"keys":[` + goodKey + `]}`, 0},
		"many":        {`{"keys":[` + strings.Repeat(`{},`, maxKeys) + goodKey + `]}`, 0},
		"large":       {`{"keys":[` + goodKey + `],"x":"` + strings.Repeat("x", maxKeySet) + `"}`, 0},
		"not a set":   {`[` + goodKey + `]`, 0},
		"not a point": {`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`, 0},
	} {
		keys, err := parseKeys([]byte(row.set))
		if len(keys) != row.keys || (err == nil) != (row.keys > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

func weakRSA(t *testing.T) string {
	t.Helper()
	n := make([]byte, 128) // 1024 bits; only its length matters here
	n[0], n[127] = 0x80, 1
	return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, base64.RawURLEncoding.EncodeToString(n))
}

// TestInlineKeys: a client can publish its keys in the document itself, and restrict the
// algorithm.
func TestInlineKeys(t *testing.T) {
	ec, rs := newSigner(t, "ec"), newRSASigner(t, "rs")
	w := newWeb(t, "agent.example")
	w.json(agentPlace, documentOf(`"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "RS256", "jwks": `+ec.jwks(rs)), "")
	r, _, c := newRegistry(t, w, Options{})
	for s, want := range map[*signer]Code{rs: "", ec: InvalidClient} {
		if _, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil)))); codeOf(t, err) != want {
			t.Errorf("%s: %v", s.kid, err)
		}
	}
}

// TestAssertionOfPublicClient: a client that does not publish the method cannot use it, even
// if its document has keys.
func TestAssertionOfPublicClient(t *testing.T) {
	s := newSigner(t, "k")
	w := newWeb(t, "agent.example")
	w.json(agentPlace, documentOf(`"token_endpoint_auth_method": "none", "jwks": `+s.jwks()), "")
	r, _, c := newRegistry(t, w, Options{})
	if _, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil)))); codeOf(t, err) != InvalidClient {
		t.Errorf("%v", err)
	}
}

// TestAssertionWithoutStore: without the store, which records the use of an assertion, the
// assertion is refused.
func TestAssertionWithoutStore(t *testing.T) {
	s := newSigner(t, "k")
	r, _, c := withKeys(t, s.jwks())
	if _, err := r.Find(t.Context(), somebody, agentID); err != nil {
		t.Fatal(err)
	}
	r.store.(*memory).down = ledger.ErrUnavailable
	got, _, err := r.Authenticate(t.Context(), asserted(s.sign(claimsAt(c.now(), nil))))
	if got != nil || codeOf(t, err) != Unavailable || !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("%+v, %v", got, err)
	}
}
