package engine

import (
	"log/slog"
	"net/netip"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// NewAlerts returns the service for the alerts of a store. It returns nil for the
// store of a platform's gateway, because the platform keeps the alerts then.
func NewAlerts(store Store, accounts *admin.Service, metrics alert.Metrics, logger *slog.Logger) *alert.Service {
	rows, keeps := store.(interface{ Rows() sqltx.Database })
	books, reads := store.(alert.Books)
	if !keeps || !reads || accounts == nil {
		return nil
	}
	return alert.New(alertstore.New(rows.Rows()), alert.Options{Now: now, NewID: id.New, Accounts: accounts, Books: books, Metrics: metrics, Logger: logger})
}

// alerts runs the service of alerts in the background.
type alerts struct {
	*alert.Service
	task *background
}

func runAlerts(s *alert.Service) *alerts {
	if s == nil {
		return nil
	}
	return &alerts{Service: s, task: begin(s.Run)}
}

// close ends the background task. It does nothing if a is nil.
func (a *alerts) close() {
	if a != nil {
		a.task.end()
	}
}

// Alerts returns the service for the alerts of the store, or nil if a platform keeps
// the alerts. The caller must hold a reference to the runtime; see Acquire.
func (r *Runtime) Alerts() *alert.Service {
	if r.alerts == nil {
		return nil
	}
	return r.alerts.Service
}

// Charged notes the network of a call that was charged, for alerts. It does not wait for
// the store.
func (r *Runtime) Charged(k *keys.Key, client netip.Addr) {
	if r.alerts != nil {
		r.alerts.Networks().Charged(k, client)
	}
}
