package issuer

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fareboxhq/farebox/internal/clock"
)

// answer returns a handler that answers with a text.
func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// long returns a token that is valid for weeks.
func long(t *testing.T, p *idp, sub string) string {
	return p.token(t, map[string]any{"sub": sub, "exp": clock.Now().Add(30 * 24 * time.Hour).Unix()})
}

// TestRotation checks that a new key of the issuer is found at the first token that names
// it, and that a withdrawn key is refused as soon as the keys were fetched again.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		old := long(t, s.idp, "alice")
		if got := s.try(t, old); got != "accepted" || s.idp.asked("/keys") != 1 {
			t.Fatalf("%s after %d requests", got, s.idp.asked("/keys"))
		}
		time.Sleep(seconds(20))
		s.idp.set(func() {
			s.idp.signer, s.idp.kid = foreignKey, "two"
			s.idp.published = []jose.JSONWebKey{{Key: foreignKey.Public(), KeyID: "two"}}
		})
		if got := s.try(t, long(t, s.idp, "alice")); got != "accepted" || s.idp.asked("/keys") != 2 {
			t.Errorf("a new key: %s after %d requests", got, s.idp.asked("/keys"))
		}
		if got := s.try(t, old); got != "accepted" {
			t.Errorf("a token that was verified a moment ago: %s", got)
		}
		time.Sleep(verifiedTime)
		if got := s.try(t, old); got != "refused" {
			t.Errorf("a token of a withdrawn key: %s", got)
		}
	})
}

// TestReplacedKey checks that a key that replaces another one under its id, or in a set
// without ids, is found at the first token that it has signed.
func TestReplacedKey(t *testing.T) {
	for _, kid := range []string{"one", ""} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, nil)
			if got := s.try(t, long(t, s.idp, "alice")); got != "accepted" {
				t.Fatal(got)
			}
			s.idp.set(func() {
				s.idp.signer, s.idp.kid = foreignKey, kid
				s.idp.published = []jose.JSONWebKey{{Key: foreignKey.Public(), KeyID: kid}}
			})
			if got := s.try(t, long(t, s.idp, "bob")); got != "refused" || s.idp.asked("/keys") != 1 {
				t.Errorf("kid %q, a moment later: %s after %d requests", kid, got, s.idp.asked("/keys"))
			}
			time.Sleep(fetchEvery)
			if got := s.try(t, long(t, s.idp, "bob")); got != "accepted" || s.idp.asked("/keys") != 2 {
				t.Errorf("kid %q, later: %s after %d requests", kid, got, s.idp.asked("/keys"))
			}
		})
	}
}

// TestKeyFlood checks that tokens with invented key ids cause one request in ten seconds.
func TestKeyFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		if got := s.try(t, long(t, s.idp, "alice")); got != "accepted" {
			t.Fatal(got)
		}
		for i := range 600 { // a minute
			token := forge(fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, i), `{"iss":"`+idpURL+`","sub":"x"}`, func(string) []byte { return []byte("x") })
			if got := s.try(t, token); got != "refused" {
				t.Fatalf("%d: %s", i, got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.idp.asked("/keys"); n > 7 {
			t.Errorf("%d requests in a minute", n)
		}
	})
}

// TestIssuerDown checks that tokens are refused for now while the issuer has never been
// reached, that known keys are used for an hour longer than they are fresh, and that calls
// do not wait for an issuer that was down a moment ago.
func TestIssuerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.idp.down = true
		token := long(t, s.idp, "alice")
		if got := s.try(t, token); got != "unavailable" {
			t.Errorf("never reached: %s", got)
		}
		if got := s.try(t, token); got != "unavailable" || s.idp.asked("/.well-known/openid-configuration") != 1 {
			t.Errorf("a second call: %s after %d requests", got, s.idp.asked("/.well-known/openid-configuration"))
		}
		s.idp.set(func() { s.idp.down = false })
		time.Sleep(fetchEvery)
		if got := s.try(t, token); got != "accepted" {
			t.Errorf("up again: %s", got)
		}
		s.idp.set(func() { s.idp.down = true })
		other := newIDP()
		other.kid = "unknown"
		time.Sleep(fetchEvery)
		if got := s.try(t, long(t, other, "bob")); got != "unavailable" {
			t.Errorf("an unknown key while the issuer is down: %s", got)
		}
		time.Sleep(defaultFresh + staleTime - time.Minute)
		if got := s.try(t, token); got != "accepted" {
			t.Errorf("within an hour: %s", got)
		}
		time.Sleep(verifiedTime)
		if got := s.try(t, token); got != "unavailable" {
			t.Errorf("after more than an hour: %s", got)
		}
	})
}

// TestHangingIssuer checks that an issuer that takes a request and never answers holds a call
// up for five seconds at most, and only one that needs a new key.
func TestHangingIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		known := long(t, s.idp, "alice")
		if got := s.try(t, known); got != "accepted" {
			t.Fatal(got)
		}
		s.trusts[idpURL].Source.client.Transport = hanging{}
		other := newIDP()
		other.kid = "unknown"
		time.Sleep(fetchEvery)
		began := clock.Now()
		if got := s.try(t, long(t, other, "bob")); got != "unavailable" || clock.Since(began) != fetchTime {
			t.Errorf("an unknown key: %s after %s", got, clock.Since(began))
		}
		began = clock.Now()
		for _, sub := range []string{"bob", "carol"} {
			if got := s.try(t, long(t, s.idp, sub)); got != "accepted" || clock.Since(began) != 0 {
				t.Errorf("a known key: %s after %s", got, clock.Since(began))
			}
		}
		time.Sleep(defaultFresh)
		began = clock.Now()
		if got := s.try(t, long(t, s.idp, "dave")); got != "accepted" || clock.Since(began) != 0 {
			t.Errorf("a known key that is not fresh: %s after %s", got, clock.Since(began))
		}
		time.Sleep(fetchTime) // the last attempt ends
	})
}

// hanging is a transport to a server that never answers.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestFreshness checks the bounds on the time for which keys are used, whatever the issuer
// says.
func TestFreshness(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                              defaultFresh,
		"public, max-age=3600":          time.Hour,
		"max-age=1":                     minFresh,
		"Max-Age=99999999999999":        maxFresh,
		"max-age=999999999999999999999": minFresh,
		"max-age=-1":                    minFresh,
		"no-store":                      minFresh,
		"max-age=7200, must-revalidate": 2 * time.Hour,
	} {
		if got := freshness(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// TestBadKeys checks that unusable answers of the issuer make tokens unavailable and never
// accepted: documents that are too long or name another issuer, redirects to another host, and
// keys at a place that is not https.
func TestBadKeys(t *testing.T) {
	metadata := func(issuer, keys string) http.HandlerFunc {
		return answer(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, keys))
	}
	const place = "/.well-known/openid-configuration"
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for name, c := range map[string]struct {
		path    string
		handler http.HandlerFunc
		want    string
	}{
		"metadata of another issuer": {place, metadata("https://evil.example", idpURL+"/keys"), "unavailable"},
		"an issuer with a slash":     {place, metadata(idpURL+"/", idpURL+"/keys"), "unavailable"},
		"keys by http":               {place, metadata(idpURL, "http://idp.example.com/keys"), "unavailable"},
		"keys in a file":             {place, metadata(idpURL, "file:///etc/passwd"), "unavailable"},
		"no keys":                    {place, metadata(idpURL, ""), "unavailable"},
		"metadata twice":             {place, answer(`{"issuer":"` + idpURL + `","jwks_uri":"` + idpURL + `/a","jwks_uri":"` + idpURL + `/keys"}`), "unavailable"},
		"a long document":            {"/keys", answer(`{"keys":[],"x":"` + strings.Repeat("a", maxBody) + `"}`), "unavailable"},
		"many keys":                  {"/keys", answer(`{"keys":[` + strings.Repeat("1,", maxKeys) + `1]}`), "unavailable"},
		"an empty set":               {"/keys", answer(`{"keys":[]}`), "unavailable"},
		"a page":                     {"/keys", answer(`<html>`), "unavailable"},
		"a redirect to another host": {"/keys", redirect("https://evil.example/keys"), "unavailable"},
		"a redirect to http":         {"/keys", redirect("http://idp.example.com/other"), "unavailable"},
		"a redirect without end":     {"/keys", redirect("/keys"), "unavailable"},
		"a redirect at the host":     {place, redirect("/moved"), "accepted"},
	} {
		s := newSite(t, nil)
		s.idp.handlers[c.path] = c.handler
		s.idp.handlers["/moved"] = metadata(idpURL, idpURL+"/keys")
		if got := s.try(t, s.idp.token(t, nil)); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if n := s.idp.asked(c.path); n > maxRedirects+1 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// TestMetadataURLs checks where the metadata of issuers with and without a path are looked
// for.
func TestMetadataURLs(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://idp.example.com":          "https://idp.example.com/.well-known/oauth-authorization-server https://idp.example.com/.well-known/openid-configuration",
		"https://idp.example.com/":         "https://idp.example.com/.well-known/oauth-authorization-server https://idp.example.com/.well-known/openid-configuration",
		"https://idp.example.com/realms/a": "https://idp.example.com/.well-known/oauth-authorization-server/realms/a https://idp.example.com/realms/a/.well-known/openid-configuration https://idp.example.com/.well-known/openid-configuration/realms/a",
	} {
		if got := strings.Join(metadataURLs(issuer), " "); got != want {
			t.Errorf("%s: %s", issuer, got)
		}
	}
}

// TestFlood checks that a network with many invalid tokens is refused for a while, and that
// others, and the holders of valid tokens that were seen before, are not.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		valid := long(t, s.idp, "alice")
		for range 2 * floodBurst { // valid tokens do not count
			if got := s.try(t, valid); got != "accepted" {
				t.Fatal(got)
			}
			s.verified.Put(s.digest(valid), &evidence{})
		}
		invalid := forge(`{"alg":"RS256","kid":"one"}`, `{"iss":"`+idpURL+`"}`, func(string) []byte { return nil })
		for i := range floodBurst {
			if got := s.try(t, invalid); got != "refused" {
				t.Fatalf("%d: %s", i, got)
			}
		}
		if got := s.try(t, invalid); got != "flood" {
			t.Errorf("one more: %s", got)
		}
		other, err := s.Authenticate(t.Context(), clientAddress.Next(), valid)
		if got := outcome(other, err); got != "accepted" {
			t.Errorf("from another address: %s", got)
		}
		if got := s.try(t, valid); got != "accepted" {
			t.Errorf("a token in the cache: %s", got)
		}
		time.Sleep(floodEvery)
		if got := s.try(t, invalid); got != "refused" {
			t.Errorf("later: %s", got)
		}
	})
}
