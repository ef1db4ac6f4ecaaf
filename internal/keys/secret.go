package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
	"unsafe"
)

// A secret is a prefix and 64 lower-case hex digits. The first 56 are random
// (224 bits); the last 8 are the CRC-32 (IEEE) of all that precedes them,
// prefix included, so that a mistyped or invented secret is refused without a
// lookup.
const (
	secretDigits = 64
	randomBytes  = 28
	hintDigits   = 4
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
	var seen byte
	for i := len(prefix); i < len(secret); i++ {
		digit := hexValues[secret[i]]
		seen |= digit
		sum = sum<<4 | uint32(digit) // the last eight are what is left in it
	}
	if seen > 0xf {
		return Digest{}, ErrMalformed
	}
	// A view of the text, which nothing here writes to: crc32 calls through a
	// function value, so a copy of the text would escape to the heap.
	text := unsafe.Slice(unsafe.StringData(secret), len(secret))
	if crc32.ChecksumIEEE(text[:body]) != sum {
		return Digest{}, ErrMalformed
	}
	return sha256.Sum256(text), nil
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

// hexValues has the value of every lower-case hex digit, and 0xff for all other
// bytes. A table, because the branches of a comparison are as random as the
// digits: mispredicting them costs more than the SHA-256.
var hexValues = func() (values [256]byte) {
	for c := range values {
		values[c] = 0xff
	}
	for value, c := range []byte("0123456789abcdef") {
		values[c] = byte(value)
	}
	return values
}()
