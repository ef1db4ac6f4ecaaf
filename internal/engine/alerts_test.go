package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// stuck is a channel that sends for as long as its context lives.
type stuck struct{ began chan string }

func (stuck) Name() string { return "stuck" }

func (stuck) Targets(context.Context, string) ([]string, error) { return []string{""}, nil }

func (s stuck) Send(ctx context.Context, _ string, m *alert.Message) error {
	s.began <- m.Title
	<-ctx.Done()
	return ctx.Err()
}

// TestAlerts: a runtime raises and sends alerts in the background once it is
// configured, and its end does not wait for a channel that hangs. A platform's gateway
// has no alerts.
func TestAlerts(t *testing.T) {
	r, store := open(t, t.TempDir())
	ctx := t.Context()
	account, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Alerts().Set(ctx, admin.Actor{}, "acme", alert.SettingsChange{Balance: new(ledger.Unit)}); err != nil {
		t.Fatal(err)
	}
	channel := stuck{make(chan string, 1)}
	r.Alerts().Configure(alert.Config{Currency: "USD", Channels: []alert.Channel{channel}})
	if title := <-channel.began; title != "The balance of acme is below 1.00 USD" {
		t.Errorf("sent %q", title)
	}
	r.Charged(&keys.Key{Account: account.ID, Lineage: "key_1"}, netip.MustParseAddr("192.0.2.1"))
	elsewhere := &Runtime{}
	elsewhere.Charged(&keys.Key{}, netip.Addr{})
	if elsewhere.Alerts() != nil || NewAlerts(unmanaged{store}, r.Service(), nil, slog.New(slog.DiscardHandler)) != nil {
		t.Error("a gateway of a platform has alerts")
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Destruct() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(15 * time.Second): // one attempt may take longer
		t.Fatal("the end of the runtime waits for the channel")
	}
}

// TestAlertsWithoutConfig: a runtime that was never configured, because its config failed,
// ends like any other.
func TestAlertsWithoutConfig(t *testing.T) {
	r, _ := open(t, t.TempDir())
	if err := r.Destruct(); err != nil {
		t.Error(err)
	}
}
