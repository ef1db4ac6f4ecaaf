package issuer

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// opaque makes the issuer of a site answer about opaque tokens.
func opaque(o *Options, _ *Trust) {
	o.Introspection = &Introspection{URL: idpURL + "/introspect", ClientID: "farebox", Secret: "s3cret"}
}

// activeAnswer returns the answer about an active token, with changes.
func activeAnswer(changes map[string]any) map[string]any {
	c := usual(changes)
	c["active"] = true
	if v, ok := changes["active"]; ok {
		c["active"] = v
	}
	return c
}

// TestIntrospection checks which answers of the issuer about an opaque token are accepted.
func TestIntrospection(t *testing.T) {
	for name, c := range map[string]struct {
		answer map[string]any
		want   string
	}{
		"active":               {activeAnswer(nil), "accepted"},
		"without iss and exp":  {activeAnswer(map[string]any{"iss": nil, "exp": nil}), "accepted"},
		"bearer":               {activeAnswer(map[string]any{"token_type": "bearer"}), "accepted"},
		"not active":           {map[string]any{"active": false}, "refused"},
		"active by a text":     {activeAnswer(map[string]any{"active": "true"}), "refused"},
		"unknown":              {nil, "refused"},
		"of another issuer":    {activeAnswer(map[string]any{"iss": "https://evil.example"}), "refused"},
		"for another audience": {activeAnswer(map[string]any{"aud": "https://other.example"}), "refused"},
		"for no audience":      {activeAnswer(map[string]any{"aud": nil}), "refused"},
		"without a subject":    {activeAnswer(map[string]any{"sub": nil}), "refused"},
		"bound to a key":       {activeAnswer(map[string]any{"cnf": map[string]any{"jkt": "x"}}), "refused"},
		"of another type":      {activeAnswer(map[string]any{"token_type": "DPoP"}), "refused"},
		"in the future":        {activeAnswer(map[string]any{"nbf": clock.Now().Add(time.Hour).Unix()}), "refused"},
		"expired":              {activeAnswer(map[string]any{"exp": clock.Now().Add(-time.Hour).Unix()}), "refused"},
	} {
		s := newSite(t, opaque)
		s.idp.active["opaque-token-1"] = c.answer
		if got := s.try(t, "opaque-token-1"); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestKeysAreNotIntrospected checks that a token of the form of a stored key, and one that
// is too long, are never sent to an issuer.
func TestKeysAreNotIntrospected(t *testing.T) {
	s := newSite(t, opaque)
	for _, token := range []string{keys.Mint(keys.Agent, keys.Live), keys.Mint(keys.Personal, keys.Test), fmt.Sprintf("%0*d", maxToken+1, 7)} {
		if got := s.try(t, token); got != "other" {
			t.Errorf("%s", got)
		}
	}
	if n := s.idp.asked("/introspect"); n != 0 {
		t.Errorf("%d requests", n)
	}
	const encrypted = "eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn"
	s.idp.active[encrypted] = activeAnswer(nil)
	if got := s.try(t, encrypted); got != "accepted" || s.idp.asked("/introspect") != 1 {
		t.Errorf("an encrypted token: %s", got)
	}
	signed := s.idp.token(t, nil)
	if got := s.try(t, signed); got != "accepted" || s.idp.asked("/introspect") != 1 {
		t.Errorf("a signed token: %s", got)
	}
}

// TestRevocation checks that an opaque token is asked about again after 30 seconds, that it
// is then refused if the issuer has revoked it, and that it is refused for now while the
// issuer is down.
func TestRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, opaque)
		const token = "opaque-token-1"
		s.idp.active[token] = activeAnswer(nil)
		c, err := s.Authenticate(t.Context(), clientAddress, token)
		if err != nil || !c.FreshUntil.Equal(clock.Now().Add(introspectionTime)) {
			t.Fatalf("%v, fresh until %v", err, c.FreshUntil)
		}
		time.Sleep(introspectionTime - time.Second)
		if got := s.try(t, token); got != "accepted" || s.idp.asked("/introspect") != 1 {
			t.Errorf("within the time: %s after %d requests", got, s.idp.asked("/introspect"))
		}
		time.Sleep(time.Second)
		again, err := s.Again(t.Context(), clientAddress, &c)
		if err != nil || s.idp.asked("/introspect") != 2 || !again.FreshUntil.After(c.FreshUntil) {
			t.Errorf("after it: %v after %d requests", err, s.idp.asked("/introspect"))
		}
		s.idp.set(func() { delete(s.idp.active, token) })
		time.Sleep(introspectionTime)
		if again, err = s.Again(t.Context(), clientAddress, &c); outcome(again, err) != "refused" {
			t.Errorf("revoked: %v", err)
		}
		n := s.idp.asked("/introspect")
		if got := s.try(t, token); got != "refused" || s.idp.asked("/introspect") != n {
			t.Errorf("again: %s", got)
		}
		s.idp.set(func() { s.idp.active[token], s.idp.down = activeAnswer(nil), true })
		time.Sleep(inactiveTime)
		if got := s.try(t, token); got != "unavailable" {
			t.Errorf("down: %s", got)
		}
	})
}

// TestIntrospectionFails checks that an answer that cannot be used refuses the token for
// now, and that the secret follows no redirect.
func TestIntrospectionFails(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"an error":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a refusal": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"a page":    answer("<html>"),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/moved", http.StatusTemporaryRedirect)
		},
		"two answers": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"active":false,"active":true}`)
		},
	} {
		s := newSite(t, opaque)
		s.idp.handlers["/introspect"] = handler
		if got := s.try(t, "opaque-token-1"); got != "unavailable" || s.idp.asked("/moved") != 0 {
			t.Errorf("%s: %s", name, got)
		}
	}
}
