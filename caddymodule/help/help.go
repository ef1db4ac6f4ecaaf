// Package help has the options that say where refusals send people for help.
package help

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// Help says where refusals send people for help. The zero Help sends them nowhere.
type Help struct {
	// The contact that refusals name: a text of at most 200 bytes on one line, such
	// as an e-mail address, or a `mailto:` or `https:` address. Default: none, or that of
	// the global option.
	Contact string `json:"contact,omitempty"`

	// The page to which refusals for lack of credits lead: an `https` URL. Default:
	// none, or that of the global option.
	TopUpURL string `json:"topup_url,omitempty"`

	// The clients to which no such page is shown, because their rules forbid links for
	// buying: hosts, and names of programs as User-Agent has them. The only entry `none`
	// stands for no client. Default: `chatgpt.com` and `openai-mcp`.
	TopUpHideFrom []string `json:"topup_hide_from,omitempty"`
}

// hiddenByDefault are the clients of ChatGPT. Its rules do not allow apps to sell digital
// goods.
var hiddenByDefault = []string{"chatgpt.com", "openai-mcp"}

// The bounds of configured texts, in bytes, and of the list of clients.
const (
	maxContact = 200
	maxLink    = 500
	maxClients = 100
)

// ParseContact reads the option contact:
//
//	contact <text>
func (h *Help) ParseContact(d *caddyfile.Dispenser) error {
	return grammar.Checked(&h.Contact, checkContact)(d)
}

// ParseTopUp reads the option topup_url:
//
//	topup_url <url> [{
//	    hide_from <client>...|none
//	}]
func (h *Help) ParseTopUp(d *caddyfile.Dispenser) error {
	if err := grammar.Checked(&h.TopUpURL, checkTopUp)(d); err != nil {
		return err
	}
	return grammar.Block(d, "topup_url", grammar.Subdirectives{"hide_from": func(d *caddyfile.Dispenser) error {
		h.TopUpHideFrom = d.RemainingArgs()
		if len(h.TopUpHideFrom) == 0 {
			return d.Err("hide_from: name at least one client, or none")
		}
		if err := checkClients(h.TopUpHideFrom); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}})
}

// Inherit sets the fields that are not set to those of the global option.
func (h *Help) Inherit(global *Help) {
	h.Contact = cmp.Or(h.Contact, global.Contact)
	if h.TopUpURL == "" {
		h.TopUpURL = global.TopUpURL
	}
	if len(h.TopUpHideFrom) == 0 {
		h.TopUpHideFrom = global.TopUpHideFrom
	}
}

// Check returns an error that says which option is wrong.
func (h *Help) Check() error {
	return errors.Join(checkContact(h.Contact), checkTopUp(h.TopUpURL), checkClients(h.TopUpHideFrom))
}

// Grants finds the grant of an access token by the digest of its secret.
// [*oauth.Service] implements it.
type Grants interface {
	GrantOf(context.Context, keys.Digest) (oauth.Grant, error)
}

// lookupTime bounds the search for a grant. A refusal does not wait longer.
const lookupTime = time.Second

// TopUp returns the page for buying credits, or "" without a page and for clients that must
// not see it. The client is known by its User-Agent, and with a token also by the
// authorization server: by the host that publishes it, the host to which its codes are
// sent, or its name. These are hints only, because the page is no secret.
//
// Grants may be nil. TopUp is safe for concurrent use if the Help does not change.
func (h *Help) TopUp(r *http.Request, caller *gate.Caller, grants Grants) string {
	hidden := h.TopUpHideFrom
	if len(hidden) == 0 {
		hidden = hiddenByDefault
	}
	if h.TopUpURL == "" || hidden[0] == "none" {
		return h.TopUpURL
	}
	names := append(programs(r.UserAgent()), caller.Client, hostOf(caller.Client))
	if k := caller.Key; k != nil && k.Kind == keys.Access && grants != nil {
		ctx, cancel := context.WithTimeout(r.Context(), lookupTime)
		defer cancel()
		if g, err := grants.GrantOf(ctx, k.Digest); err == nil {
			names = append(names, g.Client, g.ClientHost(), g.Host)
		}
	}
	for _, name := range names {
		for _, client := range hidden {
			if covers(client, name) {
				return ""
			}
		}
	}
	return h.TopUpURL
}

// covers reports whether a name is the client, or a host below it, with any port.
func covers(client, name string) bool {
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if len(name) > len(client) && strings.Contains(client, ".") && name[len(name)-len(client)-1] == '.' {
		name = name[len(name)-len(client):]
	}
	return name != "" && strings.EqualFold(name, client)
}

// programs returns the names of the products in a User-Agent (RFC 9110, section 10.1.5).
func programs(agent string) (names []string) {
	for _, word := range strings.FieldsFunc(agent, func(c rune) bool { return c == ' ' || c == ';' || c == '(' || c == ')' || c == ',' }) {
		name, _, _ := strings.Cut(word, "/")
		names = append(names, name)
	}
	return names
}

// hostOf returns the host of a client that is named by a URL, otherwise "".
func hostOf(client string) string {
	u, err := url.Parse(client)
	if err != nil {
		return ""
	}
	return u.Host
}

// checkClients checks the names of clients.
func checkClients(names []string) error {
	if len(names) > maxClients {
		return fmt.Errorf("hide_from: want at most %d clients", maxClients)
	}
	for _, name := range names {
		switch {
		case name == "none" && len(names) > 1:
			return errors.New("hide_from: none stands alone")
		case name == "" || strings.ContainsAny(name, "/:@ *") || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }):
			return fmt.Errorf("hide_from: %q is neither a host, such as chatgpt.com, nor a program's name in User-Agent without its version, such as openai-mcp", name)
		}
	}
	return nil
}

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
