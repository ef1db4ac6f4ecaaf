package issuer

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

func account(id, name string) ledger.Account { return ledger.Account{ID: id, Name: name} }

// digest returns the digest of a token.
func (s *site) digest(token string) keys.Digest { return keys.DigestOf(token) }

// TestAccounts checks which account a token reaches, and that no subject reaches another
// holder's account: neither by the account's name, nor by its id, nor by a name that
// differs in case, nor by an e-mail address that the issuer has not verified.
func TestAccounts(t *testing.T) {
	const own = "idp.example.com:alice"
	expression := func(text string) *pricing.Text {
		compiled, err := pricing.CompileText(text, "claims")
		if err != nil {
			t.Fatal(err)
		}
		return compiled
	}
	const id = "acct_01997b3e-0000-7000-8000-000000000001"
	existing := []ledger.Account{
		account(id, "acme"), account("acct_2", own), account("acct_3", "alice@example.com"), account("acct_4", "alice"), account("@issuance", "@issuance"),
	}
	for name, c := range map[string]struct {
		rule   AccountRule
		claims map[string]any
		want   string // id of the account, or the outcome
	}{
		"the name within the issuer":          {AccountRule{Claim: "sub"}, nil, "acct_2"},
		"in another case":                     {AccountRule{Claim: "sub"}, map[string]any{"sub": "Alice"}, "no account"},
		"the name of a foreign account":       {AccountRule{Claim: "sub"}, map[string]any{"sub": "acme"}, "no account"},
		"the id of a foreign account":         {AccountRule{Claim: "sub"}, map[string]any{"sub": id}, "no account"},
		"the whole name":                      {AccountRule{Claim: "sub"}, map[string]any{"sub": own}, "no account"},
		"another claim":                       {AccountRule{Claim: "org.name"}, map[string]any{"org": map[string]any{"name": "alice"}}, "acct_2"},
		"a claim with dots":                   {AccountRule{Claim: "https://example.com/org"}, map[string]any{"https://example.com/org": "alice"}, "acct_2"},
		"no such claim":                       {AccountRule{Claim: "org"}, nil, "no account"},
		"a claim that is a list":              {AccountRule{Claim: "org"}, map[string]any{"org": []string{"alice"}}, "no account"},
		"an empty claim":                      {AccountRule{Claim: "org"}, map[string]any{"org": ""}, "no account"},
		"trusted, by name":                    {AccountRule{Claim: "org", Trusted: true}, map[string]any{"org": "acme"}, id},
		"trusted, by id":                      {AccountRule{Claim: "org", Trusted: true}, map[string]any{"org": id}, id},
		"trusted, in another case":            {AccountRule{Claim: "org", Trusted: true}, map[string]any{"org": "ACME"}, "no account"},
		"trusted, unknown":                    {AccountRule{Claim: "org", Trusted: true}, map[string]any{"org": "nobody"}, "no account"},
		"trusted, an account of the ledger":   {AccountRule{Claim: "org", Trusted: true}, map[string]any{"org": "@issuance"}, "no account"},
		"an e-mail address":                   {AccountRule{Claim: "email", Trusted: true}, map[string]any{"email": "alice@example.com", "email_verified": true}, "acct_3"},
		"an unverified address":               {AccountRule{Claim: "email", Trusted: true}, map[string]any{"email": "alice@example.com", "email_verified": false}, "no account"},
		"an address that is verified by text": {AccountRule{Claim: "email", Trusted: true}, map[string]any{"email": "alice@example.com", "email_verified": "true"}, "no account"},
		"an address of which nothing is said": {AccountRule{Claim: "email", Trusted: true}, map[string]any{"email": "alice@example.com"}, "no account"},
		"an expression":                       {AccountRule{Expression: expression(`claims.org + ""`)}, map[string]any{"org": "alice"}, "acct_2"},
		"an expression without its claim":     {AccountRule{Expression: expression(`claims.org`)}, nil, "no account"},
		"an expression about an address":      {AccountRule{Expression: expression(`claims.email + ""`), Trusted: true}, map[string]any{"email": "alice@example.com"}, "no account"},
		"an expression without a text":        {AccountRule{Expression: expression(`claims.exp`)}, nil, "no account"},
		"an empty expression":                 {AccountRule{Expression: expression(`""`)}, nil, "no account"},
	} {
		s := newSite(t, func(_ *Options, trust *Trust) { trust.Account = c.rule }, existing...)
		got, err := s.Authenticate(t.Context(), clientAddress, s.idp.token(t, c.claims))
		if err == nil && got.Account != c.want || err != nil && outcome(got, err) != c.want {
			t.Errorf("%s: account %q, %v", name, got.Account, err)
		}
		if s.books.opened != 0 {
			t.Errorf("%s: an account was opened", name)
		}
	}
}

// TestAccountNames checks that no two values within an issuer, and no two issuers, share a
// name, an id, a subject or a lineage, whatever characters they have, and that each name is
// a valid name of an account.
func TestAccountNames(t *testing.T) {
	issuers := []string{
		idpURL, "https://idp.example.com/", "https://idp.example.com/a", "https://idp.example.com/b", "https://idp.example.com:8443", "http://localhost:9000", "http://localhost:90", "https://[::1]:1",
	}
	values := []string{
		"alice", "Alice", "ALICE", "alice ", "al\x00ice", "alice:bob", "alice/bob", "alice\nbob", "", "~", "älice", "аlice", "acct_1", strings.Repeat("a", 200), strings.Repeat("a", 201),
		"auth0|5f7c8ec7", "alice@example.com", "~2bd806c97f0e00af1a1fc3328fa763a9",
	}
	seen := map[string]string{}
	for _, issuer := range issuers {
		for _, value := range values {
			what := issuer + " " + value
			name := accountName(issuer, value)
			for _, key := range []string{"n" + ledger.FoldName(name), "i" + accountID(issuer, value), "l" + lineageOf(issuer, value), "s" + subjectOf(issuer, value)} {
				if other, taken := seen[key]; taken && other != what && !strings.HasPrefix(issuer+other, "https://idp.example.com") {
					t.Errorf("%q and %q share %s", what, other, key)
				}
				seen[key] = what
			}
			if err := ledger.ValidName(name); err != nil && !strings.HasPrefix(issuer, "https://[") {
				t.Error(err)
			}
			if s := subjectOf(issuer, value); len(s) > 200 || strings.ContainsAny(s, "\r\n\x00 /") {
				t.Errorf("subject %q", s)
			}
		}
	}
	if got := accountName(idpURL, "alice"); got != "idp.example.com:alice" {
		t.Error(got)
	}
}

// TestCreate checks that parallel first calls of a subject make one account, that later ones
// make none, and that a failure between the account and its credit is made up for.
func TestCreate(t *testing.T) {
	s := newSite(t, func(_ *Options, trust *Trust) { trust.Account.Credit = 5 * ledger.Unit })
	var calls sync.WaitGroup
	for range 8 {
		token := s.idp.token(t, map[string]any{"jti": t.Name()})
		calls.Go(func() {
			if got := s.try(t, token); got != "accepted" {
				t.Error(got)
			}
		})
	}
	calls.Wait()
	id := accountID(idpURL, "alice")
	if len(s.books.accounts) != 1 || s.books.credits[id] != 5*ledger.Unit || s.books.accounts[id].Name != "idp.example.com:alice" {
		t.Errorf("accounts %v, credits %v", s.books.accounts, s.books.credits)
	}
	before := s.books.opened
	if got := s.try(t, s.idp.token(t, map[string]any{"jti": "later"})); got != "accepted" || s.books.opened != before {
		t.Errorf("%s, opened %d times after %d", got, s.books.opened, before)
	}

	s.books.err = errors.New("the disk is full")
	if got := s.try(t, s.idp.token(t, map[string]any{"sub": "bob"})); got != "unavailable" {
		t.Errorf("without a store: %s", got)
	}
	s.books.err = nil
	bob := accountID(idpURL, "bob")
	s.books.accounts[bob] = account(bob, "idp.example.com:bob") // the process died before the credit
	if got := s.try(t, s.idp.token(t, map[string]any{"sub": "bob"})); got != "accepted" || s.books.credits[bob] != 5*ledger.Unit {
		t.Errorf("%s, credits %v", got, s.books.credits)
	}
}

// TestScopes checks the scopes of a token: only declared ones, from the usual claims or from
// another, as they are or by a mapping.
func TestScopes(t *testing.T) {
	roles := map[string]any{"scope": "openid", "realm_access": map[string]any{"roles": []string{"reader", "admin"}}}
	for name, c := range map[string]struct {
		rule   ScopeRule
		claims map[string]any
		want   string
	}{
		"scope":                  {ScopeRule{}, map[string]any{"scope": "stations.write forecast.read admin agent:connect"}, "forecast.read stations.write"},
		"scp, a list":            {ScopeRule{}, map[string]any{"scope": nil, "scp": []string{"forecast.read"}}, "forecast.read"},
		"scp, a text":            {ScopeRule{}, map[string]any{"scope": nil, "scp": "forecast.read x"}, "forecast.read"},
		"scope before scp":       {ScopeRule{}, map[string]any{"scope": "x", "scp": "forecast.read"}, ""},
		"none":                   {ScopeRule{}, map[string]any{"scope": nil}, ""},
		"a number":               {ScopeRule{}, map[string]any{"scope": 7}, ""},
		"another claim":          {ScopeRule{Claim: "permissions"}, map[string]any{"permissions": []string{"forecast.read"}}, "forecast.read"},
		"a mapping":              {ScopeRule{Claim: "realm_access.roles", Map: map[string][]string{"reader": {"forecast.read"}, "admin": {"forecast.read", "stations.write"}}}, roles, "forecast.read stations.write"},
		"a mapping without them": {ScopeRule{Map: map[string][]string{"x": {"stations.write"}}}, map[string]any{"scope": "stations.write"}, ""},
	} {
		s := newSite(t, func(_ *Options, trust *Trust) { trust.Scopes = c.rule })
		got, err := s.Authenticate(t.Context(), clientAddress, s.idp.token(t, c.claims))
		if err != nil || strings.Join(got.Scopes, " ") != c.want {
			t.Errorf("%s: %q, %v", name, got.Scopes, err)
		}
	}
}
