package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauthstore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// NewOAuth returns the service for OAuth grants, and makes the accounts' service end the
// grants of keys that are deleted or changed. It returns nil for the store of a platform's
// gateway, because the platform keeps the grants then.
func NewOAuth(store Store, accounts *admin.Service, settings func() *admin.Settings) *oauth.Service {
	rows, ok := store.(interface{ Rows() sqltx.Database })
	if !ok || accounts == nil {
		return nil
	}
	secrets := func() *keys.Format { return secretsIn(settings()) }
	declared := func() *keys.Catalogue {
		if s := settings(); s != nil {
			return s.Scopes
		}
		return nil
	}
	s := oauth.New(oauthstore.New(rows.Rows()), oauth.Options{Now: now, Keys: accounts, Secrets: secrets, Catalogue: declared})
	accounts.WithGrants(s)
	return s
}

// OAuth returns the service for OAuth grants, or nil if a platform keeps the grants. The
// caller must hold a reference to the runtime; see Acquire.
func (r *Runtime) OAuth() *oauth.Service { return r.oauth }

// OAuthClients returns the store of OAuth clients, or nil if a platform keeps them.
func (r *Runtime) OAuthClients() *oauthstore.Clients {
	rows, ok := r.store.(interface{ Rows() sqltx.Database })
	if !ok || r.oauth == nil {
		return nil
	}
	return oauthstore.NewClients(rows.Rows())
}

// Accounts returns the service for accounts and keys, or nil if a platform keeps them.
// The caller must hold a reference to the runtime; see Acquire.
func (r *Runtime) Accounts() *admin.Service { return r.service }

const (
	// sweepEvery is the pause between two sweeps of the OAuth grants. It bounds how long
	// a grant outlives its key if the process was killed between the two changes.
	sweepEvery = 15 * time.Second
	// sweepTime bounds one sweep.
	sweepTime = time.Minute
)

// runSweeps sweeps the OAuth grants in the background. It returns nil without a service.
func runSweeps(s *oauth.Service, logger *slog.Logger) *background {
	if s == nil {
		return nil
	}
	return begin(func(ctx context.Context) {
		repeat(ctx, sweepEvery, sweepTime, s.Sweep, func(err error) {
			logger.Warn("OAuth grants could not be swept: grants of deleted keys may last longer", "error", err)
		})
	})
}

// Secrets returns the form of secrets in the current config.
func (r *Runtime) Secrets() *keys.Format { return secretsIn(r.settings.Load()) }

// secretsIn returns the form of secrets in the settings, which may be nil.
func secretsIn(s *admin.Settings) *keys.Format {
	if s != nil && s.Secrets != nil {
		return s.Secrets
	}
	return &keys.DefaultFormat
}
