package resource

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of configured texts in refusals, in bytes.
const (
	maxContact = 200
	maxLink    = 500
)

// CheckContact checks a contact: a text on one line, which may be a mailto: or
// https: address.
func CheckContact(text string) error {
	scheme, rest, isURL := strings.Cut(text, ":")
	switch {
	case text == "":
		return nil
	case len(text) > maxContact || !utf8.ValidString(text) || strings.TrimSpace(text) != text ||
		strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		return fmt.Errorf("contact: want a text of at most %d bytes on one line", maxContact)
	case isURL && strings.EqualFold(scheme, "mailto"):
		if a, err := mail.ParseAddress(rest); err != nil || a.Address != rest || strings.ContainsAny(rest, "?&#%") {
			return errors.New("contact: after mailto: comes an e-mail address and nothing else, as in mailto:billing@example.com")
		}
	case isURL && strings.HasPrefix(rest, "//"):
		if _, err := CheckLink(text); err != nil {
			return fmt.Errorf("contact: %w", err)
		}
	}
	return nil
}

// CheckTopUp checks the URL for buying credits.
func CheckTopUp(text string) error {
	switch {
	case text == "":
		return nil
	case len(text) > maxLink || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("topup_url: want a URL of at most %d ASCII characters", maxLink)
	}
	if _, err := CheckLink(text); err != nil {
		return fmt.Errorf("topup_url: %w", err)
	}
	return nil
}
