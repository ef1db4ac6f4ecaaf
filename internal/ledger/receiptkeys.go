package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ReceiptKeys are the public keys that verify an installation's receipts, the
// oldest first. Their JSON is a JWK set (RFC 7517) of OKP keys on Ed25519 (RFC 8037),
// which may be published.
type ReceiptKeys []ed25519.PublicKey

// MaxReceiptKeys bounds the JSON of a set of keys in bytes. There is room for several
// thousand keys.
const MaxReceiptKeys = 1 << 20

// ErrPrivateKey says that a set of public keys contains a private or symmetric key.
var ErrPrivateKey = errors.New("it has a private key in it, which must never be handed out: " +
	"use the set of the public keys alone, and replace that private key if anybody else may have seen it")

type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	X         string `json:"x"`
}

// MarshalJSON returns the JWK set of the keys.
func (k ReceiptKeys) MarshalJSON() ([]byte, error) {
	list := make([]jwk, len(k))
	for i, key := range k {
		list[i] = jwk{"OKP", "Ed25519", KeyID(key), "sig", algorithm, base64.RawURLEncoding.EncodeToString(key)}
	}
	return json.Marshal(map[string][]jwk{"keys": list})
}

// ParseReceiptKeys parses a JWK set. It skips and counts the keys that cannot be
// receipt keys because of their type, use or id (RFC 7517, section 5). A set that is
// not strict JSON or is longer than MaxReceiptKeys is an error. A set with a private
// key is ErrPrivateKey. Errors never repeat the input.
func ParseReceiptKeys(text []byte) (keys ReceiptKeys, ignored int, err error) {
	if len(text) > MaxReceiptKeys {
		return nil, 0, fmt.Errorf("the JWK set is longer than %d bytes", MaxReceiptKeys)
	}
	set, err := members(text)
	if err != nil {
		return nil, 0, fmt.Errorf("not a JWK set: %w", err)
	}
	if holdsSecret(set) { // the text is a single JWK, not a set
		return nil, 0, ErrPrivateKey
	}
	var list []json.RawMessage
	if err := json.Unmarshal(set["keys"], &list); err != nil || list == nil {
		return nil, 0, errors.New(`not a JWK set: it has no list of "keys"`)
	}
	for i, raw := range list {
		key, err := parseKey(raw)
		if err != nil {
			return nil, 0, fmt.Errorf("key %d of the JWK set: %w", i+1, err)
		}
		switch {
		case key == nil:
			ignored++
		case !keys.Has(key):
			keys = append(keys, key)
		}
	}
	return keys, ignored, nil
}

// Has reports whether k contains the key.
func (k ReceiptKeys) Has(key ed25519.PublicKey) bool {
	return slices.ContainsFunc(k, func(other ed25519.PublicKey) bool { return other.Equal(key) })
}

// parseKey returns the public key in a JWK, or nil if the JWK is not a receipt key.
func parseKey(raw []byte) (ed25519.PublicKey, error) {
	found, err := members(raw)
	if err != nil {
		return nil, err
	}
	if holdsSecret(found) {
		return nil, ErrPrivateKey
	}
	is := func(name string, allowed ...string) bool {
		var text string
		return json.Unmarshal(found[name], &text) == nil && slices.Contains(allowed, text)
	}
	given := func(name string) bool { return found[name] != nil }
	if !is("kty", "OKP") || !is("crv", "Ed25519") ||
		given("use") && !is("use", "sig") ||
		given("alg") && !is("alg", algorithm, "Ed25519") { // RFC 9864 calls the same algorithm "Ed25519"
		return nil, nil
	}
	var x string
	if err := json.Unmarshal(found["x"], &x); err != nil {
		return nil, errors.New(`it has no "x"`)
	}
	key, err := decodeURL(x)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf(`its "x" is not %d bytes in base64url`, ed25519.PublicKeySize)
	}
	if given("kid") && !is("kid", KeyID(key)) { // the id of a receipt key is its KeyID
		return nil, nil
	}
	return key, nil
}

// holdsSecret reports whether a JWK has a private member (RFC 7518, sections 6.2.2,
// 6.3.2 and 6.4; RFC 8037, section 2), or the "priv" of newer key types.
func holdsSecret(key map[string]json.RawMessage) bool {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := key[name]; ok {
			return true
		}
	}
	return false
}
