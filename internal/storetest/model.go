package storetest

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// runModel compares random runs with a model that is too simple to be wrong.
// A failing run prints its seed and shrinks to the shortest that fails.
func runModel(t *testing.T, open func(t *testing.T) Harness) {
	fewer(t)
	rapid.Check(t, func(r *rapid.T) {
		m := newModel(&test{TB: r, Harness: open(t), ctx: t.Context()})
		defer func() {
			if err := m.Store.Close(); err != nil {
				r.Errorf("closing: %v", err)
			}
		}()
		r.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"reserve":  m.reserve,
			"capture":  m.capture,
			"charge":   m.charge,
			"release":  m.release,
			"renew":    m.renew,
			"credit":   m.credit,
			"adjust":   m.adjust,
			"refund":   m.refund,
			"wait":     m.wait,
			"crash":    m.crash,
			"reserve2": m.reserve,
			"capture2": m.capture,
		})
		m.finish()
	})
}

// fewer leaves a quarter of the runs under the race detector, where each costs
// many times as much, unless another number was asked for.
func fewer(t *testing.T) {
	const name = "rapid.checks"
	if f := flag.Lookup(name); raceDetector && f.Value.String() == f.DefValue {
		if err := flag.Set(name, "25"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set(name, f.DefValue); err != nil {
				t.Error(err)
			}
		})
	}
}

// model is what the books must say.
type model struct {
	*test
	accounts []string
	limits   map[string]ledger.Amount
	balances map[purse]ledger.Amount
	ids      []string
	held     map[string]*heldCharge
	paid     map[string]*ledger.Charge
	posts    map[string]ledger.Transaction // by id, as asked for and answered
	asked    map[string]ledger.Transaction
	rows     int64 // in the journal
}

type purse struct {
	account string
	sandbox bool
}

// heldCharge is what the store remembers of a reservation.
type heldCharge struct {
	order   ledger.Order
	state   ledger.State
	expires time.Time
}

func newModel(t *test) *model {
	m := &model{
		test: t, limits: map[string]ledger.Amount{}, balances: map[purse]ledger.Amount{},
		held: map[string]*heldCharge{}, paid: map[string]*ledger.Charge{},
		posts: map[string]ledger.Transaction{}, asked: map[string]ledger.Transaction{},
	}
	for i, limit := range []ledger.Amount{0, 5, 0} {
		id := t.account(fmt.Sprint("account-", i), 0, limit)
		m.accounts, m.limits[id] = append(m.accounts, id), limit
	}
	for range 5 {
		m.ids = append(m.ids, newID("chg_"))
	}
	return m
}

func (m *model) drawOrder(r *rapid.T) ledger.Order {
	o := order(rapid.SampledFrom(m.accounts).Draw(r, "payer"), rapid.SampledFrom(m.accounts).Draw(r, "payee"),
		ledger.Amount(rapid.IntRange(1, 12).Draw(r, "amount")))
	o.Sandbox = rapid.IntRange(0, 4).Draw(r, "sandbox") == 0
	return o
}

func (m *model) drawID(r *rapid.T) string {
	if rapid.IntRange(0, 3).Draw(r, "fresh") == 0 {
		m.ids = append(m.ids, newID("chg_"))
		return m.ids[len(m.ids)-1]
	}
	return rapid.SampledFrom(m.ids).Draw(r, "id")
}

// orderFor is mostly the order that the id has already, as a retry would ask.
func (m *model) orderFor(r *rapid.T, id string) ledger.Order {
	o := m.drawOrder(r)
	if rapid.IntRange(0, 3).Draw(r, "other") == 0 {
		return o
	}
	if h := m.held[id]; h != nil {
		return h.order
	}
	if c := m.paid[id]; c != nil {
		return c.Order
	}
	return o
}

func (m *model) reserved(p purse) (sum ledger.Amount) {
	for _, h := range m.held {
		if h.state == ledger.Reserved && h.order.Account == p.account && h.order.Sandbox == p.sandbox {
			sum += h.order.Amount
		}
	}
	return sum
}

// affords says whether the order may be reserved.
func (m *model) affords(o *ledger.Order) bool {
	p := purse{o.Account, o.Sandbox}
	limit := m.limits[o.Account]
	if o.Sandbox {
		limit = 0
	}
	return m.balances[p]-m.reserved(p)-o.Amount >= -limit
}

func (m *model) expect(r *rapid.T, what string, err, want error) {
	r.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		r.Fatalf("%s: error is %v, want %v", what, err, want)
	}
}

func (m *model) reserve(r *rapid.T) {
	id := m.drawID(r)
	o := m.orderFor(r, id)
	var want error
	h := m.held[id]
	switch {
	case h != nil && h.order != o:
		want = ledger.ErrConflict
	case h != nil && h.state != ledger.Reserved:
		want = ledger.ErrSettled
	case h == nil && !m.affords(&o):
		want = ledger.ErrInsufficient
	}
	_, err := m.Store.Reserve(m.ctx, id, o, ledger.Terms{})
	m.expect(r, "reserve", err, want)
	if err == nil && h == nil {
		m.held[id] = &heldCharge{order: o, state: ledger.Reserved, expires: m.Now().Add(ledger.ReservationLife)}
	}
}

// settles is the outcome of capturing what is held as h, and of whether the
// hold ends.
func (m *model) settles(id string, h *heldCharge) error {
	c := m.paid[id]
	switch {
	case h.state == ledger.Released:
		return ledger.ErrSettled
	case c != nil && c.Order == h.order:
		h.state = ledger.Captured
		return nil
	case h.state == ledger.Expired && c == nil && !m.affords(&h.order):
		return ledger.ErrInsufficient
	case c != nil:
		if h.state == ledger.Reserved {
			h.state = ledger.Released
		}
		return ledger.ErrConflict
	}
	h.state = ledger.Captured
	m.balances[purse{h.order.Account, h.order.Sandbox}] -= h.order.Amount
	m.balances[purse{h.order.Provider, h.order.Sandbox}] += h.order.Amount
	m.rows++
	return nil
}

// captured compares the outcome with the first one.
func (m *model) captured(r *rapid.T, id string, got ledger.Charge) {
	first := m.paid[id]
	if first == nil {
		m.paid[id] = &got
		if got.ID != id || got.State != ledger.Captured {
			r.Fatalf("captured %+v under %s", got, id)
		}
		return
	}
	if got != *first {
		r.Fatalf("outcome %+v, but the first was %+v", got, *first)
	}
}

func (m *model) capture(r *rapid.T) {
	id := m.drawID(r)
	var want error
	switch h := m.held[id]; {
	case h != nil:
		want = m.settles(id, h)
	case m.paid[id] == nil:
		want = ledger.ErrNotFound
	}
	c, p, err := m.Store.Capture(m.ctx, id, nil)
	m.expect(r, "capture", err, want)
	if err == nil {
		m.captured(r, id, c)
		m.purseIs(r, c.Account, c.Sandbox, p)
	}
}

func (m *model) charge(r *rapid.T) {
	id := m.drawID(r)
	o := m.orderFor(r, id)
	var want error
	switch h, c := m.held[id], m.paid[id]; {
	case h != nil && h.order != o, h == nil && c != nil && c.Order != o:
		want = ledger.ErrConflict
	case h != nil:
		want = m.settles(id, h)
	case c != nil:
		if m.affords(&o) { // held for a moment, and so remembered
			m.held[id] = &heldCharge{order: o, state: ledger.Captured}
		}
	case !m.affords(&o):
		want = ledger.ErrInsufficient
	default:
		m.held[id] = &heldCharge{order: o}
		want = m.settles(id, m.held[id])
	}
	c, p, err := m.Store.Charge(m.ctx, id, o, ledger.Terms{}, nil)
	m.expect(r, "charge", err, want)
	if err == nil {
		m.captured(r, id, c)
		m.purseIs(r, o.Account, o.Sandbox, p)
	}
}

func (m *model) release(r *rapid.T) {
	id := m.drawID(r)
	var want error
	switch h := m.held[id]; {
	case h == nil && m.paid[id] == nil:
		want = ledger.ErrNotFound
	case h == nil || h.state == ledger.Captured:
		want = ledger.ErrSettled
	default:
		h.state = ledger.Released
	}
	m.expect(r, "release", m.Store.Release(m.ctx, id), want)
}

func (m *model) renew(r *rapid.T) {
	id := m.drawID(r)
	var want error
	switch h := m.held[id]; {
	case h == nil && m.paid[id] == nil, h == nil && m.Forgets:
		want = ledger.ErrNotFound
	case h == nil || h.state != ledger.Reserved:
		want = ledger.ErrSettled
	default:
		h.expires = m.Now().Add(ledger.ReservationLife)
	}
	m.expect(r, "renew", m.Store.Renew(m.ctx, id), want)
}

// retry posts again what was posted before, as it was or with other content.
func (m *model) retry(r *rapid.T) bool {
	if len(m.asked) == 0 || rapid.IntRange(0, 3).Draw(r, "retry") != 0 {
		return false
	}
	var first ledger.Transaction
	for _, first = range m.asked { // the smallest, so that a seed repeats
		for id, other := range m.asked {
			if id < first.ID {
				first = other
			}
		}
		break
	}
	again := first
	var want error
	if rapid.Bool().Draw(r, "changed") {
		again.Reason, want = "changed", ledger.ErrConflict
	}
	got, _, err := m.Store.Post(m.ctx, again, m.audit("retry", again.ID))
	m.expect(r, "retry of a post", err, want)
	if err == nil && got != m.posts[first.ID] {
		r.Fatalf("retry gave %+v, the first outcome was %+v", got, m.posts[first.ID])
	}
	return true
}

func (m *model) credit(r *rapid.T) {
	if m.retry(r) {
		return
	}
	t := ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: rapid.SampledFrom(m.accounts).Draw(r, "account"),
		Amount: ledger.Amount(rapid.IntRange(1, 20).Draw(r, "amount")), Sandbox: rapid.IntRange(0, 4).Draw(r, "sandbox") == 0,
	}
	m.post(r, t, t.Amount, t.Creditor, t.Sandbox, nil)
	m.balances[purse{t.Creditor, t.Sandbox}] += t.Amount
}

func (m *model) adjust(r *rapid.T) {
	if m.retry(r) {
		return
	}
	account := rapid.SampledFrom(m.accounts).Draw(r, "account")
	t := ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindAdjustment, Creditor: account,
		Amount: ledger.Amount(rapid.IntRange(1, 9).Draw(r, "amount")), Sandbox: rapid.IntRange(0, 4).Draw(r, "sandbox") == 0,
	}
	change := t.Amount
	if rapid.Bool().Draw(r, "take") {
		t.Creditor, t.Debtor, change = "", account, -change
		m.post(r, t, t.Amount, ledger.Funding, t.Sandbox, nil)
	} else {
		m.post(r, t, t.Amount, account, t.Sandbox, nil)
	}
	m.balances[purse{account, t.Sandbox}] += change
}

func (m *model) refund(r *rapid.T) {
	id := rapid.SampledFrom(m.ids).Draw(r, "id")
	t := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Amount: ledger.Amount(rapid.IntRange(0, 8).Draw(r, "amount"))}
	c := m.paid[id]
	if c == nil {
		m.post(r, t, 0, "", false, ledger.ErrNotFound)
		return
	}
	left := c.Amount - c.Refunded
	amount := t.Amount
	if amount == 0 {
		amount = left
	}
	switch {
	case left == 0:
		m.post(r, t, 0, "", false, ledger.ErrSettled)
	case amount > left:
		m.post(r, t, 0, "", false, ledger.ErrInsufficient)
	default:
		m.balances[purse{c.Account, c.Sandbox}] += amount
		m.balances[purse{c.Provider, c.Sandbox}] -= amount
		c.Refunded += amount
		m.post(r, t, amount, c.Account, c.Sandbox, nil)
	}
}

func (m *model) post(r *rapid.T, t ledger.Transaction, amount ledger.Amount, creditor string, sandbox bool, want error) {
	got, _, err := m.Store.Post(m.ctx, t, m.audit("post", t.ID))
	m.expect(r, "post", err, want)
	if err != nil {
		return
	}
	m.rows++
	m.asked[t.ID], m.posts[t.ID] = t, got
	if got.Amount != amount || got.Creditor != creditor || got.Sandbox != sandbox {
		r.Fatalf("posted %+v, want %s to %s", got, amount, creditor)
	}
}

// wait moves the clock; no sum of these is the life of a reservation.
func (m *model) wait(r *rapid.T) {
	m.Advance(time.Duration(rapid.SampledFrom([]int{25, 50, 130}).Draw(r, "seconds")) * time.Second)
	for _, h := range m.held {
		if h.state == ledger.Reserved && !m.Now().Before(h.expires) {
			h.state = ledger.Expired
		}
	}
}

func (m *model) crash(r *rapid.T) {
	if rapid.IntRange(0, 3).Draw(r, "crash") != 0 {
		return
	}
	m.Store = m.Crash()
	if m.Forgets {
		clear(m.held)
	}
}

func (m *model) purseIs(r *rapid.T, account string, sandbox bool, got ledger.Purse) {
	p := purse{account, sandbox}
	if want := (ledger.Purse{Balance: m.balances[p], Reserved: m.reserved(p)}); got != want {
		r.Fatalf("purse of %s is %+v, want %+v", account, got, want)
	}
}

// check is the invariant after every step: the store says what the model says,
// and the books balance (promises 3, 4 and 5).
func (m *model) check(r *rapid.T) {
	open := 0
	for _, h := range m.held {
		if h.state == ledger.Reserved {
			open++
		}
	}
	if n := m.Store.OpenReservations(); n != open {
		r.Fatalf("%d reservations are open, want %d", n, open)
	}
	for _, id := range m.accounts {
		a, err := m.Store.Account(m.ctx, id)
		m.expect(r, "account", err, nil)
		m.purseIs(r, id, false, a.Live)
		m.purseIs(r, id, true, a.Sandbox)
		listed := 0
		for _, c := range m.charges(ledger.ChargeFilter{Account: id}) {
			if first := m.paid[c.ID]; first == nil || c != *first || c.Account != id {
				r.Fatalf("listed %+v, want %+v", c, first)
			}
			listed++
		}
		for _, c := range m.paid {
			if c.Account == id {
				listed--
			}
		}
		if listed != 0 {
			r.Fatalf("the list of charges differs by %d", listed)
		}
	}
	m.balanced(m.rows)
}

// finish proves that what the run leaves survives a crash.
func (m *model) finish() {
	m.Store = m.Crash()
	m.balanced(m.rows)
}
