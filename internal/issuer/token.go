package issuer

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxToken bounds the length of a token, in bytes.
const maxToken = 16 << 10

// MaxToken returns the bound on the length of a token, in bytes.
func MaxToken() int { return maxToken }

// unverified is a signed token (JWS in compact form) before its signature was checked.
type unverified struct {
	text    string
	alg     jose.SignatureAlgorithm
	kid     string
	access  bool // the type says that it is an access token
	payload []byte
	issuer  string
}

// header is the header of a token (RFC 7515, 4.1). Other members mean nothing: a key
// in a token is never used to verify it.
type header struct {
	Alg  string         `json:"alg"`
	Kid  string         `json:"kid"`
	Typ  string         `json:"typ"`
	Crit jsontext.Value `json:"crit"`
}

var segments = base64.RawURLEncoding.Strict()

// readToken reads a token that has the form of a JWS in compact form: three parts, and a
// JSON object in the first one. The result isJWS reports whether the token has that form. An
// encrypted token (JWE, with five parts) is an opaque one. With an error, the token is a JWS
// and is refused.
func readToken(text string) (u *unverified, isJWS bool, err error) {
	first, rest, _ := strings.Cut(text, ".")
	second, third, ok := strings.Cut(rest, ".")
	if !ok || strings.ContainsAny(third, ".") || strings.ContainsAny(text, "\r\n") {
		return nil, false, nil
	}
	head, err := segments.DecodeString(first)
	if err != nil || len(head) == 0 || head[0] != '{' {
		return nil, false, nil
	}
	payload, err := segments.DecodeString(second)
	if _, signed := segments.DecodeString(third); err != nil || signed != nil || len(text) > maxToken {
		return nil, true, invalid("it is not a JWS in compact form, or too long")
	}
	u = &unverified{text: text, payload: payload}
	if err := u.readHeader(head); err != nil {
		return nil, true, err
	}
	var named struct {
		Issuer any `json:"iss"`
	}
	if !isObject(payload) || strict.Unmarshal(payload, &named) != nil {
		return nil, true, invalid("its claims are not a JSON object, or a member is there twice")
	}
	u.issuer, _ = named.Issuer.(string)
	return u, true, nil
}

// readHeader checks the header, except for the algorithm.
func (u *unverified) readHeader(text []byte) error {
	var h header
	if !isObject(text) || strict.Unmarshal(text, &h) != nil {
		return invalid("its header is not a JSON object, or a member is there twice")
	}
	if h.Crit != nil {
		return invalid("its header has critical extensions")
	}
	switch strings.TrimPrefix(strings.ToLower(h.Typ), "application/") {
	case "at+jwt":
		u.access = true
	case "", "jwt":
	default:
		return invalid("its type is not that of an access token")
	}
	u.alg, u.kid = jose.SignatureAlgorithm(h.Alg), h.Kid
	return nil
}

// verify verifies a signed token: its signature, its issuer and its claims.
func (s *Source) verify(ctx context.Context, u *unverified, audiences []string) (*facts, error) {
	signed, err := jose.ParseSignedCompact(u.text, s.algorithms)
	if err != nil {
		return nil, invalid("it is not a JWS, or its algorithm is not one of those that are accepted")
	}
	candidates, err := s.keys.find(ctx, u.kid, u.alg)
	switch {
	case errors.Is(err, errKeyUnknown):
		return nil, invalid("the issuer has no key of that id for that algorithm")
	case err != nil:
		return nil, s.unavailable(err)
	}
	payload, ok := payloadOf(signed, candidates)
	if !ok { // the issuer may have replaced a key without giving it another id
		payload, ok = payloadOf(signed, s.keys.findAgain(ctx, u.kid, u.alg))
	}
	if !ok {
		return nil, invalid("its signature is wrong")
	}
	c, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	if c["iss"] != s.o.Issuer {
		return nil, invalid("it is of another issuer")
	}
	if !u.access {
		for _, name := range idClaims {
			if _, ok := c[name]; ok {
				return nil, invalid("it is an ID token")
			}
		}
	}
	if _, ok := c["exp"]; !ok {
		return nil, invalid("it has no claim exp")
	}
	return s.check(c, audiences)
}

// payloadOf returns the payload of a token if one of the keys has signed it.
func payloadOf(signed *jose.JSONWebSignature, candidates []jose.JSONWebKey) ([]byte, bool) {
	for _, k := range candidates {
		if payload, err := signed.Verify(k.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}
