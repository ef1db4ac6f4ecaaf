package issuer

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestAcceptedTokens checks the forms of access tokens that are accepted, and the caller that
// they stand for.
func TestAcceptedTokens(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*idp)
		claims map[string]any
		header map[string]any
	}{
		"at+jwt":                 {},
		"application/at+jwt":     {header: map[string]any{"typ": "application/at+jwt"}},
		"AT+JWT":                 {header: map[string]any{"typ": "AT+JWT"}},
		"JWT":                    {header: map[string]any{"typ": "JWT"}},
		"ES256":                  {change: func(p *idp) { p.signer, p.alg, p.kid = ecKey, jose.ES256, "ec" }},
		"EdDSA":                  {change: func(p *idp) { p.signer, p.alg, p.kid = edKey, jose.EdDSA, "ed" }},
		"PS256":                  {change: func(p *idp) { p.alg = jose.PS256 }},
		"without kid":            {change: func(p *idp) { p.kid = "" }},
		"a list of audiences":    {claims: map[string]any{"aud": []string{"https://other.example", audience}}},
		"clocks apart":           {claims: map[string]any{"iat": clock.Now().Add(20 * time.Second).Unix(), "nbf": clock.Now().Add(20 * time.Second).Unix()}},
		"without iat":            {claims: map[string]any{"iat": nil}},
		"a nonce in an at+jwt":   {claims: map[string]any{"nonce": "x"}},
		"a time with a fraction": {claims: map[string]any{"exp": float64(clock.Now().Unix()) + 60.5}},
		"metadata at RFC 8414": {change: func(p *idp) {
			p.handlers["/.well-known/oauth-authorization-server"] = answer(`{"issuer":"` + idpURL + `","jwks_uri":"` + idpURL + `/keys"}`)
		}},
		"metadata that is a page": {change: func(p *idp) { p.handlers["/.well-known/oauth-authorization-server"] = answer(`<html>`) }},
		"keys of unknown kinds":   {change: func(p *idp) { p.handlers["/keys"] = answer(mixedKeys()) }},
		"keys for one algorithm":  {change: func(p *idp) { p.published[0].Algorithm = "RS256" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			if c.change != nil {
				c.change(s.idp)
			}
			payload, err := json.Marshal(usual(c.claims))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Authenticate(t.Context(), clientAddress, s.idp.sign(t, payload, c.header))
			if err != nil {
				t.Fatal(err)
			}
			if got.Subject != "alice@idp.example.com" || !got.Connect || got.Key != nil || got.Client != "agent" || fmt.Sprint(got.Scopes) != "[forecast.read]" ||
				!strings.HasPrefix(got.Account, "acct_") || got.ExpiresAt.IsZero() || !strings.HasPrefix(got.Lineage, "sub_") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// mixedKeys returns a JWK set with the usual key among keys that must be left out.
func mixedKeys() string {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	usable := jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "one"}
	texts := []string{`{"kty":"new","kid":"one"}`, `{"kty":"oct","k":"c2VjcmV0","kid":"one"}`, `7`}
	for _, k := range []jose.JSONWebKey{{Key: ecKey, KeyID: "one"}, {Key: small.Public(), KeyID: "one"}, {Key: foreignKey.Public(), KeyID: "one", Use: "enc"}, usable} {
		text, err := json.Marshal(k)
		if err != nil {
			panic(err)
		}
		texts = append(texts, string(text))
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

// hs256 returns a signature by a shared secret.
func hs256(secret []byte) func(string) []byte {
	return func(text string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
}

// rs256 returns a signature by an RSA key.
func rs256(key *rsa.PrivateKey) func(string) []byte {
	return func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signature
	}
}

// pemOf returns a public key as a PEM block, the form in which it is mistaken for a secret.
func pemOf(t *testing.T, key *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// TestRefusedTokens checks the attacks on signed tokens. Each is refused as invalid, and
// none makes an account.
func TestRefusedTokens(t *testing.T) {
	payload := func(changes map[string]any) string {
		text, err := json.Marshal(usual(changes))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	modulus := rsaKey.N.Bytes()
	own, err := json.Marshal(jose.JSONWebKey{Key: foreignKey.Public(), KeyID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(string) []byte { return nil }
	now := clock.Now().Unix()
	tokens := map[string]string{
		"no algorithm":                    forge(`{"alg":"none","typ":"at+jwt"}`, payload(nil), nothing),
		"no algorithm, capitals":          forge(`{"alg":"None","kid":"one"}`, payload(nil), nothing),
		"no alg member":                   forge(`{"kid":"one"}`, payload(nil), rs256(rsaKey)),
		"HS256 with the public key, PEM":  forge(`{"alg":"HS256","kid":"one"}`, payload(nil), hs256(pemOf(t, &rsaKey.PublicKey))),
		"HS256 with the public key, DER":  forge(`{"alg":"HS256","kid":"one"}`, payload(nil), hs256(der)),
		"HS256 with the modulus":          forge(`{"alg":"HS256","kid":"one"}`, payload(nil), hs256(modulus)),
		"HS256 without kid":               forge(`{"alg":"HS256"}`, payload(nil), hs256(nil)),
		"an algorithm that is not listed": forge(`{"alg":"RS512","kid":"one"}`, payload(nil), rs256(rsaKey)),
		"ES256 by an RSA key":             forge(`{"alg":"ES256","kid":"one"}`, payload(nil), rs256(rsaKey)),
		"another key under the kid":       forge(`{"alg":"RS256","kid":"one"}`, payload(nil), rs256(foreignKey)),
		"a key in the header":             forge(`{"alg":"RS256","kid":"one","jwk":`+string(own)+`}`, payload(nil), rs256(foreignKey)),
		"a key set in the header":         forge(`{"alg":"RS256","kid":"one","jku":"https://evil.example/keys"}`, payload(nil), rs256(foreignKey)),
		"a certificate in the header":     forge(`{"alg":"RS256","kid":"one","x5u":"https://evil.example/cert"}`, payload(nil), rs256(foreignKey)),
		"an unknown kid":                  forge(`{"alg":"RS256","kid":"two"}`, payload(nil), rs256(foreignKey)),
		"a kid that is a path":            forge(`{"alg":"RS256","kid":"../../dev/null"}`, payload(nil), rs256(foreignKey)),
		"a kid that is a number":          forge(`{"alg":"RS256","kid":1}`, payload(nil), rs256(rsaKey)),
		"no signature":                    forge(`{"alg":"RS256","kid":"one"}`, payload(nil), nothing),
		"a critical extension":            forge(`{"alg":"RS256","kid":"one","crit":["exp"],"exp":1}`, payload(nil), rs256(rsaKey)),
		"a critical extension of JOSE":    forge(`{"alg":"RS256","kid":"one","crit":["b64"],"b64":true}`, payload(nil), rs256(rsaKey)),
		"two algorithms":                  forge(`{"alg":"RS256","kid":"one","alg":"none"}`, payload(nil), rs256(rsaKey)),
		"a type twice":                    forge(`{"alg":"RS256","kid":"one","typ":"at+jwt","typ":"JWT"}`, payload(nil), rs256(rsaKey)),
		"a type in another case":          forge(`{"alg":"RS256","kid":"one","typ":"id_token+jwt","TYP":"at+jwt"}`, payload(nil), rs256(rsaKey)),
		"an ID token by its type":         forge(`{"alg":"RS256","kid":"one","typ":"id_token+jwt"}`, payload(nil), rs256(rsaKey)),
		"an ID token by its nonce":        forge(`{"alg":"RS256","kid":"one","typ":"JWT"}`, payload(map[string]any{"nonce": "x"}), rs256(rsaKey)),
		"an ID token by its at_hash":      forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"at_hash": "x"}), rs256(rsaKey)),
		"a logout token":                  forge(`{"alg":"RS256","kid":"one","typ":"logout+jwt"}`, payload(nil), rs256(rsaKey)),
		"a proof of possession":           forge(`{"alg":"RS256","kid":"one","typ":"dpop+jwt"}`, payload(nil), rs256(rsaKey)),
		"a token bound to a key":          forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"cnf": map[string]any{"jkt": "x"}}), rs256(rsaKey)),
		"a security event":                forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"events": map[string]any{}}), rs256(rsaKey)),
		"two subjects":                    forge(`{"alg":"RS256","kid":"one"}`, `{"sub":"alice",`+payload(nil)[1:], rs256(rsaKey)),
		"claims that are a list":          forge(`{"alg":"RS256","kid":"one"}`, `["iss"]`, rs256(rsaKey)),
		"claims that are no JSON":         forge(`{"alg":"RS256","kid":"one"}`, `x`, rs256(rsaKey)),
		"claims with text behind":         forge(`{"alg":"RS256","kid":"one"}`, payload(nil)+`{}`, rs256(rsaKey)),
		"claims that are not UTF-8":       forge(`{"alg":"RS256","kid":"one"}`, strings.Replace(payload(nil), "alice", "al\xffice", 1), rs256(rsaKey)),
		"another audience":                forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": "https://mcp.example.com/maps/mcp"}), rs256(rsaKey)),
		"an audience with more behind":    forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": audience + "/x"}), rs256(rsaKey)),
		"an audience in capitals":         forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": strings.ToUpper(audience)}), rs256(rsaKey)),
		"no audience":                     forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": nil}), rs256(rsaKey)),
		"an empty audience":               forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": []string{}}), rs256(rsaKey)),
		"an audience that is an object":   forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": map[string]any{"x": audience}}), rs256(rsaKey)),
		"a mixed list of audiences":       forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"aud": []any{audience, 7}}), rs256(rsaKey)),
		"no subject":                      forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"sub": nil}), rs256(rsaKey)),
		"a subject that is a number":      forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"sub": 7}), rs256(rsaKey)),
		"a subject that is too long":      forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"sub": strings.Repeat("a", 256)}), rs256(rsaKey)),
		"no end":                          forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"exp": nil}), rs256(rsaKey)),
		"an end that is a text":           forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"exp": "2099"}), rs256(rsaKey)),
		"an end that is null":             forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"exp": json.RawMessage("null")}), rs256(rsaKey)),
		"an end beyond all time":          forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"exp": 1e300}), rs256(rsaKey)),
		"a beginning in the future":       forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"nbf": now + 60}), rs256(rsaKey)),
		"issued in the future":            forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"iat": now + 60}), rs256(rsaKey)),
		"padding":                         strings.Replace(forge(`{"alg":"RS256","kid":"one"}`, payload(nil), rs256(rsaKey)), ".", "=.", 1),
		"four parts, without JSON":        "x.y.z." + forge(`{"alg":"RS256","kid":"one"}`, payload(nil), rs256(rsaKey)) + ".x",
		"too long":                        forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"x": strings.Repeat("a", maxToken)}), rs256(rsaKey)),
	}
	other := map[string]string{ // left to stored keys, which refuse them
		"another issuer":           forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"iss": "https://evil.example"}), rs256(rsaKey)),
		"an issuer with a slash":   forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"iss": idpURL + "/"}), rs256(rsaKey)),
		"no issuer":                forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"iss": nil}), rs256(rsaKey)),
		"an issuer that is a list": forge(`{"alg":"RS256","kid":"one"}`, payload(map[string]any{"iss": []string{idpURL}}), rs256(rsaKey)),
		"the issuer in capitals":   forge(`{"alg":"RS256","kid":"one"}`, strings.Replace(payload(nil), `"iss"`, `"ISS"`, 1), rs256(rsaKey)),
		"JSON of a JWS":            `{"payload":"x.y.z"}`,
		"an encrypted token":       "eyJhbGciOiJkaXIifQ..a.b.c",
		"an opaque token":          "2YotnFZFEjr1zCsicMWpAA",
	}
	s := newSite(t, nil)
	if got := s.try(t, s.idp.token(t, map[string]any{"sub": "bob"})); got != "accepted" { // proves that the site works
		t.Fatal(got)
	}
	for name, token := range tokens {
		s.flood.give(clientAddress)
		if got := s.try(t, token); got != "refused" && !(got == "other" && (name == "padding" || strings.HasPrefix(name, "four parts"))) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, token := range other {
		if got := s.try(t, token); got != "other" && got != "refused" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if s.books.opened != 1 {
		t.Errorf("%d accounts were opened", s.books.opened)
	}
}

// FuzzReadToken checks that no text makes the parser of tokens panic, and that every token that
// it accepts has a header and claims that are unambiguous JSON objects.
func FuzzReadToken(f *testing.F) {
	f.Add(forge(`{"alg":"RS256","kid":"one","typ":"at+jwt"}`, `{"iss":"https://idp.example.com"}`, func(string) []byte { return []byte("x") }))
	f.Add(forge(`{"alg":"none","crit":null}`, `{"iss":1,"iss":2}`, func(string) []byte { return nil }))
	f.Add("eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		u, isJWS, err := readToken(text)
		if err != nil || !isJWS {
			if u != nil {
				t.Errorf("%q: a token with %v, %t", text, err, isJWS)
			}
			return
		}
		if !isObject(u.payload) || strings.Count(text, ".") != 2 {
			t.Errorf("%q is accepted", text)
		}
		if _, err := readClaims(u.payload); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// TestTimes checks the ends of a token with the allowed difference of clocks, and that an
// expired token is reported as expired and makes no account.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ *Options, trust *Trust) { trust.Account.Create = false })
		token := s.idp.token(t, map[string]any{"exp": clock.Now().Add(seconds(600)).Unix(), "nbf": clock.Now().Add(seconds(60)).Unix()})
		want := func(at string, want string) {
			t.Helper()
			if got := s.try(t, token); got != want {
				t.Errorf("%s: %s, want %s", at, got, want)
			}
		}
		want("before nbf", "refused")
		time.Sleep(seconds(30))
		want("at nbf, less the skew, without an account", "no account")
		s.books.accounts["acct_x"] = account("acct_x", "idp.example.com:alice")
		want("with an account", "accepted")
		time.Sleep(seconds(570))
		want("at exp", "accepted")
		time.Sleep(seconds(30))
		want("at exp with the skew", "expired")
		delete(s.books.accounts, "acct_x")
		s.opened.Put(accountID(idpURL, "alice"), "")
		fresh := newSite(t, nil)
		if got := fresh.try(t, token); got != "refused" || fresh.books.opened != 0 {
			t.Errorf("an expired token without an account: %s, %d opened", got, fresh.books.opened)
		}
	})
}

// TestMaxLifetime checks the bound on the lifetime of tokens.
func TestMaxLifetime(t *testing.T) {
	s := newSite(t, func(o *Options, _ *Trust) { o.MaxLifetime = time.Hour })
	now := clock.Now().Unix()
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"an hour":     {nil, "accepted"},
		"longer":      {map[string]any{"exp": now + 3700}, "refused"},
		"without iat": {map[string]any{"iat": nil}, "refused"},
	} {
		if got := s.try(t, s.idp.token(t, c.claims)); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
