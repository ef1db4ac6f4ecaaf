package people

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// Defaults of Settings, and fixed durations.
const (
	DefaultInvitationLife = 30 * time.Minute
	DefaultSessionIdle    = 12 * time.Hour
	DefaultSessionLife    = 7 * 24 * time.Hour

	// CeremonyLife is how long a ceremony of a passkey or of the provider may take.
	CeremonyLife = 10 * time.Minute
	// FreshTime is how long after its sign-in a session may change the person's
	// credentials without the old password.
	FreshTime = 10 * time.Minute
	// touchEvery is the shortest time between two writes of a session's last request.
	touchEvery = time.Minute
)

// Accounts gives access to the accounts in the store. *admin.Service implements it.
type Accounts interface {
	// Account returns the account with the name or id, or an *admin.Error.
	Account(ctx context.Context, ref string) (ledger.Account, error)
	// OpenAccount creates the account of a person that registers, with the starting
	// credit. OpenAccount must be idempotent, because it is called again with the same
	// id after a crash. If the name is taken, OpenAccount chooses another one.
	OpenAccount(ctx context.Context, actor admin.Actor, id, name string, credit ledger.Amount) (ledger.Account, error)
	// AccountNames returns the names of accounts by id. It leaves out unknown ids.
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
}

// Options are the fixed parts of a Service. Now and Accounts must be set.
type Options struct {
	Now      func() time.Time // truncated to microseconds
	Accounts Accounts
	Logger   *slog.Logger // nil means no logging
}

// Settings are the part of the operator's config that concerns people. The zero
// value of a field means its default.
type Settings struct {
	// Origin is the scheme, host and port of the console, such as
	// https://console.example.com. "" means that no console is configured: no passkeys,
	// no provider, no links.
	Origin string
	// Link returns the address of the page at which the invitation with the secret is
	// accepted. Nil means that commands cannot make invitations, because without a link
	// nobody could accept them. The secret should be in the fragment, which browsers do
	// not send, so that no server logs it.
	Link           func(secret string) string
	InvitationLife time.Duration // for invitations without a Life
	SessionIdle    time.Duration // a session ends after this time without a request
	SessionLife    time.Duration // a session ends after this time even with requests
	Registration   *Registration // nil means that registration is closed
	Provider       *Provider     // nil means no provider
}

// Registration admits persons without an invitation. Each gets an account of its own.
// To register, a person needs the operator's code or a provider's user with a verified
// e-mail address. An address that is only typed in proves nothing.
type Registration struct {
	// Code is a secret that the operator gives to the people that may register. ""
	// means that only users of the provider can register.
	Code string
	// Domains are the allowed domains of e-mail addresses, in lower case. Empty means
	// all. With Code the domain is only a filter, because the address is not verified.
	Domains []string
	// Credit is the starting credit of the account; it may be 0.
	Credit ledger.Amount
}

// Provider is an external OpenID provider.
type Provider struct {
	Issuer       string   // an https URL; http is allowed for loopback addresses
	ClientID     string   //
	ClientSecret string   // "" if Farebox is a public client
	Name         string   // label of the button, such as "Example SSO"
	Callback     string   // address to which the provider redirects; it is below Origin
	Scopes       []string // requested in addition to openid, email and profile
	// Domains are the allowed domains of verified e-mail addresses, in lower case. Empty
	// means all.
	Domains []string
	// Accounts maps users to memberships at their first sign-in. A user gets the
	// membership of every entry with a Domain or Group that matches. A user without any
	// match needs Registration, or connects the provider to an existing person.
	Accounts []ProviderAccount
	// GroupsClaim is the claim with the user's groups. "" means "groups".
	GroupsClaim string
}

// ProviderAccount gives a membership to the users in a domain or a group. Exactly
// one of Domain and Group is set.
type ProviderAccount struct {
	Domain  string // domain of the verified e-mail address, in lower case
	Group   string // a group that the claim GroupsClaim contains
	Account string // name or id of the account
	Role    Role
}

// Grants ends the OAuth grants that persons have given. *oauth.Service implements it.
type Grants interface {
	// EndGrantsOfPersonExcept ends the grants of the person, except those at the expense of
	// the given accounts. No lookup accepts a token of the ended grants afterwards.
	EndGrantsOfPersonExcept(ctx context.Context, actor admin.Actor, person string, accounts []string) error
}

// Service manages the people of a store. It is safe for concurrent use.
type Service struct {
	store    Store
	o        Options
	current  atomic.Pointer[config]
	attempts *attempts
	pace     *pace
	hasher   *hasher
	grants   Grants // nil if persons give no grants
}

// config has checked settings and the objects that were made from them.
type config struct {
	Settings
	passkeys *webauthn.WebAuthn // nil if passkeys are not possible
	provider *provider          // nil if no provider is configured
}

// New returns a service that uses the store, with the default settings.
func New(store Store, o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{store: store, o: o, attempts: newAttempts(o.Now), pace: newPace(o.Now), hasher: newHasher(defaultCost)}
	s.current.Store(&config{Settings: withDefaults(Settings{})})
	return s
}

// WithGrants makes changes of a person end the grants that the person could not give any
// more. It returns the service. Call it before the service is used.
func (s *Service) WithGrants(g Grants) *Service {
	s.grants = g
	return s
}

func withDefaults(s Settings) Settings {
	s.InvitationLife = cmp.Or(s.InvitationLife, DefaultInvitationLife)
	s.SessionLife = cmp.Or(s.SessionLife, DefaultSessionLife)
	s.SessionIdle = cmp.Or(s.SessionIdle, min(DefaultSessionIdle, s.SessionLife))
	return s
}

// Configure applies the settings, also to existing sessions: a shorter life ends them
// earlier. The caller must not change the settings afterwards. If Configure returns an
// error, the former settings stay.
func (s *Service) Configure(settings Settings) error {
	c := &config{Settings: withDefaults(settings)}
	if err := c.check(); err != nil {
		return err
	}
	if c.Origin != "" {
		host, err := checkOrigin(c.Origin)
		if err != nil {
			return err
		}
		c.passkeys = newPasskeys(host, c.Origin)
	}
	if c.Provider != nil {
		made, err := newProvider(c.Provider, c.Origin, s.o.Now)
		if err != nil {
			return err
		}
		c.provider = made
		if before := s.current.Load().provider; before != nil && before.same(made) {
			c.provider = before // keep the former provider, which has read the metadata already
		}
	}
	s.current.Store(c)
	return nil
}

func (c *config) check() error {
	switch {
	case c.InvitationLife < time.Minute || c.InvitationLife > MaxInvitationLife:
		return fmt.Errorf("life of invitations %s: want 1m to %s", c.InvitationLife, MaxInvitationLife)
	case c.SessionIdle < time.Minute:
		return fmt.Errorf("idle time of sessions %s: want at least 1m", c.SessionIdle)
	case c.SessionLife < c.SessionIdle:
		return fmt.Errorf("life of sessions %s is less than their idle time %s", c.SessionLife, c.SessionIdle)
	case c.Registration != nil && c.Registration.Credit < 0:
		return fmt.Errorf("starting credit %s is less than zero", c.Registration.Credit)
	case c.Registration != nil && c.Registration.Code == "" && c.Provider == nil:
		return errors.New("registration needs a code or a provider: an address that is only typed in proves nothing")
	case c.Registration != nil && c.Registration.Code != "" && len(c.Registration.Code) < minCode:
		return fmt.Errorf("the code for registration has fewer than %d characters", minCode)
	}
	return nil
}

// minCode is the minimum length of a registration code in bytes.
const minCode = 16

// checkOrigin checks an origin and returns its host.
func checkOrigin(origin string) (host string, err error) {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || origin != strings.ToLower(origin) || u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || !secure(u) {
		return "", fmt.Errorf("origin %q: want it as browsers send it: https://host or https://host:port, in lower case, without the default port and without a path", origin)
	}
	return u.Hostname(), nil
}

// secure reports whether a URL is https, or http to a loopback host.
func secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && weburl.IsLoopback(u.Hostname())
}

// Settings returns the current settings with defaults filled in. The registration code
// and the client secret are left out.
func (s *Service) Settings() Settings {
	now := s.current.Load().Settings
	if now.Registration != nil {
		r := *now.Registration
		r.Code = ""
		now.Registration = &r
	}
	if now.Provider != nil {
		p := *now.Provider
		p.ClientSecret = ""
		now.Provider = &p
	}
	return now
}

// RegistersByCode reports whether persons can register with a code. The console offers
// registration only then.
func (s *Service) RegistersByCode() bool {
	r := s.current.Load().Registration
	return r != nil && r.Code != ""
}

// HasPasskeys reports whether persons can sign in by passkeys.
func (s *Service) HasPasskeys() bool { return s.current.Load().passkeys != nil }

// Link returns the address of the page at which the invitation with the secret is
// accepted. The bool reports whether a console is configured.
func (s *Service) Link(secret string) (string, bool) {
	link := s.current.Load().Settings.Link
	if link == nil {
		return "", false
	}
	return link(secret), true
}

// AccountNames returns the names of accounts by id. It leaves out unknown ids.
func (s *Service) AccountNames(ctx context.Context, ids []string) (map[string]string, error) {
	return s.o.Accounts.AccountNames(ctx, ids)
}

// audit returns an audit row with the detail as JSON.
func (s *Service) audit(actor admin.Actor, action, target string, detail any) ledger.Audit {
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // cannot happen: details are structs of strings and numbers
	}
	return ledger.Audit{At: s.o.Now(), Actor: actor.Name, From: actor.From, Action: action, Target: target, Detail: string(text)}
}

// self returns the actor of an audit row for a change that a person makes to itself.
func self(person string, c Client) admin.Actor {
	a := admin.Actor{Name: person}
	if c.Address.IsValid() {
		a.From = c.Address.String()
	}
	return a
}

// none is the detail of an audit row without details.
type none struct{}

func refuse(code admin.Code, format string, args ...any) error {
	return &admin.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// explain replaces ledger.ErrNotFound by an *admin.Error that names the missing thing:
// its kind and its name. It returns other errors unchanged.
func explain(err error, kind, name string) error {
	if errors.Is(err, ledger.ErrNotFound) {
		return refuse(admin.NotFound, "there is no %s %q", kind, name)
	}
	return err
}
