package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of metadata.
const (
	MaxDocument     = 64 << 10 // bytes of a metadata document
	MaxRegistration = 64 << 10 // bytes of the body of a registration
	maxName         = 100      // bytes of a name
)

// metadata are the members of a client's metadata that this server heeds (RFC 7591, 2).
// All others are ignored, such as those with links and logos, which a page of this server
// never shows.
type metadata struct {
	ClientID   string         `json:"client_id,omitzero"`
	Name       string         `json:"client_name,omitzero"`
	URIs       []string       `json:"redirect_uris,omitzero"`
	Method     string         `json:"token_endpoint_auth_method,omitzero"`
	Methods    []string       `json:"token_endpoint_auth_methods_supported,omitzero"`
	SigningAlg string         `json:"token_endpoint_auth_signing_alg,omitzero"`
	Grants     []string       `json:"grant_types,omitzero"`
	Responses  []string       `json:"response_types,omitzero"`
	JWKS       jsontext.Value `json:"jwks,omitzero"`
	JWKSURI    string         `json:"jwks_uri,omitzero"`

	Secret        jsontext.Value `json:"client_secret,omitzero"`
	SecretExpires jsontext.Value `json:"client_secret_expires_at,omitzero"`
}

// parse reads metadata. It refuses duplicate members anywhere, because another program
// could read the other one, and invalid UTF-8 (RFC 8259, 4 and 8.1).
func parse(body []byte) (*metadata, error) {
	if len(body) > MaxDocument {
		return nil, fmt.Errorf("the JSON has more than %d bytes", MaxDocument)
	}
	m := new(metadata)
	if err := strict.Unmarshal(body, m); err != nil {
		return nil, malformed(err)
	}
	if isNull(m.JWKS) {
		m.JWKS = nil
	}
	return m, nil
}

func isNull(v jsontext.Value) bool { return len(v) == 0 || v.Kind() == 'n' }

// malformed returns an error that names the place of a mistake in JSON, and not the
// value, which could be a secret.
func malformed(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Errorf("the JSON has a member twice: %.100s", syntax.JSONPointer)
		}
		return fmt.Errorf("the text is not JSON, at byte %d", syntax.ByteOffset)
	}
	var semantic *strict.SemanticError
	if errors.As(err, &semantic) {
		return fmt.Errorf("the member %.100s has a value of another type", semantic.JSONPointer)
	}
	return errors.New("the text is not the JSON of an object")
}

// grants returns the grant types of metadata that this server has. By default a client
// has authorization codes; RFC 7591 does not add refresh tokens, but clients that leave
// the member out expect them.
func (m *metadata) grants() []string {
	if len(m.Grants) == 0 {
		return []string{GrantCode, GrantRefresh}
	}
	var kept []string
	for _, g := range []string{GrantCode, GrantRefresh, GrantDevice} {
		if slices.Contains(m.Grants, g) {
			kept = append(kept, g)
		}
	}
	return kept
}

// keys checks the members that are about the keys of assertions, and puts them into the
// client.
func (m *metadata) keys(c *Client, p policy) error {
	switch {
	case m.SigningAlg != "" && !slices.Contains(SigningAlgs(), m.SigningAlg):
		return fmt.Errorf("token_endpoint_auth_signing_alg: want %s", strings.Join(SigningAlgs(), " or "))
	case m.JWKS != nil && m.JWKSURI != "":
		return errors.New("jwks and jwks_uri exclude each other")
	case m.JWKS != nil:
		if _, err := parseKeys(m.JWKS); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
		c.jwks = m.JWKS
	case !p.web(m.JWKSURI):
		return errors.New("private_key_jwt needs jwks, or jwks_uri with https")
	default:
		c.jwksURI = m.JWKSURI
	}
	c.signingAlg = m.SigningAlg
	return nil
}

// displayName returns a claimed name without characters that could change how a page or
// a terminal shows it, such as a change of the writing direction, and in one line.
func displayName(claimed string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, claimed)
	name = strings.Join(strings.Fields(name), " ")
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return name
}

// encode returns the JSON of metadata. It cannot fail: all members came from JSON.
func (m *metadata) encode() []byte {
	text, err := strict.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}
