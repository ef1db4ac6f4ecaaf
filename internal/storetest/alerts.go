package storetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func runAlerts(t *testing.T, open func(t *testing.T) Harness) {
	store := open(t).Store
	_, keeps := store.(withRows)
	if _, reads := store.(alert.Books); !keeps || !reads {
		t.Skip("the store keeps no alerts")
	}
	each(t, open,
		named{"a balance is raised once a crossing, and armed again", alertBalance},
		named{"new thresholds raise no more than one alert of a balance an hour", alertThresholds},
		named{"a flood of alerts of a kind is listed, and not sent", alertMany},
		named{"an open reservation counts in an available balance", alertReserved},
		named{"each level of a cap is raised once a period, the highest of several alone", alertCap},
		named{"a changed cap has levels of its own", alertCapChanged},
		named{"unusual spending is raised once a day", alertSpend},
		named{"a tool that a key has never paid for is raised once", alertTool},
		named{"a network from which a key was never used is raised once", alertNetwork},
		named{"what a key has used is forgotten when the last key of its lineage is deleted", alertForgets},
		named{"test keys raise nothing", alertTestKeys},
		named{"an alert that was raised before a crash is delivered after it, and not raised again", alertCrash},
		named{"a delivery that was claimed before a crash is sent again", alertClaimed},
		named{"settings change with their audit row, or not at all", alertSettings},
		named{"alerts are listed in pages, and deleted when they are old", alertPages},
		named{"no name of a tool can make an evaluation fail", alertStrangeNames},
	)
}

// mailbox is a channel that keeps its messages, or fails. A service sends several messages
// at a time. A test reads the messages between two steps of the service.
type mailbox struct {
	fails bool

	mu  sync.Mutex
	got []string // kinds of the messages
	ids []string
}

func (m *mailbox) Name() string { return "mailbox" }

func (m *mailbox) Targets(context.Context, string) ([]string, error) { return []string{""}, nil }

func (m *mailbox) Send(_ context.Context, _ string, message *alert.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids = append(m.ids, message.ID)
	if m.fails {
		return errors.New("the mailbox is full")
	}
	m.got = append(m.got, string(message.Kind))
	return nil
}

// alerts returns the alert service of a process that has just started. The service uses
// the store under test and sends to box.
func (t *test) alerts(box *mailbox) *alert.Service {
	accounts := admin.New(t.Store, nil, func() *admin.Settings { return &admin.Settings{} }, t.micro)
	s := alert.New(alertstore.New(t.Store.(withRows).Rows()), alert.Options{Now: t.micro, NewID: ids.New, Accounts: accounts, Books: t.Store.(alert.Books)})
	c := alert.Config{Currency: "USD"}
	if box != nil {
		c.Channels = []alert.Channel{box}
	}
	s.Configure(c)
	return s
}

// evaluate evaluates all transactions.
func (t *test) evaluate(s *alert.Service) {
	t.Helper()
	for {
		more, err := s.Evaluate(t.ctx)
		t.ok(err)
		if !more {
			return
		}
	}
}

// raised evaluates all transactions. It then checks the kinds and percentages of all
// alerts since the start of the test, oldest first.
func (t *test) raised(s *alert.Service, want ...string) []alert.Listed {
	t.Helper()
	t.evaluate(s)
	list, _, err := s.List(t.ctx, alert.Query{})
	t.ok(err)
	slices.Reverse(list)
	var got []string
	for i := range list {
		text := string(list[i].Kind)
		switch d := &list[i].Data; list[i].Kind {
		case alert.Cap:
			text += " " + string(d.Period) + " " + d.Limit.String() + " " + map[int]string{50: "50", 80: "80", 95: "95"}[d.Percent]
		case alert.Tool:
			text += " " + d.Tool
		case alert.Network:
			text += " " + d.Network
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("raised %q, want %q", got, want)
	}
	return list
}

func (t *test) setAlerts(s *alert.Service, account string, c alert.SettingsChange) {
	t.Helper()
	_, _, err := s.Set(t.ctx, admin.Actor{Name: "suite"}, account, c)
	t.ok(err)
}

// payer creates an account with credits and a key with caps.
func (t *test) payer(name string, balance ledger.Amount, limits *keys.Limits) (account string, key keys.Key) {
	t.Helper()
	account = t.account(name, balance, 0)
	key = t.newKey(account)
	key.Limits = limits
	t.createKey(key)
	return account, key
}

// pays charges a call of the key.
func (t *test) pays(k *keys.Key, payee string, amount ledger.Amount, tool string) ledger.Charge {
	t.Helper()
	o := order(k.Account, payee, amount)
	o.Key, o.Lineage, o.Test = k.ID, k.Lineage, k.Environment == keys.Test
	o.Tool = tool
	c, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	return c
}

func alertBalance(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 10*ledger.Unit, nil)
	_, other := t.payer("other", 10*ledger.Unit, nil)
	s := t.alerts(nil)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(5 * ledger.Unit)})
	t.pays(&key, payee, 5*ledger.Unit, "get")
	t.pays(&other, payee, 9*ledger.Unit, "get")
	t.raised(s)
	t.pays(&key, payee, 1, "get")
	list := t.raised(s, "balance")
	if d := &list[0].Data; *d.Amount != 5*ledger.Unit-1 || *d.Limit != 5*ledger.Unit || list[0].Account != account || list[0].AccountName != "payer" {
		t.Fatalf("raised %+v", list[0])
	}
	t.pays(&key, payee, ledger.Unit, "get")
	t.raised(s, "balance")
	t.credit(account, 20*ledger.Unit, false)
	t.raised(s, "balance")
	t.pays(&key, payee, 20*ledger.Unit, "get")
	t.raised(s, "balance") // an hour has not passed
	t.Advance(time.Hour)
	t.raised(s, "balance", "balance")
	// A lowered threshold can raise an alert again. A removed threshold raises no more
	// alerts. The balance is 3.99 now.
	t.Advance(time.Hour)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(3 * ledger.Unit)})
	t.raised(s, "balance", "balance")
	t.pays(&key, payee, ledger.Unit, "get")
	t.raised(s, "balance", "balance", "balance")
	t.Advance(time.Hour)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(ledger.Amount)})
	t.pays(&key, payee, ledger.Unit, "get")
	t.raised(s, "balance", "balance", "balance")
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(2 * ledger.Unit)})
	t.raised(s, "balance", "balance", "balance", "balance")
}

// alertThresholds checks that nobody can make the operator's mail server send message
// after message by setting new thresholds.
func alertThresholds(t *test) {
	account := t.account("payer", 10*ledger.Unit, 0)
	s := t.alerts(new(mailbox))
	set := func(threshold ledger.Amount) {
		t.setAlerts(s, account, alert.SettingsChange{Balance: &threshold})
		t.evaluate(s)
	}
	for i := range ledger.Amount(3) {
		set(1000 * ledger.Unit)
		set((1001 + i) * ledger.Unit)
		set(ledger.Unit)
		set(0)
	}
	t.raised(s, "balance")
	t.Advance(time.Hour)
	set(1000 * ledger.Unit)
	t.raised(s, "balance", "balance")
}

// alertMany checks that a flood of alerts of one kind is sent only up to a bound, that
// all of these alerts are listed, and that alerts of other kinds are sent as before.
func alertMany(t *test) {
	account, key := t.payer("payer", 10*ledger.Unit, nil)
	box := new(mailbox)
	s := t.alerts(box)
	t.setAlerts(s, account, alert.SettingsChange{Networks: new(true)})
	t.evaluate(s)
	first := 0
	networks := func(n int) {
		for i := range n {
			s.Networks().Charged(&key, netip.AddrFrom4([4]byte{192, 0, byte(first + i), 1}))
		}
		first += n
		t.evaluate(s)
	}
	networks(9) // the first one is not news
	networks(7)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(20 * ledger.Unit)})
	sent := func(want int) {
		t.Helper()
		t.evaluate(s)
		for more := true; more; {
			var err error
			more, err = s.Deliver(t.ctx)
			t.ok(err)
		}
		if len(box.got) != want {
			t.Fatalf("%d messages, want %d: %q", len(box.got), want, box.got)
		}
	}
	sent(11)
	list, _, err := s.List(t.ctx, alert.Query{})
	t.ok(err)
	unsent := 0
	for i := range list {
		if list[i].Data.Unsent != (len(list[i].Deliveries) == 0) {
			t.Fatalf("listed %+v", list[i])
		}
		if list[i].Data.Unsent {
			unsent++
		}
	}
	if len(list) != 16 || unsent != 5 {
		t.Fatalf("%d alerts, %d of them unsent", len(list), unsent)
	}
	t.Advance(time.Hour + time.Minute)
	networks(2)
	sent(13)
}

func alertReserved(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 10*ledger.Unit, nil)
	s := t.alerts(nil)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(5 * ledger.Unit)})
	t.raised(s)
	o := order(account, payee, 6*ledger.Unit)
	o.Key, o.Lineage = key.ID, key.Lineage
	id := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	t.raised(s, "balance")
	t.ok(t.Store.Release(t.ctx, id))
	t.raised(s, "balance")
	t.Advance(time.Hour)
	t.raised(s, "balance")
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
	t.ok(err)
	t.raised(s, "balance", "balance")
}

func alertCap(t *test) {
	t.at(t.midnight().Add(time.Hour))
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 100*ledger.Unit, &keys.Limits{Day: 10 * int64(ledger.Unit)})
	s := t.alerts(nil)
	t.pays(&key, payee, 5*ledger.Unit-1, "get")
	t.raised(s)
	t.pays(&key, payee, 1, "get")
	t.raised(s, "cap day 10.00 50")
	t.pays(&key, payee, ledger.Unit, "get")
	t.raised(s, "cap day 10.00 50")
	t.pays(&key, payee, 35*ledger.Unit/10, "get")
	list := t.raised(s, "cap day 10.00 50", "cap day 10.00 95")
	if a := &list[1]; a.Key != key.Lineage || a.Data.KeyName != key.Name || *a.Data.Amount != 95*ledger.Unit/10 {
		t.Fatalf("raised %+v", a)
	}
	t.at(t.midnight().Add(time.Hour))
	t.pays(&key, payee, 8*ledger.Unit, "get")
	t.raised(s, "cap day 10.00 50", "cap day 10.00 95", "cap day 10.00 80")
	t.setAlerts(s, account, alert.SettingsChange{Caps: new(false)})
	t.pays(&key, payee, 2*ledger.Unit, "get")
	t.raised(s, "cap day 10.00 50", "cap day 10.00 95", "cap day 10.00 80")
}

func alertCapChanged(t *test) {
	t.at(t.midnight().Add(time.Hour))
	payee := t.account("payee", 0, 0)
	_, key := t.payer("payer", 100*ledger.Unit, &keys.Limits{Month: 10 * int64(ledger.Unit)})
	s := t.alerts(nil)
	t.pays(&key, payee, 96*ledger.Unit/10, "get")
	t.raised(s, "cap month 10.00 95")
	limit := func(units int64) {
		t.Helper()
		_, err := t.Store.UpdateKey(t.ctx, key.ID, func(k *keys.Key) error { k.Limits = &keys.Limits{Month: units * int64(ledger.Unit)}; return nil }, t.audit("key.update", key.ID))
		t.ok(err)
	}
	limit(20)
	t.pays(&key, payee, 1, "get")
	t.raised(s, "cap month 10.00 95")
	t.pays(&key, payee, ledger.Unit, "get")
	t.raised(s, "cap month 10.00 95", "cap month 20.00 50")
	limit(12)
	t.pays(&key, payee, 1, "get")
	t.raised(s, "cap month 10.00 95", "cap month 20.00 50", "cap month 12.00 80")
}

func alertSpend(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 1000*ledger.Unit, nil)
	s := t.alerts(nil)
	for _, day := range []ledger.Amount{2, 3, 4} {
		t.at(t.midnight().Add(time.Hour))
		t.pays(&key, payee, day*ledger.Unit, "get")
	}
	t.at(t.midnight().Add(time.Hour))
	t.pays(&key, payee, 15*ledger.Unit, "get")
	t.raised(s)
	t.pays(&key, payee, 1, "get")
	list := t.raised(s, "spend")
	if d := &list[0].Data; *d.Amount != 15*ledger.Unit+1 || *d.Limit != 3*ledger.Unit {
		t.Fatalf("raised %+v", d)
	}
	t.pays(&key, payee, 15*ledger.Unit, "get")
	t.raised(s, "spend")
	t.at(t.midnight().Add(time.Hour))
	t.setAlerts(s, account, alert.SettingsChange{Spend: new(int64(20))})
	t.pays(&key, payee, 50*ledger.Unit, "get")
	t.raised(s, "spend")
	t.setAlerts(s, account, alert.SettingsChange{Spend: new(int64(2))})
	t.pays(&key, payee, 1, "get")
	t.raised(s, "spend", "spend")
}

func alertTool(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 100*ledger.Unit, nil)
	s := t.alerts(nil)
	t.pays(&key, payee, 1, "old")
	t.at(t.midnight().Add(time.Hour))
	t.at(t.midnight().Add(time.Hour)) // the key is more than a day old
	t.raised(s)
	t.setAlerts(s, account, alert.SettingsChange{Tools: new(true)})
	t.pays(&key, payee, 1, "old")
	t.raised(s)
	t.pays(&key, payee, 1, "new")
	t.pays(&key, payee, 1, "new")
	t.raised(s, "tool new")
	t.pays(&key, payee, 1, "new")
	t.pays(&key, payee, 1, "old")
	t.raised(s, "tool new")
	young := t.newKey(account)
	young.CreatedAt, young.Limits = t.micro(), nil
	t.createKey(young)
	t.pays(&young, payee, 1, "first")
	t.raised(s, "tool new")
}

func alertNetwork(t *test) {
	account, key := t.payer("payer", ledger.Unit, nil)
	s := t.alerts(nil)
	call := func(address string) { s.Networks().Charged(&key, netip.MustParseAddr(address)) }
	call("192.0.2.1")
	t.raised(s)
	t.setAlerts(s, account, alert.SettingsChange{Networks: new(true)})
	t.evaluate(s)
	call("192.0.2.1")
	call("192.0.2.77")
	t.raised(s)
	call("198.51.100.7")
	call("2001:db8:1:2::3")
	t.raised(s, "network 198.51.100.0/24", "network 2001:db8:1::/48")
	again := t.alerts(nil) // another node, or the same one after a restart
	t.evaluate(again)
	again.Networks().Charged(&key, netip.MustParseAddr("198.51.100.8"))
	again.Networks().Charged(&key, netip.MustParseAddr("203.0.113.8"))
	t.raised(again, "network 198.51.100.0/24", "network 2001:db8:1::/48", "network 203.0.113.0/24")
}

func alertForgets(t *test) {
	account, kept := t.payer("payer", ledger.Unit, nil)
	deleted, rotated := t.newKey(account), t.newKey(account)
	next := t.newKey(account)
	next.Lineage, rotated.Successor = rotated.ID, next.ID
	deleted.DeletedAt, rotated.DeletedAt = t.micro(), t.micro()
	for _, k := range []keys.Key{deleted, rotated, next} {
		t.createKey(k)
	}
	store := alertstore.New(t.Store.(withRows).Rows())
	const networks = 300
	t.ok(store.Change(t.ctx, func(tx alert.Tx) error {
		for _, k := range []keys.Key{kept, deleted, rotated} {
			t.ok(tx.PutState(alert.State{Kind: alert.Tool, Subject: k.Lineage, At: t.micro()}))
			t.ok(tx.PutState(alert.State{Kind: alert.Tool, Subject: k.Lineage + "\nserver\ntool", At: t.micro()}))
			for i := range networks {
				t.ok(tx.PutState(alert.State{Kind: alert.Network, Subject: k.Lineage + "\n" + strings.Repeat("1", i+1), At: t.micro()}))
			}
		}
		return nil
	}))
	t.evaluate(t.alerts(nil))
	t.ok(store.View(t.ctx, func(tx alert.Tx) error {
		for kind, each := range map[alert.Kind]int{alert.Tool: 2, alert.Network: networks} {
			subjects, err := tx.Subjects(kind, "", 10*networks)
			t.ok(err)
			if len(subjects) != 2*each || slices.ContainsFunc(subjects, func(s string) bool { return strings.HasPrefix(s, deleted.ID) }) {
				t.Fatalf("%d states of %s are left, want %d", len(subjects), kind, 2*each)
			}
		}
		return nil
	}))
}
