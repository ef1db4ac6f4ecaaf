package caddymodule

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/caddymodule/resource"
)

// The bounds of configured texts in refusals, in bytes.
const (
	maxContact = 200
	maxLink    = 500
)

// checkContact checks a contact: a text on one line, which may be a mailto: or
// https: address.
func checkContact(text string) error {
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
		if _, err := resource.CheckLink(text); err != nil {
			return fmt.Errorf("contact: %w", err)
		}
	}
	return nil
}

// checkTopUp checks the URL for buying credits.
func checkTopUp(text string) error {
	switch {
	case text == "":
		return nil
	case len(text) > maxLink || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("topup_url: want a URL of at most %d ASCII characters", maxLink)
	}
	if _, err := resource.CheckLink(text); err != nil {
		return fmt.Errorf("topup_url: %w", err)
	}
	return nil
}

// compileHelp fills in the contact and the URL for buying credits from the global
// option where the handler has none, and checks both.
func (h *Handler) compileHelp(app *App) error {
	if h.Contact == "" {
		h.Contact = app.Contact
	}
	if h.TopUpURL == "" {
		h.TopUpURL = app.TopUpURL
	}
	return errors.Join(checkContact(h.Contact), checkTopUp(h.TopUpURL))
}
