// Package alerts configures how alerts leave the process: the option alerts.
package alerts

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/notify"
)

// Alerts says how alerts are sent. Without it, alerts are shown in the console and by
// `farebox alert list` only.
type Alerts struct {
	// The pause between two evaluations: an alert is at most that late. Default: 30s.
	Every caddy.Duration `json:"every,omitempty"`

	// The addresses that get each alert as a signed request.
	Webhooks []Webhook `json:"webhooks,omitempty"`

	// The mail server, and the people that get e-mails.
	Email *Email `json:"email,omitempty"`
}

// Webhook is an address that gets alerts.
type Webhook struct {
	// The URL: https, or http to a loopback address. Placeholders such as `{env.ALERTS_URL}`
	// keep it out of the config.
	URL string `json:"url"`

	// The secrets that sign the requests, in the form of Standard Webhooks: `whsec_` and
	// 24 to 64 bytes in base64. Placeholders such as `{env.ALERTS_SECRET}` keep them out of
	// the config.
	Secrets []string `json:"secrets"`
}

// Email is the mail server, and the people that get e-mails.
type Email struct {
	// The host and the port of the mail server. TLS is required, except for a loopback
	// address: port 465 has TLS from the beginning, and other ports have STARTTLS.
	SMTP string `json:"smtp"`

	// The name and the password of Farebox at the mail server. Placeholders such as
	// `{env.SMTP_PASSWORD}` keep them out of the config. Default: no authentication.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`

	// The sender: an address, or a name and an address.
	From string `json:"from"`

	// The addresses that get the alerts of all accounts. Default: none.
	To []string `json:"to,omitempty"`

	// Whether the owners of an account get no e-mails about it. Default: they do.
	NoOwners bool `json:"no_owners,omitempty"`
}

const (
	minEvery = time.Second
	maxEvery = time.Hour
)

// Check returns an error for a config that cannot work. Config checks texts with
// placeholders.
func (a *Alerts) Check() error {
	if a == nil {
		return nil
	}
	if a.Every != 0 && (time.Duration(a.Every) < minEvery || time.Duration(a.Every) > maxEvery) {
		return fmt.Errorf("alerts: every is from %s to %s, not %s", minEvery, maxEvery, time.Duration(a.Every))
	}
	for _, w := range a.Webhooks {
		if len(w.Secrets) == 0 {
			return errors.New("alerts: a webhook needs a secret, which signs its requests: make one with echo whsec_$(openssl rand -base64 32)")
		}
	}
	if e := a.Email; e != nil {
		switch {
		case e.SMTP == "":
			return errors.New("alerts: email needs the mail server, as in: smtp mail.example.com:587")
		case e.From == "":
			return errors.New("alerts: email needs a sender, as in: from alerts@example.com")
		case len(e.To) == 0 && e.NoOwners:
			return errors.New("alerts: email has no recipients: add the option to, or let owners be on")
		}
	}
	if _, _, err := a.channels(nil, plain); !errors.Is(err, errLater) {
		return err
	}
	return nil
}

// Config returns the config of the service. owners finds the owners of accounts, or is
// nil if the store keeps no people.
func (a *Alerts) Config(currency string, owners notify.Owners) (alert.Config, error) {
	c := alert.Config{Currency: currency}
	if a == nil {
		return c, nil
	}
	c.Every = time.Duration(a.Every)
	hooks, email, err := a.channels(owners, resolve)
	if hooks != nil {
		c.Channels = append(c.Channels, hooks)
	}
	if email != nil {
		c.Channels = append(c.Channels, email)
	}
	return c, err
}

// channels makes the channels of the config. A channel that the config does not have is
// nil. resolve replaces placeholders in the texts of an option.
func (a *Alerts) channels(owners notify.Owners, resolve func(option string, texts ...string) ([]string, error)) (hooks *notify.Webhooks, email *notify.Email, err error) {
	var list []notify.Webhook
	for _, w := range a.Webhooks {
		resolved, err := resolve("webhook", append([]string{w.URL}, w.Secrets...)...)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, notify.Webhook{URL: resolved[0], Secrets: resolved[1:]})
	}
	if len(list) > 0 {
		if hooks, err = notify.NewWebhooks(list); err != nil {
			return nil, nil, fmt.Errorf("alerts: %w", err)
		}
	}
	e := a.Email
	if e == nil {
		return hooks, nil, nil
	}
	resolved, err := resolve("email", append([]string{e.SMTP, e.User, e.Password, e.From}, e.To...)...)
	if err != nil {
		return nil, nil, err
	}
	if e.NoOwners {
		owners = nil
	}
	email, err = notify.NewEmail(notify.EmailOptions{SMTP: resolved[0], User: resolved[1], Password: resolved[2], From: resolved[3], To: resolved[4:], Owners: owners})
	if err != nil {
		return nil, nil, fmt.Errorf("alerts: %w", err)
	}
	return hooks, email, nil
}

// resolve replaces placeholders. An unknown placeholder is an error, because its own
// text would otherwise be used as a secret.
func resolve(option string, texts ...string) (resolved []string, err error) {
	replacer := caddy.NewReplacer()
	for _, text := range texts {
		if text != "" {
			if text, err = replacer.ReplaceOrErr(text, true, true); err != nil {
				return nil, fmt.Errorf("alerts: %s: %w", option, err)
			}
		}
		resolved = append(resolved, text)
	}
	return resolved, nil
}

// errLater says that texts have placeholders, which cannot be replaced yet.
var errLater = errors.New("a text has a placeholder")

// plain returns the texts if they have no placeholders.
func plain(_ string, texts ...string) ([]string, error) {
	if strings.Contains(strings.Join(texts, ""), "{") {
		return nil, errLater
	}
	return texts, nil
}

// Parse reads the option:
//
//	alerts {
//	    every <duration>
//	    webhook <url> {
//	        secret <secret>...
//	    }
//	    email {
//	        smtp <host>:<port>
//	        user <name>
//	        password <password>
//	        from <address>
//	        to <address>...
//	        owners on|off
//	    }
//	}
func Parse(into **Alerts) grammar.Parser {
	return func(d *caddyfile.Dispenser) error {
		a := new(Alerts)
		if d.NextArg() {
			return d.Errf("alerts takes a block and no arguments, not %q", d.Val())
		}
		err := grammar.Block(d, "alerts", grammar.Subdirectives{
			"every": grammar.Duration(&a.Every), "webhook": a.parseWebhook, "email": a.parseEmail,
		}, "webhook")
		if err == nil {
			if err = a.Check(); err != nil {
				err = d.WrapErr(err)
			}
		}
		*into = a
		return err
	}
}

func (a *Alerts) parseWebhook(d *caddyfile.Dispenser) error {
	var w Webhook
	if err := grammar.Arg(d, &w.URL); err != nil {
		return err
	}
	err := grammar.Block(d, "webhook", grammar.Subdirectives{"secret": grammar.Texts(&w.Secrets)})
	a.Webhooks = append(a.Webhooks, w)
	return err
}

func (a *Alerts) parseEmail(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("email takes a block and no arguments, not %q", d.Val())
	}
	e := new(Email)
	a.Email = e
	owners := true
	err := grammar.Block(d, "email", grammar.Subdirectives{
		"smtp": grammar.Text(&e.SMTP), "user": grammar.Text(&e.User), "password": grammar.Text(&e.Password), "from": grammar.Text(&e.From), "to": grammar.Texts(&e.To),
		"owners": grammar.Switch(&owners),
	})
	e.NoOwners = !owners
	return err
}
