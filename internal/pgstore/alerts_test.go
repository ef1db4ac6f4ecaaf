//go:build unix

package pgstore

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// counter is a channel that counts its messages.
type counter struct{ sent atomic.Int64 }

func (*counter) Name() string { return "counter" }

func (*counter) Targets(context.Context, string) ([]string, error) { return []string{""}, nil }

func (c *counter) Send(context.Context, string, *alert.Message) error {
	c.sent.Add(1)
	return nil
}

// TestAlertsOnTwoNodes: nodes that evaluate and deliver at the same time raise one
// alert for each crossing, and send each message once.
func TestAlertsOnTwoNodes(t *testing.T) {
	list, _ := nodes(t, 2)
	var services []*alert.Service
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	box := new(counter)
	for _, s := range list {
		accounts := admin.New(s, nil, func() *admin.Settings { return &admin.Settings{} }, now)
		service := alert.New(alertstore.New(s.Rows()), alert.Options{Now: now, NewID: id.New, Accounts: accounts, Books: s})
		service.Configure(alert.Config{Currency: "USD", Channels: []alert.Channel{box}})
		services = append(services, service)
	}
	const accounts = 20
	for range accounts {
		a := ledger.Account{ID: id.New("acct_"), Name: id.New("n-"), CreatedAt: now()}
		if err := list[0].CreateAccount(t.Context(), a, ledger.Audit{At: now(), Action: "account.create", Detail: "{}"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := services[0].Set(t.Context(), admin.Actor{}, a.ID, alert.SettingsChange{Balance: new(ledger.Unit)}); err != nil {
			t.Fatal(err)
		}
	}
	together(8, func(i int) {
		s := services[i%2]
		for range 10 {
			if _, err := s.Evaluate(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := s.Deliver(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	raised, _, err := services[0].List(t.Context(), alert.Query{})
	if err != nil || len(raised) != accounts {
		t.Errorf("%d alerts, %v; want %d", len(raised), err, accounts)
	}
	for range accounts {
		if _, err := services[1].Deliver(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := box.sent.Load(); n != accounts {
		t.Errorf("%d messages, want %d", n, accounts)
	}
}
