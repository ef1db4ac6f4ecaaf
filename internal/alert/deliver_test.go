package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// memory is a Store that has only deliveries. It is for tests that span days in a
// synctest bubble; the store suite tests the real stores.
type memory struct {
	Tx
	mu   sync.Mutex
	list []Delivery
}

func (m *memory) View(_ context.Context, do func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return do(m)
}

func (m *memory) Change(ctx context.Context, do func(Tx) error) error { return m.View(ctx, do) }

func (m *memory) Due(channel string, now time.Time, limit int) (due []Delivery, err error) {
	for _, d := range m.list {
		if d.State == Pending && d.Channel == channel && !d.NextAt.After(now) && len(due) < limit {
			due = append(due, d)
		}
	}
	return due, nil
}

func (m *memory) UpdateDelivery(d *Delivery, attempts int64) (bool, error) {
	i := slices.IndexFunc(m.list, func(o Delivery) bool { return o.Alert.ID == d.Alert.ID })
	if m.list[i].Attempts != attempts {
		return false, nil
	}
	m.list[i] = *d
	return true, nil
}

type nobody struct{}

func (nobody) Account(context.Context, string) (ledger.Account, error) { return ledger.Account{}, nil }
func (nobody) AccountNames(context.Context, []string) (map[string]string, error) {
	return map[string]string{"acct_1": "acme"}, nil
}
func (nobody) Moment(string, string) (time.Time, error) { return time.Time{}, nil }

// outcomes counts the outcomes of attempts, by name.
type outcomes struct {
	mu sync.Mutex
	of map[string]int
}

func (*outcomes) AlertRaised(string) {}
func (o *outcomes) AlertDelivered(_, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[outcome]++
}

// flaky is a channel that fails until a given time, and records when it was asked to
// send.
type flaky struct {
	mu    sync.Mutex
	until time.Time
	at    []time.Time
	texts []string
}

func (*flaky) Name() string                                      { return "flaky" }
func (*flaky) Targets(context.Context, string) ([]string, error) { return []string{""}, nil }
func (f *flaky) Send(_ context.Context, _ string, m *Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.texts = append(f.at, clock.Now()), append(f.texts, m.ID+" "+m.Title)
	if clock.Now().Before(f.until) {
		return errors.New("not now")
	}
	return nil
}

// TestChannelsDoNotWait checks that a channel that hangs does not delay the messages of
// another channel.
func TestChannelsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := clock.Now()
		store := new(memory)
		for i := range 5 * claimMost {
			a := Alert{ID: fmt.Sprint("alr_", i), Kind: Balance, Account: "acct_1", At: began}
			store.list = append(store.list, Delivery{Alert: a, Channel: "hanging", NextAt: began})
			a.ID += "b"
			store.list = append(store.list, Delivery{Alert: a, Channel: "flaky", NextAt: began})
		}
		good := new(flaky)
		s := New(store, Options{Now: clock.Now, NewID: func(p string) string { return p }, Accounts: nobody{}})
		s.Configure(Config{Channels: []Channel{hanging{}, good}})
		ctx, cancel := context.WithTimeout(t.Context(), sendTime/2)
		defer cancel()
		s.deliverAll(ctx)
		if n := len(good.at); n != 5*claimMost {
			t.Errorf("%d messages were sent beside a channel that hangs", n)
		}
	})
}

// hanging is a channel on which Send blocks until its context ends.
type hanging struct{}

func (hanging) Name() string { return "hanging" }

func (hanging) Targets(context.Context, string) ([]string, error) { return nil, nil }

func (hanging) Send(ctx context.Context, _ string, _ *Message) error {
	<-ctx.Done()
	return ctx.Err()
}

// deserted is a channel that fails because its targets no longer exist.
type deserted struct{}

func (deserted) Name() string { return "deserted" }

func (deserted) Targets(context.Context, string) ([]string, error) { return nil, nil }

func (deserted) Send(context.Context, string, *Message) error { return ErrNoTarget }

// deliver runs the delivery of one alert for four days. The channel fails for the given
// time.
func deliver(t *testing.T, fails time.Duration) (f *flaky, d Delivery, counted map[string]int) {
	synctest.Test(t, func(t *testing.T) {
		began := clock.Now()
		f = &flaky{until: began.Add(fails)}
		counts := &outcomes{of: make(map[string]int)}
		store := &memory{list: []Delivery{{Alert: Alert{ID: "alr_1", Kind: Balance, Account: "acct_1", At: began}, Channel: "flaky", NextAt: began}}}
		s := New(store, Options{Now: clock.Now, NewID: func(p string) string { return p }, Accounts: nobody{}, Metrics: counts})
		s.Configure(Config{Channels: []Channel{f}, Currency: "USD"})
		ctx, cancel := context.WithTimeout(t.Context(), 4*24*time.Hour)
		defer cancel()
		s.deliverAll(ctx)
		d, counted = store.list[0], counts.of
	})
	return f, d, counted
}

// TestDeliveryIsRetried checks that a failed delivery is tried again, always with the
// same alert id, until it succeeds. The pauses never get shorter.
func TestDeliveryIsRetried(t *testing.T) {
	f, d, counted := deliver(t, 2*time.Hour)
	if d.State != Delivered || d.Problem != "" || counted[outcomeDelivered] != 1 || counted[outcomeFailed] != len(f.at)-1 || counted[outcomeGivenUp] != 0 {
		t.Errorf("%+v, counted %v", d, counted)
	}
	if len(f.at) < 7 || len(f.at) > 9 {
		t.Errorf("%d attempts in two hours", len(f.at))
	}
	for i, text := range f.texts {
		if text != "alr_1 The balance of acme is below an unknown amount" {
			t.Errorf("attempt %d: %q", i, text)
		}
		if i > 1 && f.at[i].Sub(f.at[i-1]) < f.at[i-1].Sub(f.at[i-2]) {
			t.Errorf("the pause after attempt %d is shorter than the one before", i)
		}
	}
}

// TestDeliveryIsGivenUp checks that no attempt is made after three days of failures,
// and that the reason of the last failure is kept.
func TestDeliveryIsGivenUp(t *testing.T) {
	f, d, counted := deliver(t, 100*24*time.Hour)
	took := f.at[len(f.at)-1].Sub(f.at[0])
	if d.State != GivenUp || d.Problem != "not now" || counted[outcomeGivenUp] != 1 || took < giveUpAfter || took > giveUpAfter+4*time.Hour {
		t.Errorf("%+v after %s, counted %v", d, took, counted)
	}
}

// TestDeliveryWithoutChannel checks that a delivery stays pending if the config does
// not have its channel, because another node may have a newer config. It also checks
// that a delivery to a target that no longer exists is given up immediately.
func TestDeliveryWithoutChannel(t *testing.T) {
	store := &memory{list: []Delivery{{Alert: Alert{ID: "alr_1", Account: "acct_1", At: clock.Now()}, Channel: "gone", NextAt: clock.Now()}}}
	s := New(store, Options{Now: clock.Now, NewID: func(p string) string { return p }, Accounts: nobody{}})
	s.Configure(Config{})
	if _, err := s.Deliver(t.Context()); err != nil || store.list[0].State != Pending || store.list[0].Attempts != 0 {
		t.Errorf("without channels: %+v, %v", store.list[0], err)
	}
	s.Configure(Config{Channels: []Channel{new(flaky)}})
	if _, err := s.Deliver(t.Context()); err != nil || store.list[0].State != Pending || store.list[0].Attempts != 0 {
		t.Errorf("with another channel: %+v, %v", store.list[0], err)
	}
	store.list[0].Channel = "deserted"
	s.Configure(Config{Channels: []Channel{deserted{}}})
	if _, err := s.Deliver(t.Context()); err != nil || store.list[0].State != GivenUp {
		t.Errorf("without the target: %+v, %v", store.list[0], err)
	}
}
