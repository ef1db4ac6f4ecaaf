package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// Signup lets people register without an invitation. Each person gets an account. To
// register, a person needs the code or a sign-in at the OpenID provider.
type Signup struct {
	// A secret that the operator gives to the people that may register. Placeholders such
	// as `{env.SIGNUP_CODE}` keep it out of the config. Default: none; then only users of
	// the OpenID provider can register.
	Code string `json:"code,omitempty"`

	// The domains of the e-mail addresses that may register. Nobody verifies an address
	// that is typed in. Default: all.
	Domains []string `json:"domains,omitempty"`

	// The starting credit of each account. Default: none.
	Credit ledger.Amount `json:"credit,omitempty"`
}

// OIDC is an OpenID provider that people can sign in by.
type OIDC struct {
	// The issuer's URL, as in its discovery document.
	Issuer string `json:"issuer"`

	// The client id of the console at the provider.
	ClientID string `json:"client_id"`

	// The client secret of the console at the provider. Placeholders such as
	// `{env.OIDC_SECRET}` keep it out of the config. Default: none, for a public
	// client.
	ClientSecret string `json:"client_secret,omitempty"`

	// The name of the provider, for the button. Default: the issuer's host.
	Name string `json:"name,omitempty"`

	// The domains of the verified e-mail addresses that may sign in. Default: all.
	Domains []string `json:"domains,omitempty"`

	// Scopes to ask for, in addition to openid, email and profile.
	Scopes []string `json:"scopes,omitempty"`

	// The claim with the groups of a user. Default: `groups`.
	GroupsClaim string `json:"groups_claim,omitempty"`

	// The accounts of which a user becomes a member at the first sign-in.
	Members []Member `json:"members,omitempty"`
}

// Member maps a domain or a group of an OpenID provider to an account.
type Member struct {
	// The domain of the user's verified e-mail address.
	Domain string `json:"domain,omitempty"`

	// A group of the user.
	Group string `json:"group,omitempty"`

	// The name or the id of the account.
	Account string `json:"account"`

	// The role at the account: `owner` or `viewer`.
	Role string `json:"role"`
}

// secret replaces the placeholders of a secret. An unknown placeholder is an error,
// because its own text would otherwise be used as the secret.
func secret(option, text string) (string, error) {
	found, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("farebox_console: %s: %w", option, err)
	}
	return found, nil
}

// settings returns the handler's settings for people, with the placeholders in secrets
// replaced.
func (h *Handler) settings() (s people.Settings, err error) {
	s = people.Settings{
		Origin: h.address.Scheme + "://" + h.address.Host, Link: h.link,
		InvitationLife: duration(h.InvitationLife), SessionIdle: duration(h.SessionIdle), SessionLife: duration(h.SessionLife),
	}
	if h.Signup != nil {
		s.Registration = &people.Registration{Domains: h.Signup.Domains, Credit: h.Signup.Credit}
		if s.Registration.Code, err = secret("signup", h.Signup.Code); err != nil {
			return s, err
		}
	}
	if o := h.OIDC; o != nil {
		s.Provider = &people.Provider{
			Issuer: o.Issuer, ClientID: o.ClientID, Name: cmp.Or(o.Name, hostOf(o.Issuer)), Callback: h.address.String() + "/signin/callback",
			Scopes: o.Scopes, Domains: o.Domains, GroupsClaim: o.GroupsClaim,
		}
		for _, m := range o.Members {
			s.Provider.Accounts = append(s.Provider.Accounts, people.ProviderAccount{Domain: m.Domain, Group: m.Group, Account: m.Account, Role: people.Role(m.Role)})
		}
		if s.Provider.ClientSecret, err = secret("oidc", o.ClientSecret); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Settings returns the settings for people in the JSON of a Handler, for commands that
// work without a server.
func Settings(handler []byte) (*people.Settings, error) {
	var h Handler
	if err := json.Unmarshal(handler, &h); err != nil {
		return nil, fmt.Errorf("farebox_console: %w", err)
	}
	var err error
	if h.address, err = parseAddress(h.Address); err != nil {
		return nil, err
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	settings, err := h.settings()
	return &settings, err
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Host
}

// checkPeople checks those options for people that can be checked without opening the
// store.
func (h *Handler) checkPeople() error {
	if h.Signup != nil && h.Signup.Code == "" && h.OIDC == nil {
		return errors.New("farebox_console: signup needs a code, or oidc beside it: an e-mail address that is typed in proves nothing")
	}
	if h.Signup != nil && h.Signup.Credit < 0 {
		return errors.New("farebox_console: the credit of signup cannot be below zero")
	}
	if h.OIDC == nil {
		return nil
	}
	for _, m := range h.OIDC.Members {
		if (m.Domain == "") == (m.Group == "") || m.Account == "" || !people.Role(m.Role).Valid() {
			return fmt.Errorf("farebox_console: oidc: a member has a domain or a group, an account, and the role owner or viewer: %+v", m)
		}
	}
	return nil
}

// parseSignup reads the block of the option signup.
func (h *Handler) parseSignup(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Err("signup takes a block and no arguments, with code, domains and credit")
	}
	h.Signup = &Signup{}
	return grammar.Block(d, "signup", grammar.Subdirectives{
		"code":    grammar.Text(&h.Signup.Code),
		"domains": lowered(&h.Signup.Domains),
		"credit": func(d *caddyfile.Dispenser) error {
			var text string
			err := grammar.Arg(d, &text)
			if err == nil {
				if h.Signup.Credit, err = ledger.ParseAmount(text); err != nil {
					err = d.WrapErr(err)
				}
			}
			return err
		},
	})
}

// parseOIDC reads the arguments and the block of the option oidc.
func (h *Handler) parseOIDC(d *caddyfile.Dispenser) error {
	o := &OIDC{}
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 {
		return d.Err("oidc: want the issuer, the client's id and its secret, as in: oidc https://login.example.com farebox {env.OIDC_SECRET}")
	}
	o.Issuer, o.ClientID = args[0], args[1]
	if len(args) == 3 {
		o.ClientSecret = args[2]
	}
	h.OIDC = o
	return grammar.Block(d, "oidc", grammar.Subdirectives{
		"name":         grammar.Text(&o.Name),
		"domains":      lowered(&o.Domains),
		"scopes":       grammar.Texts(&o.Scopes),
		"groups_claim": grammar.Text(&o.GroupsClaim),
		"member":       o.parseMember,
	}, "member")
}

func (o *OIDC) parseMember(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 4 || args[0] != "domain" && args[0] != "group" || !people.Role(args[3]).Valid() {
		return d.Err("member: want a domain or a group, an account and a role, as in: member domain example.com acme viewer")
	}
	m := Member{Account: args[2], Role: args[3]}
	if args[0] == "domain" {
		m.Domain = strings.ToLower(args[1])
	} else {
		m.Group = args[1]
	}
	o.Members = append(o.Members, m)
	return nil
}

// lowered returns a parser for one or more domains. The parser appends them to *into,
// in lower case.
func lowered(into *[]string) grammar.Parser {
	return func(d *caddyfile.Dispenser) error {
		var names []string
		if err := grammar.Args(d, &names); err != nil {
			return err
		}
		for _, name := range names {
			*into = append(*into, strings.ToLower(name))
		}
		return nil
	}
}
