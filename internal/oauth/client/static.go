package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Declared is a client of the config.
type Declared struct {
	ID, Name     string
	Secrets      []Digest // any of them authenticates, so that a secret can be replaced; none for a public client
	RedirectURIs []string // exact; a loopback URI stands for all its ports
	// Account, by name or id, makes it a client of its own: with client_credentials it gets
	// tokens that the account pays for, with the Scopes. Such a client needs a secret.
	Account string
	Scopes  []string
}

// minSecret is the shortest secret of the config in bytes. A stored digest of a shorter
// one could be guessed.
const minSecret = 24

// ParseSecret returns the digest of a secret of the config. The text is the secret itself,
// or "sha256:" and the digest of the secret in hexadecimal. The error does not repeat it.
func ParseSecret(text string) (Digest, error) {
	if digits, ok := strings.CutPrefix(text, "sha256:"); ok {
		var d Digest
		if b, err := hex.DecodeString(digits); err != nil || copy(d[:], b) != len(d) || len(b) != len(d) {
			return Digest{}, errors.New("secret: want sha256: and 64 hexadecimal digits")
		}
		return d, nil
	}
	if len(text) < minSecret {
		return Digest{}, fmt.Errorf("secret: want at least %d characters, as made by openssl rand -hex 32, or sha256: and its digest", minSecret)
	}
	return sha256.Sum256([]byte(text)), nil
}

// static returns the client of a declaration.
func (d *Declared) static() (*Client, error) {
	if d.ID == "" || len(d.ID) > maxURI || strings.HasPrefix(d.ID, registeredPrefix) {
		return nil, fmt.Errorf("client %q: the id is empty, too long, or begins as those of registered clients", d.ID)
	}
	for _, c := range []byte(d.ID) {
		if c <= ' ' || c > '~' {
			return nil, fmt.Errorf("client %q: the id may have printable ASCII only, without spaces", d.ID)
		}
	}
	c := &Client{ID: d.ID, Name: displayName(d.Name), Kind: Static, RedirectURIs: slices.Clone(d.RedirectURIs), secrets: slices.Clone(d.Secrets), Account: d.Account, Scopes: slices.Clone(d.Scopes)}
	c.AuthMethods = []AuthMethod{None}
	if len(d.Secrets) > 0 {
		c.AuthMethods = []AuthMethod{SecretBasic, SecretPost}
	}
	for _, uri := range d.RedirectURIs {
		if _, ok := parseLoopback(uri); ok && checkURI(uri) == nil {
			continue
		}
		if err := CheckPattern(uri); err != nil || strings.HasSuffix(uri, "*") {
			return nil, fmt.Errorf("client %s: %w", d.ID, orElse(err, "an asterisk is not possible in the redirect URI of a client"))
		}
	}
	if len(d.RedirectURIs) > 0 {
		c.GrantTypes = []string{GrantCode, GrantRefresh}
	}
	switch {
	case d.Account != "" && len(d.Secrets) == 0:
		return nil, fmt.Errorf("client %s: a client with an account needs a secret, or anyone could spend that account's money", d.ID)
	case d.Account != "":
		c.GrantTypes = append(c.GrantTypes, GrantCredentials)
	case len(d.RedirectURIs) == 0:
		// Agents without a browser need no redirect URI.
		c.GrantTypes = []string{GrantRefresh}
	}
	c.GrantTypes = append(c.GrantTypes, GrantDevice)
	return c, nil
}

func orElse(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}
