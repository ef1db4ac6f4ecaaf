package people

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// secretBytes is the number of random bytes in a secret. With so many bytes a secret
// cannot be guessed, not even from its digest.
const secretBytes = 32

// newSecret returns a secret with the prefix, and its digest.
func newSecret(prefix string) (string, Digest) {
	var b [secretBytes]byte
	rand.Read(b[:]) // crypto/rand never returns an error; it ends the program instead
	secret := prefix + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, digestOf(secret)
}

// parseSecret returns the digest of a secret. The bool reports whether the secret is
// well-formed; a lookup of any other secret is unnecessary.
func parseSecret(prefix, secret string) (Digest, bool) {
	rest, ok := strings.CutPrefix(secret, prefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return Digest{}, false
	}
	return digestOf(secret), true
}

// normalEmail returns an e-mail address in the form in which it is stored. Only ASCII
// is allowed, because other addresses can look alike.
func normalEmail(email string) (string, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	local, domain, ok := strings.Cut(email, "@")
	ok = ok && local != "" && len(email) <= MaxEmail && strings.Contains(domain, ".") &&
		!strings.HasPrefix(domain, ".") && !strings.HasSuffix(domain, ".") && !strings.Contains(domain, "..")
	for _, c := range []byte(domain) {
		ok = ok && (c == '.' || c == '-' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9')
	}
	for _, c := range []byte(local) {
		ok = ok && c > ' ' && c < 0x7f && !strings.ContainsRune("\"(),:;<>[\\]", rune(c))
	}
	if !ok {
		return "", &InputError{Field: "email", Message: "this is not an e-mail address: want one as in alice@example.com, in ASCII"}
	}
	return email, nil
}

// domainOf returns the domain of an e-mail address.
func domainOf(email string) string {
	_, domain, _ := strings.Cut(email, "@")
	return domain
}

// normalName returns a name without surrounding spaces. It refuses control characters,
// which could change how a terminal or a page shows the name.
func normalName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, hidden) {
		return "", &InputError{Field: "name", Message: "the name is too long or has characters that cannot be shown"}
	}
	return name, nil
}

// hidden reports whether a character is a control or format character, such as a
// change of the writing direction, or a line or paragraph separator.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// shown returns the client in the form in which it is stored and shown: with a short
// User-Agent without control characters.
func shown(c Client) Client {
	c.Agent = strings.ToValidUTF8(c.Agent, "")
	c.Agent = strings.Map(func(r rune) rune {
		if hidden(r) {
			return -1
		}
		return r
	}, c.Agent)
	if len(c.Agent) > MaxAgent {
		c.Agent = strings.ToValidUTF8(c.Agent[:MaxAgent], "")
	}
	c.Address = c.Address.Unmap().WithZone("")
	return c
}
