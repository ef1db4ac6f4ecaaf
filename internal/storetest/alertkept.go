package storetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/alertstore"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func alertTestKeys(t *test) {
	payee := t.account("payee", 0, 0)
	account := t.account("payer", 0, 0)
	t.credit(account, 10*ledger.Unit, true)
	key := t.newKey(account)
	key.Environment, key.Limits = keys.Test, &keys.Limits{Day: 10 * int64(ledger.Unit)}
	t.createKey(key)
	s := t.alerts(nil)
	t.setAlerts(s, account, alert.SettingsChange{Tools: new(true), Networks: new(true)})
	t.evaluate(s)
	t.pays(&key, payee, 10*ledger.Unit, "get")
	s.Networks().Charged(&key, netip.MustParseAddr("192.0.2.1"))
	s.Networks().Charged(&key, netip.MustParseAddr("198.51.100.1"))
	t.raised(s)
}

func alertCrash(t *test) {
	t.at(t.midnight().Add(time.Hour))
	payee := t.account("payee", 0, 0)
	_, key := t.payer("payer", 100*ledger.Unit, &keys.Limits{Day: 10 * int64(ledger.Unit)})
	box := &mailbox{fails: true}
	s := t.alerts(box)
	t.pays(&key, payee, 6*ledger.Unit, "get")
	t.raised(s, "cap day 10.00 50")
	_, err := s.Deliver(t.ctx)
	t.ok(err)
	t.Store = t.Crash()
	box = &mailbox{}
	s = t.alerts(box)
	t.raised(s, "cap day 10.00 50")
	t.Advance(time.Minute)
	_, err = s.Deliver(t.ctx)
	t.ok(err)
	_, err = s.Deliver(t.ctx)
	t.ok(err)
	if !slices.Equal(box.got, []string{"cap"}) {
		t.Fatalf("delivered %q after the crash", box.got)
	}
	list := t.raised(s, "cap day 10.00 50")
	if d := list[0].Deliveries; len(d) != 1 || d[0].State != alert.Delivered || d[0].Attempts != 2 || d[0].Problem != "" {
		t.Fatalf("deliveries %+v", d)
	}
}

func alertClaimed(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 10*ledger.Unit, nil)
	box := new(mailbox)
	s := t.alerts(box)
	t.setAlerts(s, account, alert.SettingsChange{Balance: new(5 * ledger.Unit)})
	t.pays(&key, payee, 6*ledger.Unit, "get")
	t.raised(s, "balance")
	ctx, cancel := context.WithCancel(t.ctx)
	dying := &dyingBox{mailbox: new(mailbox), die: cancel}
	s.Configure(alert.Config{Channels: []alert.Channel{dying}, Currency: "USD"})
	if _, err := s.Deliver(ctx); !errors.Is(err, context.Canceled) || len(dying.ids) != 1 {
		t.Fatalf("a process that ends while it sends: %v", err)
	}
	t.Store = t.Crash()
	s = t.alerts(box)
	_, err := s.Deliver(t.ctx)
	t.ok(err)
	if len(box.ids) != 0 {
		t.Fatalf("the delivery was sent by two nodes at a time")
	}
	t.Advance(2 * time.Minute)
	_, err = s.Deliver(t.ctx)
	t.ok(err)
	if !slices.Equal(box.ids, dying.ids) {
		t.Fatalf("sent %q again, want %q", box.ids, dying.ids)
	}
}

// dyingBox is a channel that sends while the process ends.
type dyingBox struct {
	*mailbox
	die context.CancelFunc
}

func (d *dyingBox) Send(ctx context.Context, target string, m *alert.Message) error {
	d.die()
	return d.mailbox.Send(ctx, target, m)
}

func alertSettings(t *test) {
	account := t.account("payer", 0, 0)
	s := t.alerts(nil)
	_, got, err := s.SettingsOf(t.ctx, "payer")
	t.ok(err)
	t.same(got, alert.Defaults)
	change := alert.SettingsChange{Balance: new(3 * ledger.Unit), Spend: new(int64(0)), Networks: new(true)}
	t.setAlerts(s, "payer", change)
	want := alert.Settings{Balance: 3 * ledger.Unit, Caps: true, Networks: true}
	_, got, err = s.SettingsOf(t.ctx, account)
	t.ok(err)
	t.same(got, want)
	if rows := t.audited(ledger.AuditFilter{Action: "alert.set"}); len(rows) != 1 || rows[0].Target != account || rows[0].Detail != `{"balance":"3.00","spend":0,"networks":true}` {
		t.Fatalf("audit rows %+v", rows)
	}
	for _, bad := range []alert.SettingsChange{{}, {Balance: new(ledger.Amount(-1))}, {Spend: new(int64(1))}, {Spend: new(int64(alert.MaxSpend + 1))}} {
		if _, _, err := s.Set(t.ctx, admin.Actor{}, account, bad); !errors.As(err, new(*admin.Error)) {
			t.Fatalf("%+v: %v", bad, err)
		}
	}
	repair := t.BreakAudit()
	_, _, err = s.Set(t.ctx, admin.Actor{}, account, alert.SettingsChange{Caps: new(false)})
	repair()
	t.refused(err, "a change without its audit row")
	t.Store = t.Crash()
	s = t.alerts(nil)
	_, got, err = s.SettingsOf(t.ctx, account)
	t.ok(err)
	t.same(got, want)
	if _, _, err := s.SettingsOf(t.ctx, "nobody"); !errors.As(err, new(*admin.Error)) {
		t.Fatalf("settings of nobody: %v", err)
	}
}

func alertPages(t *test) {
	account := t.account("payer", 0, 0)
	store := alertstore.New(t.Store.(withRows).Rows())
	t.ok(store.Change(t.ctx, func(tx alert.Tx) error {
		for i := range 7 {
			a := alert.Alert{ID: newID("alr_"), Kind: alert.Kinds[i%2], Account: account, At: t.micro().Add(time.Duration(i) * time.Hour)}
			t.ok(tx.Insert(&a))
			t.ok(tx.InsertDelivery(&alert.Delivery{Alert: a, Channel: "mailbox", NextAt: a.At}))
		}
		return nil
	}))
	s := t.alerts(nil)
	var seen []string
	q := alert.Query{Account: "payer", Kind: "balance", Page: ledger.Page{Limit: 3}}
	for {
		list, next, err := s.List(t.ctx, q)
		t.ok(err)
		for i := range list {
			seen = append(seen, list[i].ID)
			if len(list[i].Deliveries) != 1 {
				t.Fatalf("%d deliveries", len(list[i].Deliveries))
			}
		}
		if q.After = next; next == "" {
			break
		}
	}
	if len(seen) != 4 || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Fatalf("listed %q", seen)
	}
	if list, _, err := s.List(t.ctx, alert.Query{Since: t.Now().Add(5 * time.Hour).UTC().Format(time.RFC3339)}); err != nil || len(list) > 2 {
		t.Fatalf("%d alerts since then, %v", len(list), err)
	}
	for _, bad := range []alert.Query{{Kind: "other"}, {Since: "yesterday"}, {Account: "nobody"}, {Page: ledger.Page{After: "x"}}} {
		if _, _, err := s.List(t.ctx, bad); err == nil {
			t.Fatalf("%+v was accepted", bad)
		}
	}
	t.Advance(alert.Kept + 3*time.Hour + time.Minute)
	t.evaluate(s)
	list, _, err := s.List(t.ctx, alert.Query{})
	t.ok(err)
	if len(list) != 3 {
		t.Fatalf("%d alerts are left", len(list))
	}
}

func alertStrangeNames(t *test) {
	payee := t.account("payee", 0, 0)
	account, key := t.payer("payer", 100*ledger.Unit, nil)
	s := t.alerts(nil)
	t.setAlerts(s, account, alert.SettingsChange{Tools: new(true)})
	t.at(t.midnight().Add(time.Hour))
	t.at(t.midnight().Add(time.Hour))
	for _, name := range []string{"a\x00b", "line\nbreak", "\u2028", "ü", strings.Repeat("long", 200), strings.Repeat("\x00", 1000)} {
		t.pays(&key, payee, 1, name)
	}
	t.evaluate(s)
	list, _, err := s.List(t.ctx, alert.Query{})
	t.ok(err)
	if len(list) != 6 {
		t.Fatalf("%d alerts", len(list))
	}
	for i := range list {
		if strings.ContainsAny(list[i].Title+list[i].Detail, "\x00\n\u2028") {
			t.Fatalf("the title %q has more than one line", list[i].Title)
		}
	}
}
