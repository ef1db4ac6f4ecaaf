package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// isURL reports whether a client id is the URL of a metadata document.
func isURL(id string) bool { return strings.HasPrefix(id, httpsPrefix) }

// checkID returns an error unless a URL may be a client id: https with a host and a path,
// and without a fragment, user information or dot segments
// (draft-ietf-oauth-client-id-metadata-document, 3).
func (p policy) checkID(id string) error {
	if err := checkURI(id); err != nil {
		return fmt.Errorf("client_id: %w", err)
	}
	if !p.web(id) {
		return errors.New("client_id: want an https URL with the name of a host in lower case")
	}
	if u, err := url.Parse(id); err != nil || u.Path == "" || u.Path == "/" {
		return errors.New("client_id: want the URL of a document, with a path")
	}
	return nil
}

// published returns the client that a metadata document describes.
func (p policy) published(id string, body []byte) (*Client, error) {
	m, err := parse(body)
	if err != nil {
		return nil, err
	}
	switch {
	case m.ClientID != id:
		// Compared as strings (RFC 3986, 6.2.1): a document speaks for its own URL only.
		return nil, errors.New("the document's client_id is not its URL")
	case !isNull(m.Secret) || !isNull(m.SecretExpires):
		return nil, errors.New("the document has a client_secret, which everybody can read")
	}
	c := &Client{ID: id, Name: displayName(m.Name), Kind: Published, GrantTypes: m.grants()}
	if c.GrantTypes == nil {
		return nil, errors.New("the document has no grant type that is possible here")
	}
	if c.RedirectURIs, _, err = p.choose(Published, m.URIs); err != nil {
		return nil, err
	}
	if c.RedirectURIs == nil && c.HasGrant(GrantCode) {
		return nil, errNoRedirect
	}
	if err := m.publishedMethods(c, p); err != nil {
		return nil, err
	}
	return c, nil
}

// publishedMethods puts the methods of authentication that are possible for a document
// into the client. With token_endpoint_auth_methods_supported, the document lists all
// methods of the client, and token_endpoint_auth_method is only the one that it likes
// best. Methods with a secret are impossible, because a document is public. A document
// without either member has a public client.
func (m *metadata) publishedMethods(c *Client, p policy) error {
	methods := m.Methods
	if len(methods) == 0 {
		methods = []string{cmp.Or(m.Method, string(None))}
	}
	if slices.Contains(methods, string(None)) {
		c.AuthMethods = append(c.AuthMethods, None)
	}
	var err error
	if slices.Contains(methods, string(PrivateKeyJWT)) {
		if err = m.keys(c, p); err == nil {
			c.AuthMethods = append(c.AuthMethods, PrivateKeyJWT)
		}
	}
	switch {
	case c.AuthMethods != nil:
		return nil // keys that cannot be used do not matter with the other method
	case err != nil:
		return err
	}
	return errors.New("the document's token_endpoint_auth_method is not possible for a document: want none or private_key_jwt")
}
