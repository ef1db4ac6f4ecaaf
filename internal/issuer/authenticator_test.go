package issuer

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// TestOptions checks that options that cannot be safe are refused with the reason.
func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"want an address":          {Issuer: "idp.example.com"},
		"want https":               {Issuer: "http://idp.example.com"},
		"leave the user out":       {Issuer: "https://a:b@idp.example.com"},
		"no query and no fragment": {Issuer: "https://idp.example.com?x"},
		"in lower case":            {Issuer: "https://IDP.example.com"},
		`"none" is not accepted`:   {Issuer: idpURL, Algorithms: []string{"none"}},
		`"HS256" is not accepted`:  {Issuer: idpURL, Algorithms: []string{"RS256", "HS256"}},
		"jwks: http":               {Issuer: idpURL, JWKS: "http://idp.example.com/keys"},
		"introspection: http":      {Issuer: idpURL, Introspection: &Introspection{URL: "http://idp.example.com", ClientID: "a", Secret: "b"}},
		"a client id and a secret": {Issuer: idpURL, Introspection: &Introspection{URL: idpURL}},
		"skew: want at most 2m0s":  {Issuer: idpURL, Skew: 3 * time.Minute},
		"below zero":               {Issuer: idpURL, MaxLifetime: -1},
	} {
		if _, err := NewSource(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestSeveralIssuers checks that each token is verified by the keys of its own issuer, that
// the same subject of two issuers has two accounts, and that a site cannot have an issuer
// twice, or introspection at two issuers.
func TestSeveralIssuers(t *testing.T) {
	first, second := newIDP(), newIDP()
	second.url = "https://other.example.com"
	second.signer, second.published[0].Key = foreignKey, foreignKey.Public()
	books, metrics := newBooks(), new(counted)
	source := func(p *idp, n *Introspection) *Source {
		s, err := NewSource(Options{Issuer: p.url, Transport: p, Introspection: n, Metrics: metrics, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	setup := func(sources ...*Source) Setup {
		s := Setup{Secrets: &keys.DefaultFormat, Accounts: books, Metrics: metrics, Logger: slog.New(slog.DiscardHandler)}
		for _, one := range sources {
			s.Trusts = append(s.Trusts, Trust{Source: one, Audiences: []string{audience}, Account: AccountRule{Claim: "sub", Create: true}, Environment: keys.Live})
		}
		return s
	}
	a, err := NewAuthenticator(setup(source(first, nil), source(second, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c1, err1 := a.Authenticate(t.Context(), clientAddress, first.token(t, nil))
	c2, err2 := a.Authenticate(t.Context(), clientAddress, second.token(t, map[string]any{"iss": second.url}))
	if err1 != nil || err2 != nil || c1.Account == c2.Account || c1.Lineage == c2.Lineage || c1.Subject == c2.Subject {
		t.Errorf("%+v %v, %+v %v", c1, err1, c2, err2)
	}
	c, err := a.Authenticate(t.Context(), clientAddress, first.token(t, map[string]any{"iss": second.url}))
	if got := outcome(c, err); got != "refused" {
		t.Errorf("a token of the first issuer in the name of the second: %s", got)
	}
	if _, err := NewAuthenticator(setup(source(first, nil), source(first, nil))); err == nil {
		t.Error("an issuer twice")
	}
	n := &Introspection{URL: idpURL + "/introspect", ClientID: "a", Secret: "b"}
	if _, err := NewAuthenticator(setup(source(first, n), source(second, n))); err == nil {
		t.Error("introspection at two issuers")
	}
}

// TestAgain checks that a caller is verified again some minutes after its token was, also if
// the cache has forgotten the token.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		c, err := s.Authenticate(t.Context(), clientAddress, long(t, s.idp, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(verifiedTime)
			before := s.metrics.n["accepted"]
			again, err := s.Again(t.Context(), clientAddress, &c)
			if err != nil || again.Account != c.Account || s.metrics.n["accepted"] != before+1 {
				t.Errorf("%+v, %v", again, err)
			}
			c = again
		}
		s.idp.set(func() { s.idp.published = s.idp.published[1:] })
		time.Sleep(defaultFresh)
		if _, err := s.Again(t.Context(), clientAddress, &c); outcome(gate.Caller{}, err) != "refused" {
			t.Errorf("after its key was withdrawn: %v", err)
		}
	})
}

// TestCachedTokensDoNotAllocate checks that a token in the cache, and a stored key that is
// passed on, cost no allocation.
func TestCachedTokensDoNotAllocate(t *testing.T) {
	s := newSite(t, nil)
	token, key := s.idp.token(t, nil), keys.Mint(keys.Agent, keys.Live)
	if got := s.try(t, token); got != "accepted" {
		t.Fatal(got)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		c, err := s.Authenticate(ctx, clientAddress, token)
		if err == nil {
			_, err = s.Again(ctx, clientAddress, &c)
		}
		if err != nil {
			t.Error(err)
		}
		_, _ = s.Authenticate(ctx, clientAddress, key)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAuthenticateJWT measures a token in the cache, and one that is verified.
func BenchmarkAuthenticateJWT(b *testing.B) {
	s := newSite(b, nil)
	token := s.idp.token(b, nil)
	if got := s.try(b, token); got != "accepted" {
		b.Fatal(got)
	}
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Authenticate(b.Context(), clientAddress, token); err != nil {
				b.Fatal(err)
			}
		}
	})
	digest := keys.DigestOf(token)
	b.Run("verified", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.lookUp(b.Context(), clientAddress, token, digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stored key", func(b *testing.B) {
		key := keys.Mint(keys.Agent, keys.Live)
		for b.Loop() {
			_, _ = s.Authenticate(b.Context(), clientAddress, key)
		}
	})
}
