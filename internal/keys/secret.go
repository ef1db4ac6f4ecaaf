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
	randomBytes  = 28
	hintDigits   = 4
)

// Format is the form of an installation's secrets. It is immutable.
type Format struct {
	prefixes []string // all accepted prefixes, such as "sk_live_"
	agent    string   // the prefix of new secrets up to the environment, such as "sk"
	personal string   // the same for personal keys, such as "pat"
	lenient  bool
}

// FormatOptions configure a Format that differs from the default.
type FormatOptions struct {
	// Prefixes of secrets, such as "sk". New secrets get the first one; the others
	// stay valid. Default: "sk".
	Prefixes []string
	// PersonalPrefixes are the same for personal keys. Default: "pat".
	PersonalPrefixes []string
	// Unchecked accepts every secret of 16 to 256 visible ASCII characters, for keys
	// that were minted by another system. Then even an invented secret costs a
	// lookup.
	Unchecked bool
}

// DefaultFormat is the format of the zero FormatOptions.
var DefaultFormat = Format{
	prefixes: []string{"sk_live_", "sk_test_", "pat_live_", "pat_test_"}, agent: "sk", personal: "pat",
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
	if kind.Rules().Personal {
		return f.personal + "_" + string(env) + "_"
	}
	return f.agent + "_" + string(env) + "_"
}

// Mint returns a new secret for the kind and environment from the system's random
// source. The caller shows the secret only one time, and keeps only its digest.
func (f *Format) Mint(kind Kind, env Environment) string {
	var random [randomBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	body := f.Prefix(kind, env) + hex.EncodeToString(random[:])
	return body + fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body)))
}

// Mint calls Format.Mint of DefaultFormat.
func Mint(kind Kind, env Environment) string { return DefaultFormat.Mint(kind, env) }

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
