package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
)

// A secret is a prefix and 64 lower-case hex digits. The first 56 are random
// (224 bits); the last 8 are the CRC-32 (IEEE) of all that precedes them,
// prefix included, so that a mistyped or invented secret is refused without a
// lookup.
const (
	secretDigits = 64
	randomBytes  = 28
	hintDigits   = 4

	// MaxSecret bounds the length of a secret in bytes, the prefix included.
	MaxSecret = 128
)

// prefixes of secrets, by family and environment.
var prefixes = [...]string{"sk_live_", "sk_test_", "pat_live_", "pat_test_"}

// Prefix returns the prefix that secrets of the kind and environment begin with.
func Prefix(kind Kind, env Environment) string {
	family := "sk"
	if kind == Personal {
		family = "pat"
	}
	return family + "_" + string(env) + "_"
}

// Mint makes a new secret for the kind and environment from the system's
// random source. The caller shows it once and keeps only its digest.
func Mint(kind Kind, env Environment) string {
	var random [randomBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	body := Prefix(kind, env) + hex.EncodeToString(random[:])
	return body + fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body)))
}

// Parse checks the form and the checksum of a secret and returns its digest.
// Its only error is ErrMalformed, which never quotes the secret. It does not
// allocate.
func Parse(secret string) (Digest, error) {
	prefix, ok := prefixOf(secret)
	if !ok || len(secret) != len(prefix)+secretDigits {
		return Digest{}, ErrMalformed
	}
	body := len(secret) - 8
	var sum uint32
	for i := len(prefix); i < len(secret); i++ {
		digit, ok := hexDigit(secret[i])
		if !ok {
			return Digest{}, ErrMalformed
		}
		if i >= body {
			sum = sum<<4 | uint32(digit)
		}
	}
	var text [MaxSecret]byte // on the stack: a conversion to []byte would allocate
	n := copy(text[:], secret)
	if crc32.ChecksumIEEE(text[:body]) != sum {
		return Digest{}, ErrMalformed
	}
	return sha256.Sum256(text[:n]), nil
}

// Hint returns what may be shown of a secret for ever: its prefix and its last
// four digits, which are part of the checksum.
func Hint(secret string) string {
	prefix, ok := prefixOf(secret)
	if !ok || len(secret) < len(prefix)+hintDigits {
		return ""
	}
	return prefix + "…" + secret[len(secret)-hintDigits:]
}

func prefixOf(secret string) (string, bool) {
	for _, p := range prefixes {
		if strings.HasPrefix(secret, p) {
			return p, true
		}
	}
	return "", false
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	default:
		return 0, false
	}
}
