// Package issuers configures which other authorization servers' access tokens a site
// accepts: the subdirective issuer.
package issuers

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/issuer"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Issuer is the authorization server of somebody else. A site accepts its access tokens.
// See docs/oauth.md.
type Issuer struct {
	// The identifier of the issuer, exactly as it stands in its tokens and metadata.
	// Required.
	Issuer string `json:"issuer"`

	// The audiences, one of which a token must be for. Default: the `resource` of the
	// site's option `oauth`, with and without a slash at its end.
	Audience []string `json:"audience,omitempty"`

	// The account that a token pays from. Required.
	Account *Account `json:"account,omitempty"`

	// Whether an account is made at the first call of a subject that has none. Default:
	// such a subject is refused.
	Create *Create `json:"create,omitempty"`

	// The claim with the scopes: a text of words, or a list of texts. Default: `scope`, or
	// else `scp`.
	Scopes string `json:"scopes,omitempty"`

	// The scopes for each value of that claim. Default: the values are the scopes.
	// Scopes that are not declared are ignored.
	Map []Mapping `json:"map,omitempty"`

	// The signature algorithms that are accepted. Default: RS256, ES256, PS256, EdDSA.
	Algorithms []string `json:"algorithms,omitempty"`

	// Whether calls pay with `live` or `test` credits. Default: the site's only
	// environment, or else `live`.
	Environment string `json:"environment,omitempty"`

	// The address of the issuer's keys. Default: as its metadata say.
	JWKS string `json:"jwks,omitempty"`

	// How the issuer is asked about opaque tokens. Default: they are not accepted.
	Introspection *Introspection `json:"introspection,omitempty"`

	// The difference between clocks that is allowed, at most 2m. Default: 30s.
	Skew caddy.Duration `json:"skew,omitempty"`

	// The longest time between a token's iat and exp. Default: no bound.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// The most that each subject may spend: in one call, in a UTC day, and in a UTC
	// month, at all servers together.
	Caps *Caps `json:"caps,omitempty"`

	// The request rate of each subject, such as `60/1m burst 100`. Default: no limit.
	RateLimit string `json:"rate_limit,omitempty"`
}

// Account says which account a token pays from.
type Account struct {
	// The claim, or the path of a claim in objects, such as `org.id`.
	Claim string `json:"claim,omitempty"`

	// A CEL expression over `claims` that gives a text, instead of a claim.
	CEL string `json:"cel,omitempty"`

	// Whether the text is the exact id or name of any account. Otherwise it is a name
	// within the issuer.
	Trusted bool `json:"trusted,omitempty"`
}

// Create says how accounts are made.
type Create struct {
	// The starting credit. Default: none.
	Credit string `json:"credit,omitempty"`
}

// Mapping has the scopes for a value of a claim.
type Mapping struct {
	Value  string   `json:"value"`
	Scopes []string `json:"scopes"`
}

// Introspection says how the issuer is asked about opaque tokens.
type Introspection struct {
	// The address of the introspection endpoint.
	URL string `json:"url"`

	// Farebox's own id and secret at the issuer. Placeholders such as `{env.IDP_SECRET}`
	// keep the secret out of the config.
	ClientID string `json:"client_id"`
	Secret   string `json:"secret"`
}

// Caps limit the spending of each subject. Amounts are decimals. An empty amount is no
// limit.
type Caps struct {
	Call  string `json:"call,omitempty"`
	Day   string `json:"day,omitempty"`
	Month string `json:"month,omitempty"`
}

// place returns the field for a period, or nil if there is no such period.
func (c *Caps) place(period string) *string {
	return map[string]*string{"call": &c.Call, "day": &c.Day, "month": &c.Month}[period]
}

// Check returns an error for a config that cannot work. All scopes must be in declared.
func (i *Issuer) Check(declared *keys.Catalogue) error {
	o := i.options("x")
	if err := o.Check(); err != nil {
		return err
	}
	if i.Environment != "" {
		if _, err := keys.ParseEnvironment(i.Environment); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	for at, m := range i.Map {
		if err := declared.Check(m.Scopes, false); err != nil {
			return fmt.Errorf("map: %w", err)
		}
		if slices.ContainsFunc(i.Map[:at], func(other Mapping) bool { return other.Value == m.Value }) {
			return fmt.Errorf("map: the value %q is given twice", m.Value)
		}
	}
	if slices.Contains(i.Audience, "") {
		return errors.New("audience: want a text")
	}
	if _, err := i.rule(); err != nil {
		return err
	}
	_, err := i.limits()
	return err
}

// options returns the options of the source, without its transport, metrics and logger.
// The secret of the introspection is the parameter.
func (i *Issuer) options(secret string) issuer.Options {
	o := issuer.Options{
		Issuer: i.Issuer, JWKS: i.JWKS, Algorithms: i.Algorithms, Skew: time.Duration(i.Skew), MaxLifetime: time.Duration(i.MaxLifetime),
	}
	if n := i.Introspection; n != nil {
		o.Introspection = &issuer.Introspection{URL: n.URL, ClientID: n.ClientID, Secret: secret}
	}
	return o
}

// rule returns the rule for accounts.
func (i *Issuer) rule() (r issuer.AccountRule, err error) {
	a := i.Account
	switch {
	case a == nil || a.Claim == "" && a.CEL == "":
		return r, errors.New("want account: the claim that names the account, as in: account sub")
	case a.Claim != "" && a.CEL != "":
		return r, errors.New("account: want a claim or an expression, not both")
	case a.Trusted && i.Create != nil:
		return r, errors.New("create: a trusted account is one that exists: leave trusted or create out")
	}
	r.Claim, r.Trusted = a.Claim, a.Trusted
	if a.CEL != "" {
		if r.Expression, err = pricing.CompileText(a.CEL, "claims"); err != nil {
			return r, fmt.Errorf("account: %w", err)
		}
	}
	if i.Create == nil {
		return r, nil
	}
	r.Create = true
	if i.Create.Credit == "" {
		return r, nil
	}
	if r.Credit, err = ledger.ParseAmount(i.Create.Credit); err != nil {
		return r, fmt.Errorf("create: %w", err)
	}
	if r.Credit <= 0 {
		return r, errors.New("create: the credit must be above zero; leave it out to have none")
	}
	return r, nil
}

// limits returns the limits of each subject, or nil without any.
func (i *Issuer) limits() (*keys.Limits, error) {
	if i.Caps == nil && i.RateLimit == "" {
		return nil, nil
	}
	l := new(keys.Limits)
	if i.RateLimit != "" {
		var err error
		if l.Rate, err = keys.ParseRate(i.RateLimit); err != nil {
			return nil, fmt.Errorf("rate_limit: %w", err)
		}
	}
	if i.Caps == nil {
		return l, nil
	}
	for _, c := range [...]struct {
		period, text string
		into         *int64
	}{{"call", i.Caps.Call, &l.Call}, {"day", i.Caps.Day, &l.Day}, {"month", i.Caps.Month, &l.Month}} {
		if c.text == "" {
			continue
		}
		amount, err := ledger.ParseAmount(c.text)
		if err != nil {
			return nil, fmt.Errorf("cap for a %s: %w", c.period, err)
		}
		if amount <= 0 {
			return nil, fmt.Errorf("cap for a %s: %s is not above zero; leave the cap out to have none", c.period, c.text)
		}
		*c.into = int64(amount)
	}
	return l, nil
}
