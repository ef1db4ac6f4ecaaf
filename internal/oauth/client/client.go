// Package client knows the clients of the OAuth authorization server: clients that
// publish a metadata document (draft-ietf-oauth-client-id-metadata-document), clients
// that register themselves (RFC 7591), and clients from the operator's config. It
// answers which client a request comes from, and which redirect URIs the client may
// use. It has no HTTP server and no SQL.
package client

import (
	"crypto/sha256"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Kind says where the metadata of a client come from.
type Kind string

// The values of Kind.
const (
	// Published clients have a URL as their id, at which they publish their metadata.
	Published Kind = "document"
	// Registered clients have sent their metadata to the registration endpoint.
	Registered Kind = "registered"
	// Static clients are in the config.
	Static Kind = "static"
)

// AuthMethod is a way in which a client authenticates at the token endpoint. The values
// are those of token_endpoint_auth_method (RFC 7591, 2).
type AuthMethod string

// The values of AuthMethod.
const (
	None          AuthMethod = "none"
	PrivateKeyJWT AuthMethod = "private_key_jwt"
	SecretBasic   AuthMethod = "client_secret_basic"
	SecretPost    AuthMethod = "client_secret_post"
)

// AuthMethods lists the methods for token_endpoint_auth_methods_supported in the
// server's metadata. Some clients publish a document only if None is there, and others
// need PrivateKeyJWT.
var AuthMethods = []AuthMethod{None, PrivateKeyJWT, SecretBasic, SecretPost}

// The grant types that a client can have. Others in its metadata are ignored.
const (
	GrantCode        = "authorization_code"
	GrantRefresh     = "refresh_token"
	GrantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	GrantCredentials = "client_credentials" // only for static clients
)

// Digest is the SHA-256 of a secret or of an assertion's id.
type Digest [sha256.Size]byte

// Client is a client with its metadata, as far as this server heeds them. It must not be
// changed: callers share it.
type Client struct {
	ID string
	// Name is the name that the client claims, without control characters. Anyone can
	// claim any name, so a page must show Host and the target of the redirect, too.
	Name         string
	Kind         Kind
	RedirectURIs []string
	AuthMethods  []AuthMethod // at least one
	GrantTypes   []string
	// Account and Scopes are those of a static client's own grant, by client_credentials.
	Account   string
	Scopes    []string
	CreatedAt time.Time // zero except for registered clients
	UsedAt    time.Time // see Registration.UsedAt

	jwks       []byte // JSON of a key set; nil if jwksURI has it
	jwksURI    string
	signingAlg string // the only algorithm of its assertions; "" for any that is supported
	secrets    []Digest
}

// MayUse reports whether the client can authenticate by the method.
func (c *Client) MayUse(m AuthMethod) bool { return slices.Contains(c.AuthMethods, m) }

// HasGrant reports whether the client's metadata list the grant type.
func (c *Client) HasGrant(grant string) bool { return slices.Contains(c.GrantTypes, grant) }

// Host returns the host of a client id that is a URL, with a port if the URL has one. It
// names the publisher of the client, as far as the web proves names. It is "" for all
// other clients.
func (c *Client) Host() string {
	if !strings.HasPrefix(c.ID, httpsPrefix) {
		return ""
	}
	return Target(c.ID)
}

// Target returns the part of a redirect URI that says where the browser is sent. For a web
// address this is the host, with its port except on loopback. For any other URI it is the
// scheme and the host, as in cursor://anysphere.cursor-mcp.
func Target(uri string) string {
	if l, ok := parseLoopback(uri); ok {
		return l.host
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "https" || u.Scheme == "http":
		return u.Host
	}
	return u.Scheme + "://" + u.Host
}
