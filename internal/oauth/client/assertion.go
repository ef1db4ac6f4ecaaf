package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// assertionType is the client_assertion_type of a JWT (RFC 7523, 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Bounds of assertions.
const (
	maxAssertion = 16 << 10 // bytes
	maxLife      = 10 * time.Minute
	skew         = time.Minute // between the client's clock and the one of this process
	maxJTI       = 512         // bytes
)

// claims are those of an assertion (RFC 7523, 3).
type claims struct {
	Issuer    string         `json:"iss"`
	Subject   string         `json:"sub"`
	Audience  jsontext.Value `json:"aud"`
	Expires   *float64       `json:"exp"`
	NotBefore *float64       `json:"nbf"`
	IssuedAt  *float64       `json:"iat"`
	ID        string         `json:"jti"`
}

// assertion is a parsed assertion. Its signature was not verified yet.
type assertion struct {
	jws    *jose.JSONWebSignature
	claims claims
	kid    string
	alg    jose.SignatureAlgorithm
}

// parseAssertion reads an assertion. Its claims prove nothing until verify has returned.
func parseAssertion(text string) (*assertion, error) {
	if len(text) > maxAssertion {
		return nil, fmt.Errorf("it has more than %d bytes", maxAssertion)
	}
	jws, err := jose.ParseSignedCompact(text, signingAlgs)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, fmt.Errorf("it is not a JWT with the algorithm %s", strings.Join(SigningAlgs(), " or "))
	}
	header := jws.Signatures[0].Protected
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := header.ExtraHeaders[name]; ok {
			return nil, errors.New("its header has an extension that is not understood")
		}
	}
	if typ, ok := header.ExtraHeaders[jose.HeaderType]; ok && !isAssertionType(typ) {
		return nil, errors.New("its typ is another one than JWT or client-authentication+jwt")
	}
	a := &assertion{jws: jws, kid: header.KeyID, alg: jose.SignatureAlgorithm(header.Algorithm)}
	if err := strict.Unmarshal(jws.UnsafePayloadWithoutVerification(), &a.claims); err != nil {
		return nil, fmt.Errorf("its claims: %w", malformed(err))
	}
	return a, nil
}

// isAssertionType reports whether a typ is one of an assertion, so that no token made for
// another purpose is taken for one (RFC 8725, 3.11).
func isAssertionType(typ any) bool {
	text, _ := typ.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "client-authentication+jwt"
}

// verify checks the signature by any of the keys.
func (a *assertion) verify(keys []jose.JSONWebKey) bool {
	return slices.ContainsFunc(keys, func(key jose.JSONWebKey) bool {
		_, err := a.jws.Verify(key.Key)
		return err == nil
	})
}

// check checks the claims except the id of the assertion, and returns when it expires.
func (c *claims) check(client string, audiences []string, now time.Time) (expires time.Time, err error) {
	switch {
	case c.Issuer != client || c.Subject != client:
		return expires, errors.New("iss and sub must be the client_id")
	case !c.isFor(audiences):
		return expires, errors.New("aud is neither this issuer nor its token endpoint")
	case c.ID == "" || len(c.ID) > maxJTI:
		return expires, fmt.Errorf("jti is missing, or has more than %d bytes", maxJTI)
	case c.Expires == nil:
		return expires, errors.New("exp is missing")
	}
	expires, ok := instant(*c.Expires)
	switch {
	case !ok || !now.Before(expires.Add(skew)):
		return expires, errors.New("it has expired")
	case expires.Sub(now) > maxLife+skew:
		return expires, fmt.Errorf("exp is more than %d minutes ahead", maxLife/time.Minute)
	}
	for _, from := range []*float64{c.NotBefore, c.IssuedAt} {
		if from == nil {
			continue
		}
		if t, ok := instant(*from); !ok || t.After(now.Add(skew)) {
			return expires, errors.New("nbf or iat is in the future")
		}
	}
	return expires, nil
}

// isFor reports whether aud, a string or a list of strings, has one of the audiences.
func (c *claims) isFor(audiences []string) bool {
	var one string
	if strict.Unmarshal(c.Audience, &one) == nil {
		return slices.Contains(audiences, one)
	}
	var list []string
	return strict.Unmarshal(c.Audience, &list) == nil &&
		slices.ContainsFunc(list, func(aud string) bool { return slices.Contains(audiences, aud) })
}

// instant returns the time of a NumericDate (RFC 7519, 2). The bool is false for a number
// that is not the time of an assertion.
func instant(seconds float64) (time.Time, bool) {
	if !(seconds > 0 && seconds < 1<<40) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(seconds * 1e6)), true
}

// byAssertion authenticates a client by private_key_jwt.
func (r *Registry) byAssertion(ctx context.Context, req *Request, form *credentials) (*Client, error) {
	if form.assertionType != assertionType {
		return nil, refuse(InvalidClient, "client_assertion_type: want "+assertionType)
	}
	a, err := parseAssertion(form.assertion)
	if err != nil {
		return nil, refuse(InvalidClient, "client_assertion: "+err.Error())
	}
	client := a.claims.Subject
	if form.id != "" && form.id != client {
		return nil, refuse(InvalidClient, "client_id is not the sub of the assertion")
	}
	// The claims come first: an assertion that cannot be valid has nothing fetched.
	now := r.now()
	expires, err := a.claims.check(client, req.Audiences, now)
	if err != nil {
		return nil, refuse(InvalidClient, "client_assertion: "+err.Error())
	}
	c, err := r.Find(ctx, req.Source, client)
	if err != nil {
		return nil, err
	}
	if !c.MayUse(PrivateKeyJWT) {
		return nil, refuse(InvalidClient, "the client does not authenticate by private_key_jwt")
	}
	if c.signingAlg != "" && c.signingAlg != string(a.alg) {
		return nil, refuse(InvalidClient, "the algorithm is not the client's token_endpoint_auth_signing_alg")
	}
	keys, err := r.keysOf(ctx, req.Source, c, a)
	if err != nil {
		return nil, &Error{Code: Unavailable, Reason: "the client's keys could not be fetched", Wait: retryAfter, Cause: err}
	}
	if !a.verify(keys) {
		return nil, refuse(InvalidClient, "the assertion's signature is not by a key of the client")
	}
	return c, r.useOnce(ctx, c, a.claims.ID, now, expires)
}

// keysOf returns the keys of a client that fit an assertion.
func (r *Registry) keysOf(ctx context.Context, source netip.Addr, c *Client, a *assertion) ([]jose.JSONWebKey, error) {
	if c.jwksURI != "" {
		return r.keys.find(ctx, source, c.jwksURI, a.kid, a.alg)
	}
	keys, err := parseKeys(c.jwks)
	return fitting(keys, a.kid, a.alg), err
}

// useOnce stores the id of an assertion until it has expired, and refuses an id that was
// stored before. The rate of a client bounds the rows.
func (r *Registry) useOnce(ctx context.Context, c *Client, jti string, now, expires time.Time) error {
	if wait := r.assertions.Take(c.ID, now); wait > 0 {
		return &Error{Code: TooMany, Reason: "the client authenticates too often", Wait: wait}
	}
	err := r.store.UseOnce(ctx, id.Hash("assertion", c.ID, jti), expires.Add(skew))
	switch {
	case errors.Is(err, ledger.ErrExists):
		return refuse(InvalidClient, "the assertion was used before: each one needs another jti")
	case err != nil:
		return storeDown(err)
	}
	return nil
}
