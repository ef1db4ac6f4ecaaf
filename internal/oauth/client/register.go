package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
)

// How long registrations are kept.
const (
	KeepUnfinished = 24 * time.Hour      // after the registration, until a first grant
	KeepUnused     = 90 * 24 * time.Hour // after the last use
	// keepCrowded replaces KeepUnfinished while MaxUnfinished is reached, so that a flood
	// ends after an hour. A person grants within minutes.
	keepCrowded = time.Hour
)

// Bounds of registrations. Only unfinished ones count, because one address can register
// the clients of many persons: hosted agents come from few addresses.
const (
	MaxUnfinished         = 10_000
	maxUnfinishedBySource = 500
	registrationBurst     = 60 // one network, at once
	registrationEvery     = 2 * time.Second
)

// registeredPrefix begins the ids of registered clients.
const registeredPrefix = "fbclient_"

// secretPrefix begins the secrets of registered clients.
const secretPrefix = "fbclientsecret_"

// Response is the body of the response to a registration (RFC 7591, 3.2.1). Its status is
// 201, and no cache may store it.
type Response struct {
	ClientID string `json:"client_id"`
	IssuedAt int64  `json:"client_id_issued_at"`
	// Secret is for clients that asked for one. It is shown only here.
	Secret        string          `json:"client_secret,omitempty"`
	SecretExpires *int64          `json:"client_secret_expires_at,omitempty"` // 0 with a secret: never
	Name          string          `json:"client_name,omitempty"`
	RedirectURIs  []string        `json:"redirect_uris"`
	Method        AuthMethod      `json:"token_endpoint_auth_method"`
	SigningAlg    string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	GrantTypes    []string        `json:"grant_types"`
	ResponseTypes []string        `json:"response_types"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`

	// Dropped lists the redirect URIs that were refused while others were registered.
	Dropped []string `json:"-"`
}

// Register registers the client that the metadata in the body of a request describe.
// Redirect URIs that are not allowed are left out, because clients register all that they
// may ever use at once. Errors are *Error.
func (r *Registry) Register(ctx context.Context, source netip.Addr, body []byte) (*Response, error) {
	if r.options.NoRegistration {
		return nil, refuse(InvalidRequest, "this server does not register clients")
	}
	now, network := r.now(), fetch.Network(source)
	if wait := r.registrations.Take(network, now); wait > 0 {
		return nil, &Error{Code: TooMany, Reason: "too many registrations from this address: try again later", Wait: wait}
	}
	m, err := parse(body)
	if err != nil {
		return nil, refuse(InvalidMetadata, err.Error())
	}
	dropped, err := m.accept(r.policy)
	if err != nil {
		return nil, err
	}
	if err := r.admit(ctx, network, now); err != nil {
		return nil, err
	}
	row := &Registration{ID: id.New(registeredPrefix), Name: m.Name, Metadata: m.encode(), Source: network, CreatedAt: now}
	var secret string
	if hasSecret(AuthMethod(m.Method)) {
		secret, row.Secret = newSecret()
	}
	if err := r.store.InsertRegistration(ctx, row); err != nil {
		return nil, storeDown(err)
	}
	return m.response(row, secret, dropped), nil
}

// accept replaces the metadata of a registration by those that are registered (RFC 7591,
// 3.2.1), and returns the redirect URIs that were dropped. Its errors are *Error.
func (m *metadata) accept(p policy) (dropped []string, err error) {
	m.ClientID, m.Methods, m.Secret, m.SecretExpires = "", nil, nil, nil // for the server to choose
	m.Name = displayName(m.Name)
	if m.Grants = m.grants(); m.Grants == nil {
		return nil, refuse(InvalidMetadata, "grant_types: none is possible here; want "+GrantCode)
	}
	needsURI := slices.Contains(m.Grants, GrantCode)
	if needsURI && m.Responses != nil && !slices.Contains(m.Responses, "code") {
		return nil, refuse(InvalidMetadata, "response_types: want code")
	}
	m.Responses = []string{}
	if needsURI {
		m.Responses = []string{"code"}
	}
	if m.URIs, dropped, err = p.choose(Registered, m.URIs); err != nil {
		return nil, refuse(InvalidRedirectURI, err.Error())
	}
	if m.URIs == nil && (needsURI || dropped != nil) {
		return nil, refuse(InvalidRedirectURI, errNoRedirect.Error())
	}
	return dropped, m.acceptMethod(p)
}

// acceptMethod chooses the method of authentication of a registration. A client that names
// none becomes a public one: RFC 7591 has client_secret_basic as the default, but a secret
// that was not asked for gets lost.
func (m *metadata) acceptMethod(p policy) error {
	switch AuthMethod(m.Method) {
	case "", None:
		m.Method, m.JWKS, m.JWKSURI, m.SigningAlg = string(None), nil, "", ""
	case SecretBasic, SecretPost:
		m.JWKS, m.JWKSURI, m.SigningAlg = nil, "", ""
	case PrivateKeyJWT:
		if err := m.keys(new(Client), p); err != nil {
			return refuse(InvalidMetadata, err.Error())
		}
	default:
		return refuse(InvalidMetadata, "token_endpoint_auth_method: want none, private_key_jwt, client_secret_basic or client_secret_post")
	}
	return nil
}

// response returns the response to a registration.
func (m *metadata) response(row *Registration, secret string, dropped []string) *Response {
	resp := &Response{
		ClientID: row.ID, IssuedAt: row.CreatedAt.Unix(), Secret: secret, Name: m.Name, RedirectURIs: m.URIs,
		Method: AuthMethod(m.Method), SigningAlg: m.SigningAlg, GrantTypes: m.Grants, ResponseTypes: m.Responses,
		JWKS: json.RawMessage(m.JWKS), JWKSURI: m.JWKSURI, Dropped: dropped,
	}
	if resp.RedirectURIs == nil {
		resp.RedirectURIs = []string{}
	}
	if secret != "" {
		resp.SecretExpires = new(int64)
	}
	return resp
}

// admit refuses a registration if too many are unfinished. Registrations at the same time
// can exceed the bounds by their number.
func (r *Registry) admit(ctx context.Context, network string, now time.Time) error {
	bySource, total, err := r.store.CountUnfinished(ctx, network)
	if err == nil && total >= MaxUnfinished {
		if _, err = r.store.DeleteRegistrations(ctx, now.Add(-keepCrowded), now.Add(-KeepUnused)); err == nil {
			bySource, total, err = r.store.CountUnfinished(ctx, network)
		}
	}
	switch {
	case err != nil:
		return storeDown(err)
	case bySource >= maxUnfinishedBySource:
		return &Error{Code: TooMany, Reason: "too many registrations from this address that were never used: try again later", Wait: keepCrowded}
	case total >= MaxUnfinished:
		return &Error{Code: TooMany, Reason: "too many registrations that were never used: try again later", Wait: keepCrowded}
	}
	return nil
}

// registered returns a registered client, or an *Error. The redirect URIs obey today's
// config.
func (r *Registry) registered(ctx context.Context, client string) (*Client, error) {
	uuid, ok := strings.CutPrefix(client, registeredPrefix)
	if !ok || !id.Valid(uuid) {
		return nil, errUnknown
	}
	row, err := r.store.Registration(ctx, client)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, errUnknown
	}
	if err != nil {
		return nil, storeDown(err)
	}
	if expired(&row, r.now()) {
		return nil, errUnknown
	}
	m, err := parse(row.Metadata)
	if err != nil {
		return nil, storeDown(err)
	}
	c := &Client{ID: row.ID, Name: m.Name, Kind: Registered, GrantTypes: m.Grants, CreatedAt: row.CreatedAt, UsedAt: row.UsedAt}
	if c.RedirectURIs, _, err = r.policy.choose(Registered, m.URIs); err != nil {
		return nil, storeDown(err)
	}
	switch method := AuthMethod(m.Method); {
	case hasSecret(method):
		// Clients that registered for one form often use the other.
		c.AuthMethods, c.secrets = []AuthMethod{SecretBasic, SecretPost}, []Digest{row.Secret}
	case method == PrivateKeyJWT:
		c.AuthMethods, c.jwks, c.jwksURI, c.signingAlg = []AuthMethod{method}, m.JWKS, m.JWKSURI, m.SigningAlg
	default:
		c.AuthMethods = []AuthMethod{None}
	}
	return c, nil
}

// expired reports whether a registration should have been deleted.
func expired(row *Registration, now time.Time) bool {
	if row.UsedAt.IsZero() {
		return now.Sub(row.CreatedAt) >= KeepUnfinished
	}
	return now.Sub(row.UsedAt) >= KeepUnused
}

func hasSecret(m AuthMethod) bool { return m == SecretBasic || m == SecretPost }

// newSecret returns a new secret and its digest.
func newSecret() (string, Digest) {
	var b [32]byte
	rand.Read(b[:]) // crypto/rand never returns an error; it ends the program instead
	secret := secretPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, sha256.Sum256([]byte(secret))
}
