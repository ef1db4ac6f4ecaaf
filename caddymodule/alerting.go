package caddymodule

import (
	"context"
	"errors"

	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/notify"
	"github.com/fareboxhq/farebox/internal/people"
)

// openAlerts is like openService, for the alerts of the store.
func (a *App) openAlerts() (*alert.Service, func(), error) {
	return opened(a, (*engine.Runtime).Alerts)
}

// checkAlerts checks the option "alerts", as far as possible without a store.
func (a *App) checkAlerts() error {
	if a.Alerts != nil && a.Store.Driver == stores.Remote {
		return errors.New("alerts needs a store of its own: another Farebox is the platform of this one, and the option belongs there")
	}
	return a.Alerts.Check()
}

// alertConfig returns the config of alerts.
func (a *App) alertConfig(rt *engine.Runtime) (alert.Config, error) {
	c, err := a.Alerts.Config(a.Currency, ownersIn(rt.People()))
	return c, a.located(err)
}

// ownersIn returns a function that finds the owners of an account, or nil if there are
// no people.
func ownersIn(s *people.Service) notify.Owners {
	if s == nil {
		return nil
	}
	return func(ctx context.Context, account string) (owners []notify.Recipient, err error) {
		for page := (ledger.Page{}); ; {
			persons, next, err := s.Persons(ctx, people.PersonQuery{Page: page, Account: account})
			if err != nil {
				return nil, err
			}
			for i := range persons {
				if p := &persons[i]; p.Role(account) == people.Owner && p.DisabledAt.IsZero() {
					owners = append(owners, notify.Recipient{ID: p.ID, Email: p.Email})
				}
			}
			if page.After = next; next == "" {
				return owners, nil
			}
		}
	}
}
