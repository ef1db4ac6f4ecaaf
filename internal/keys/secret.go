package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"unsafe"
)

// A secret is a prefix and 64 lower-case hex digits. The first 56 digits are random
// (224 bits). The last 8 are the CRC-32 (IEEE) of everything before them, including
// the prefix, so that mistyped and invented secrets are refused without a lookup.
const (
	secretDigits = 64
	hintDigits   = 4
)

// SecretBytes is the number of random bytes in a secret.
const SecretBytes = 28

// Format is the form of an installation's secrets. It is immutable.
type Format struct {
	prefixes []string // all accepted prefixes, such as "sk_live_"
	agent    string   // the prefix of new secrets up to the environment, such as "sk"
	personal string   // the prefix of new secrets of personal keys, such as "pat"
	lenient  bool
}

// FormatOptions configure a Format that differs from the default.
type FormatOptions struct {
	// Prefixes of secrets, such as "sk". New secrets get the first prefix; secrets with
	// the others stay valid. Default: "sk".
	Prefixes []string
	// PersonalPrefixes are the prefixes of secrets of personal keys. As in Prefixes, new
	// secrets get the first one. Default: "pat".
	PersonalPrefixes []string
	// Unchecked accepts every secret of 16 to 256 visible ASCII characters, for keys
	// that were minted by another system. Then even an invented secret costs a
	// lookup.
	Unchecked bool
}

// DefaultFormat is the format of the zero FormatOptions.
var DefaultFormat = Format{
	prefixes: append([]string{"sk_live_", "sk_test_", "pat_live_", "pat_test_"}, tokenPrefixes()...), agent: "sk", personal: "pat",
}

// tokenPrefixes returns the prefixes of the secrets of tokens, in both environments.
func tokenPrefixes() (prefixes []string) {
	for i := range kindRules {
		if family := kindRules[i].Token; family != "" {
			prefixes = append(prefixes, family+"_live_", family+"_test_")
		}
	}
	return prefixes
}

const maxPrefix = 32

// NewFormat returns the format with the given options. A prefix consists of 1 to 32
// characters from a-z, 0-9 and '_'. No two prefixes may be equal.
func NewFormat(o FormatOptions) (*Format, error) {
	f := Format{agent: "sk", personal: "pat", lenient: o.Unchecked}
	if len(o.Prefixes) > 0 {
		f.agent = o.Prefixes[0]
	}
	if len(o.PersonalPrefixes) > 0 {
		f.personal = o.PersonalPrefixes[0]
	}
	all := append([]string{f.agent}, o.Prefixes[min(1, len(o.Prefixes)):]...)
	all = append(append(all, f.personal), o.PersonalPrefixes[min(1, len(o.PersonalPrefixes)):]...)
	for i, family := range all {
		if !validPrefix(family) {
			return nil, fmt.Errorf("prefix %q of secrets is not allowed: want 1 to %d of a-z, 0-9 and '_'", family, maxPrefix)
		}
		if slices.Contains(all[:i], family) {
			return nil, fmt.Errorf("prefix %q of secrets is given twice", family)
		}
		f.prefixes = append(f.prefixes, family+"_live_", family+"_test_")
	}
	for _, prefix := range tokenPrefixes() {
		if slices.Contains(f.prefixes, prefix) {
			return nil, fmt.Errorf("prefix %q of secrets is that of OAuth tokens: choose another one", prefix)
		}
	}
	f.prefixes = append(f.prefixes, tokenPrefixes()...)
	return &f, nil
}

func validPrefix(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxPrefix
}

// Prefix returns the prefix of new secrets for the kind and environment.
func (f *Format) Prefix(kind Kind, env Environment) string {
	switch rules := kind.Rules(); {
	case rules.Token != "":
		return rules.Token + "_" + string(env) + "_"
	case rules.Personal:
		return f.personal + "_" + string(env) + "_"
	}
	return f.agent + "_" + string(env) + "_"
}

// Mint returns a new secret for the kind and environment from the system's random
// source. The caller shows the secret only once, and keeps only its digest.
func (f *Format) Mint(kind Kind, env Environment) string {
	var random [SecretBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return f.Encode(kind, env, random)
}

// Encode returns the secret for the kind and environment that consists of the given
// random bytes. The bytes must be as hard to guess as those of a minted secret.
func (f *Format) Encode(kind Kind, env Environment, random [SecretBytes]byte) string {
	body := f.Prefix(kind, env) + hex.EncodeToString(random[:])
	return body + fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body)))
}

// TokenKind returns the kind of the token that a well-formed secret is by its prefix.
// The bool is false if the secret is malformed or not that of a token.
func (f *Format) TokenKind(secret string) (Kind, bool) {
	if _, err := f.Parse(secret); err != nil {
		return 0, false
	}
	for k := Agent; k.valid(); k++ {
		if family := k.Rules().Token; family != "" && (strings.HasPrefix(secret, family+"_live_") || strings.HasPrefix(secret, family+"_test_")) {
			return k, true
		}
	}
	return 0, false
}

// Mint calls Format.Mint of DefaultFormat.
func Mint(kind Kind, env Environment) string { return DefaultFormat.Mint(kind, env) }

// Created reports whether a text has the form of the secrets that people create, valid or
// not, rather than that of a token of OAuth. In an unchecked format, every text that is
// neither a token of Farebox nor a JWT can be such a secret.
func (f *Format) Created(text string) bool {
	prefix, known := f.prefixOf(text)
	if known {
		return !slices.Contains(tokenPrefixes(), prefix)
	}
	return f.lenient && strings.Count(text, ".") != 2
}

// Parse calls Format.Parse of DefaultFormat.
func Parse(secret string) (Digest, error) { return DefaultFormat.Parse(secret) }

// Bounds on the length of an unchecked secret, in bytes.
const (
	minForeign = 16
	maxForeign = 256
)

// parseForeign accepts any secret of visible ASCII characters within the bounds.
func parseForeign(secret string) (Digest, error) {
	if len(secret) < minForeign || len(secret) > maxForeign {
		return Digest{}, ErrMalformed
	}
	for _, c := range []byte(secret) {
		if c <= ' ' || c > '~' {
			return Digest{}, ErrMalformed
		}
	}
	return DigestOf(secret), nil
}

// Parse checks the form and the checksum of a secret and returns its digest.
// The only error is ErrMalformed, which never quotes the secret. Parse does not
// allocate unless the format is unchecked.
func (f *Format) Parse(secret string) (Digest, error) {
	if f.lenient {
		return parseForeign(secret)
	}
	prefix, ok := f.prefixOf(secret)
	if !ok || len(secret) != len(prefix)+secretDigits {
		return Digest{}, ErrMalformed
	}
	body := len(secret) - 8
	var sum uint32
	var seen byte
	for i := len(prefix); i < len(secret); i++ {
		digit := hexValues[secret[i]]
		seen |= digit
		sum = sum<<4 | uint32(digit) // after the loop, sum holds the last eight digits
	}
	if seen > 0xf {
		return Digest{}, ErrMalformed
	}
	// text is a read-only view of the secret, not a copy. A copy would escape to the
	// heap, because crc32 calls through a function value.
	text := unsafe.Slice(unsafe.StringData(secret), len(secret))
	if crc32.ChecksumIEEE(text[:body]) != sum {
		return Digest{}, ErrMalformed
	}
	return sha256.Sum256(text), nil
}

// Hint returns the part of a secret that may always be shown: its prefix and its last
// four digits, which belong to the checksum. The hint of a secret without a known
// prefix is "".
func (f *Format) Hint(secret string) string {
	prefix, ok := f.prefixOf(secret)
	if !ok || len(secret) < len(prefix)+hintDigits {
		return ""
	}
	return prefix + "…" + secret[len(secret)-hintDigits:]
}

// Hint calls Format.Hint of DefaultFormat.
func Hint(secret string) string { return DefaultFormat.Hint(secret) }

func (f *Format) prefixOf(secret string) (string, bool) {
	for _, p := range f.prefixes {
		if strings.HasPrefix(secret, p) {
			return p, true
		}
	}
	return "", false
}

// hexValues maps every lower-case hex digit to its value and all other bytes to 0xff.
// It is a table because comparing random digits would mispredict branches, which costs
// more than the SHA-256.
var hexValues = func() (values [256]byte) {
	for c := range values {
		values[c] = 0xff
	}
	for value, c := range []byte("0123456789abcdef") {
		values[c] = byte(value)
	}
	return values
}()
