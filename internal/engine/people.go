package engine

import (
	"log/slog"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// NewPeople returns the service for the people of a store, and connects it with the
// grants: the grants of a person that loses the right to give them end. It returns nil for
// the store of a platform's gateway, because the platform keeps the people then.
func NewPeople(store Store, accounts *admin.Service, grants *oauth.Service, logger *slog.Logger) *people.Service {
	rows, ok := store.(interface{ Rows() sqltx.Database })
	if !ok || accounts == nil {
		return nil
	}
	s := people.New(peoplestore.New(rows.Rows()), people.Options{Now: now, Accounts: accounts, Logger: logger})
	if grants != nil {
		s.WithGrants(grants)
		grants.WithPersons(s)
	}
	return s
}

// People returns the service for the people of the store, or nil if a platform keeps
// the people. The caller must hold a reference to the runtime; see Acquire.
func (r *Runtime) People() *people.Service { return r.people }

// ConfigurePeople applies a config's settings for people to the running runtime. It
// does nothing if a platform keeps the people. If the settings are invalid, it returns
// an error and the earlier settings stay.
func (r *Runtime) ConfigurePeople(settings people.Settings) error {
	if r.people == nil {
		return nil
	}
	return r.people.Configure(settings)
}
