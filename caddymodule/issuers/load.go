package issuers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/issuer"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// sources holds the sources of all configs that run. A reload that leaves an issuer as it
// is keeps the issuer's keys, even while the issuer is down.
var sources = caddy.NewUsagePool()

// pooled is a source in the pool.
type pooled struct{ *issuer.Source }

// Destruct does nothing, because a source has no open resources.
func (pooled) Destruct() error { return nil }

// Site has the settings of a site that concern its issuers.
type Site struct {
	Resource     string             // the identifier of the site's protected resource; "" without one
	Environments []keys.Environment // the environments that the site admits
	Scopes       *keys.Catalogue
	Unchecked    bool // tokens of any form may be stored keys
	Metrics      issuer.Metrics
	Logger       *slog.Logger
}

// Loaded has the issuers of a site, ready for use. Close must be called when the site is
// gone.
type Loaded struct {
	site   Site
	trusts []issuer.Trust
	held   []any // keys in the pool
}

// Load checks the issuers of a site, and takes their sources from the pool. It sends no
// request.
func Load(list []Issuer, s Site) (_ *Loaded, err error) {
	l := &Loaded{site: s}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for n := range list {
		i := &list[n]
		if err := i.Check(s.Scopes); err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
		if i.Introspection != nil && s.Unchecked {
			return nil, errors.New("issuer: introspection: with unchecked secrets, an opaque token could be a stored key, which is shown to no issuer: leave one of the two out")
		}
		t, err := l.trust(i)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.Issuer, err)
		}
		l.trusts = append(l.trusts, t)
	}
	_, err = l.authenticator(nil, nil) // checks the issuers together
	return l, err
}

// trust returns the rules for one issuer.
func (l *Loaded) trust(i *Issuer) (t issuer.Trust, err error) {
	if t.Account, err = i.rule(); err != nil {
		return t, err
	}
	if t.Limits, err = i.limits(); err != nil {
		return t, err
	}
	if t.Environment, err = l.environment(i.Environment); err != nil {
		return t, err
	}
	t.Audiences = i.Audience
	if len(t.Audiences) == 0 {
		if l.site.Resource == "" {
			return t, errors.New("want audience: what tokens for this server name as their audience, usually its public URL")
		}
		plain := strings.TrimSuffix(l.site.Resource, "/")
		t.Audiences = []string{plain, plain + "/"}
	}
	t.Scopes.Claim = i.Scopes
	if len(i.Map) > 0 {
		t.Scopes.Map = make(map[string][]string, len(i.Map))
		for _, m := range i.Map {
			t.Scopes.Map[m.Value] = m.Scopes
		}
	}
	t.Source, err = l.source(i)
	return t, err
}

// environment returns the environment of an issuer. The parameter name is the configured
// one, or "".
func (l *Loaded) environment(name string) (keys.Environment, error) {
	switch {
	case name == "" && len(l.site.Environments) == 1:
		return l.site.Environments[0], nil
	case name == "":
		return keys.Live, nil
	case !slices.Contains(l.site.Environments, keys.Environment(name)):
		return "", fmt.Errorf("environment: the server does not admit %s; name it in environments, too", name)
	}
	return keys.Environment(name), nil
}

// source takes the source of an issuer from the pool.
func (l *Loaded) source(i *Issuer) (*issuer.Source, error) {
	secret := ""
	if i.Introspection != nil {
		var err error
		if secret, err = caddy.NewReplacer().ReplaceOrErr(i.Introspection.Secret, true, true); err != nil {
			return nil, fmt.Errorf("introspection: %w", err)
		}
	}
	o := i.options(secret)
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err // cannot happen, because the options are texts and numbers
	}
	o.Metrics, o.Logger = l.site.Metrics, l.site.Logger
	id := sha256.Sum256(text)
	value, _, err := sources.LoadOrNew(id, func() (caddy.Destructor, error) {
		s, err := issuer.NewSource(o)
		return pooled{s}, err
	})
	if err != nil {
		return nil, err
	}
	l.held = append(l.held, id)
	return value.(pooled).Source, nil
}

// Close gives the sources back to the pool.
func (l *Loaded) Close() {
	if l == nil {
		return
	}
	for _, id := range l.held {
		_, _ = sources.Delete(id) // fails only if a Destruct does
	}
	l.held = nil
}

// Authenticators returns the authenticator of the site, or nothing without issuers.
func (l *Loaded) Authenticators(service *admin.Service, secrets *keys.Format) ([]gate.Authenticator, error) {
	if l == nil || len(l.trusts) == 0 {
		return nil, nil
	}
	a, err := l.authenticator(accounts{service}, secrets)
	if err != nil {
		return nil, err
	}
	return []gate.Authenticator{a}, nil
}

func (l *Loaded) authenticator(accounts issuer.Accounts, secrets *keys.Format) (*issuer.Authenticator, error) {
	return issuer.NewAuthenticator(issuer.Setup{
		Trusts: l.trusts, Scopes: l.site.Scopes, Secrets: secrets, Accounts: accounts, Metrics: l.site.Metrics, Logger: l.site.Logger,
	})
}

// accounts finds and makes accounts by the operations on the store.
type accounts struct{ service *admin.Service }

// Find implements issuer.Accounts.
func (a accounts) Find(ctx context.Context, ref string) (ledger.Account, error) {
	account, err := a.service.Account(ctx, ref)
	var refused *admin.Error
	if errors.As(err, &refused) && refused.Code == admin.NotFound {
		err = ledger.ErrNotFound
	}
	return account, err
}

// Open implements issuer.Accounts. The audit log names the issuer as the author.
func (a accounts) Open(ctx context.Context, o issuer.Opening) error {
	_, err := a.service.Open(ctx, admin.Actor{Name: "issuer", From: o.Issuer}, admin.Opening{ID: o.ID, Name: o.Name, Credit: o.Credit, Test: o.Test})
	return err
}
