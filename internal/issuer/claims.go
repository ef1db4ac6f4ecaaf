package issuer

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/clock"
)

// maxSubject bounds the length of a subject, in bytes (OpenID Connect Core, 2, has the
// same number of characters).
const maxSubject = 255

// claims are the members of a verified token, or of the response about an opaque one.
type claims map[string]any

// readClaims reads a JSON object. Its numbers stay texts, so that large ones are exact. It
// refuses objects that parsers read differently, because the issuer may have checked
// another reading.
func readClaims(text []byte) (claims, error) {
	if !isObject(text) {
		return nil, invalid("its claims are not a JSON object, or a member is there twice")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var c claims
	if err := d.Decode(&c); err != nil {
		return nil, invalid("its claims cannot be read")
	}
	return c, nil
}

// text returns a claim that must be a text, or "" if it is absent.
func (c claims) text(name string) (string, error) {
	v, ok := c[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", invalid("its claim %s is not a text", name)
	}
	return s, nil
}

// maxNumericDate is a time in the year 5138. Later ones are mistakes.
const maxNumericDate = 1e11

// instant returns a claim that must be a NumericDate (RFC 7519, 2), or the zero time if it
// is absent.
func (c claims) instant(name string) (time.Time, error) {
	v, ok := c[name]
	if !ok {
		return time.Time{}, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, invalid("its claim %s is not a number", name)
	}
	seconds, err := n.Float64()
	if err != nil || seconds <= 0 || seconds > maxNumericDate {
		return time.Time{}, invalid("its claim %s is not a time", name)
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}

// texts returns a claim that is a text or a list of texts. A claim of another kind is
// nothing.
func (c claims) texts(name string) []string {
	switch v := c.member(name).(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil
			}
			all = append(all, s)
		}
		return all
	}
	return nil
}

// member returns a claim by its name, or by a path of names with dots between them, such as
// realm_access.roles. The whole name takes precedence.
func (c claims) member(name string) any {
	if v, ok := c[name]; ok {
		return v
	}
	var at any = map[string]any(c)
	for part := range strings.SplitSeq(name, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[part]
	}
	return at
}

// verified are the claims that say whether others may be believed.
var verified = map[string]string{"email": "email_verified", "phone_number": "phone_number_verified"}

// believable returns the claims without those that the issuer has not verified: anybody can
// give somebody else's e-mail address.
func (c claims) believable() claims {
	kept := make(claims, len(c))
	for name, v := range c {
		if by, must := verified[name]; !must || c[by] == true {
			kept[name] = v
		}
	}
	return kept
}

// facts are the contents of a verified token.
type facts struct {
	subject string
	client  string // id of the client that got the token; "" if the token does not say
	expires time.Time
	claims  claims // believable ones
}

// refusedClaims are claims of tokens that are not access tokens for a bearer, with the
// reason.
var refusedClaims = map[string]string{
	"cnf":    "it is bound to a key (RFC 7800), which Farebox cannot check",
	"events": "it is a security event token",
}

// idClaims are claims that only ID tokens have (OpenID Connect Core, 2 and 3.3.2.11).
var idClaims = []string{"nonce", "at_hash", "c_hash"}

// check checks the claims that signed tokens and responses about opaque ones have in
// common. An expired token passes: the gate refuses it as expired.
func (s *Source) check(c claims, audiences []string) (*facts, error) {
	for name, reason := range refusedClaims {
		if _, ok := c[name]; ok {
			return nil, invalid("%s", reason)
		}
	}
	audience, isText := c["aud"].(string)
	named := []string{audience}
	if !isText {
		named = c.texts("aud")
	}
	if !slices.ContainsFunc(named, func(aud string) bool { return aud != "" && slices.Contains(audiences, aud) }) {
		return nil, invalid("it is for another audience")
	}
	subject, err := c.text("sub")
	if err != nil {
		return nil, err
	}
	if subject == "" || len(subject) > maxSubject || !utf8.ValidString(subject) {
		return nil, invalid("its claim sub is missing or too long")
	}
	expires, err := s.checkTimes(c)
	if err != nil {
		return nil, err
	}
	f := &facts{subject: subject, expires: expires, claims: c.believable()}
	for _, name := range []string{"client_id", "azp"} {
		if client, ok := c[name].(string); ok && f.client == "" {
			f.client = plain(client, maxPlainSubject, upperCase+":/")
		}
	}
	return f, nil
}

// checkTimes checks the times of a token. It returns the end of the token with the allowed
// skew, or the zero time without an end.
func (s *Source) checkTimes(c claims) (time.Time, error) {
	var times [3]time.Time
	for i, name := range []string{"exp", "nbf", "iat"} {
		var err error
		if times[i], err = c.instant(name); err != nil {
			return time.Time{}, err
		}
	}
	expires, begins, issued := times[0], times[1], times[2]
	latest := clock.Now().Add(s.o.Skew)
	switch {
	case begins.After(latest):
		return time.Time{}, invalid("it is not valid yet")
	case issued.After(latest):
		return time.Time{}, invalid("it was issued in the future")
	case s.o.MaxLifetime > 0 && (issued.IsZero() || expires.IsZero() || expires.Sub(issued) > s.o.MaxLifetime):
		return time.Time{}, invalid("its lifetime is longer than %s, or it has no iat or exp", s.o.MaxLifetime)
	case expires.IsZero():
		return expires, nil
	}
	return expires.Add(s.o.Skew), nil
}
