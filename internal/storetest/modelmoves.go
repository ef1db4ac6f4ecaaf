package storetest

import (
	"bytes"
	"errors"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func (m *model) reserve(r *rapid.T) {
	id := m.drawID(r)
	o, terms := m.orderFor(r, id)
	if m.onlyReleased(id) { // the store may accept or refuse such a reservation; only a capture must fail
		return
	}
	m.reserveAs(r, id, o, terms)
}

// call reserves and captures a call with a new id.
func (m *model) call(r *rapid.T) {
	id := m.freshID()
	m.reserveAs(r, id, m.drawOrder(r), m.drawTerms(r))
	if m.held[id] != nil {
		m.captureAs(r, id)
	}
}

// The method again repeats an earlier call with its idempotency key, and sometimes
// with another fingerprint.
func (m *model) again(r *rapid.T) {
	if len(m.calls) == 0 {
		return
	}
	c := rapid.SampledFrom(m.calls).Draw(r, "call")
	if rapid.IntRange(0, 4).Draw(r, "changed") == 0 {
		c.terms.Idempotency.Fingerprint[0] ^= 1
	}
	m.reserveAs(r, m.freshID(), c.order, c.terms)
}

func (m *model) reserveAs(r *rapid.T, id string, o ledger.Order, terms ledger.Terms) {
	h := m.held[id]
	if h != nil {
		var want error
		if h.order != o {
			want = ledger.ErrConflict
		} else if h.state != ledger.Reserved {
			want = ledger.ErrSettled
		}
		got, err := m.Store.Reserve(m.ctx, id, o, terms)
		m.expect(r, "reserve again", err, want)
		if err == nil {
			m.gives(r, &o, h, got)
		}
		return
	}
	first, want := m.checkIdempotencyKey(&o, &terms)
	if first != nil {
		m.repeated(r, id, first, &o, &terms)
		return
	}
	var fresh heldCharge
	if want == nil {
		fresh, want = m.admit(&o, &terms)
	}
	got, err := m.Store.Reserve(m.ctx, id, o, terms)
	m.refused(r, "reserve", err, want)
	if err != nil {
		return
	}
	if terms.Idempotency.Key != "" {
		m.calls = append(m.calls, call{o, terms})
	}
	m.gives(r, &o, m.open(id, fresh), got)
	if p := (balance{o.Account, o.Test}); !fresh.waived && got.Balance.Available() < -m.limitOf(p) {
		r.Fatalf("the reservation leaves %s, below the limit of %s", got.Balance.Available(), m.limitOf(p))
	}
}

// gives checks that the result of Reserve agrees with the model.
func (m *model) gives(r *rapid.T, o *ledger.Order, h *heldCharge, got ledger.Reservation) {
	r.Helper()
	if got.First != nil || got.Waived != h.waived {
		r.Fatalf("reserved %+v, want one that is waived: %v", got, h.waived)
	}
	m.balanceIs(r, o.Account, o.Test, got.Balance)
}

// repeated makes a call with the idempotency key of a captured call, and checks the
// result.
func (m *model) repeated(r *rapid.T, id string, first *idempotencyEntry, o *ledger.Order, terms *ledger.Terms) {
	var want error
	switch {
	case first.fingerprint != terms.Idempotency.Fingerprint:
		want = ledger.ErrReused
	case len(first.answer) == 0:
		want = ledger.ErrGone
	}
	got, err := m.Store.Reserve(m.ctx, id, *o, *terms)
	m.expect(r, "repeat", err, want)
	if err != nil {
		return
	}
	if got.First == nil || got.Waived || got.Balance != (ledger.Balance{}) {
		r.Fatalf("repeating gave %+v, want the first answer alone", got)
	}
	if c := m.paid[first.id]; got.First.Charge != c.Charge || !bytes.Equal(got.First.Body, first.answer) {
		r.Fatalf("repeating gave %+v, want %+v and %q", got.First, c.Charge, first.answer)
	}
	m.balanceIs(r, got.First.Charge.Account, got.First.Charge.Test, got.First.Balance)
}

func (m *model) capture(r *rapid.T) { m.captureAs(r, m.drawID(r)) }

// captureOpen captures an open reservation.
func (m *model) captureOpen(r *rapid.T) {
	if id, found := m.drawHeld(r, ledger.Reserved); found {
		m.captureAs(r, id)
	}
}

// captureLate captures an expired reservation. In some runs, the account no longer
// has the credits, or has reached a cap.
func (m *model) captureLate(r *rapid.T) {
	id, found := m.drawHeld(r, ledger.Expired)
	if !found {
		if id, found = m.drawHeld(r, ledger.Reserved); !found {
			return
		}
		m.pass(130 * time.Second)
	}
	o := &m.held[id].order
	p := balance{o.Account, o.Test}
	switch rapid.IntRange(0, 3).Draw(r, "gone") {
	case 0:
		if all := m.balances[p] - m.reserved(p) + m.limitOf(p); all > 0 {
			m.takeAway(r, p, all)
		}
	case 1:
		m.limitTo(r, o.Account, 0, ledger.Caps{Day: 1 + o.Amount/2}, nil)
	}
	m.captureAs(r, id)
}

// drawHeld draws a reservation in that state from those that the store remembers.
func (m *model) drawHeld(r *rapid.T, state ledger.State) (id string, found bool) {
	var ids []string
	for _, id := range m.ids {
		if h := m.held[id]; h != nil && h.state == state {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", false
	}
	return rapid.SampledFrom(ids).Draw(r, "held"), true
}

func (m *model) captureAs(r *rapid.T, id string) {
	answer := drawAnswer(r)
	if m.onlyReleased(id) {
		m.staysReleased(r, id, func() error { _, _, err := m.Store.Capture(m.ctx, id, answer); return err })
		return
	}
	var want error
	switch h := m.held[id]; {
	case h != nil:
		want = m.settles(id, h)
	case m.paid[id] == nil:
		want = ledger.ErrNotFound
	}
	c, p, err := m.Store.Capture(m.ctx, id, answer)
	m.refused(r, "capture", err, want)
	if err == nil {
		m.captured(r, id, c, answer)
		m.balanceIs(r, c.Account, c.Test, p)
	}
}

func (m *model) charge(r *rapid.T) {
	id, answer := m.drawID(r), drawAnswer(r)
	o, terms := m.orderFor(r, id)
	if m.onlyReleased(id) {
		m.staysReleased(r, id, func() error { _, _, err := m.Store.Charge(m.ctx, id, o, terms, answer); return err })
		return
	}
	var want error
	if h := m.held[id]; h == nil {
		want = m.chargeFresh(id, &o, &terms)
	} else if want = ledger.ErrConflict; m.sameCall(&o, &h.order) {
		want = m.settles(id, h)
	}
	c, p, err := m.Store.Charge(m.ctx, id, o, terms, answer)
	m.refused(r, "charge", err, want)
	if err == nil {
		m.captured(r, id, c, answer)
		m.balanceIs(r, o.Account, o.Test, p)
	}
}

// chargeFresh returns the expected error of a charge under an id for which the store
// remembers no reservation.
func (m *model) chargeFresh(id string, o *ledger.Order, terms *ledger.Terms) error {
	if m.Derives && m.paid[id] != nil { // a store that derives the accounts looks up the first outcome and reserves nothing
		return m.firstOutcome(id, o, nil)
	}
	first, err := m.checkIdempotencyKey(o, terms)
	var h heldCharge
	switch {
	case first != nil:
		err = ledger.ErrSettled
	case err == nil:
		h, err = m.admit(o, terms)
	}
	if err != nil || m.paid[id] != nil {
		known := m.firstOutcome(id, o, err)
		if err == nil && known == nil { // the store reserved the amount for a moment, and therefore has a captured reservation in memory
			h.state = ledger.Captured
			m.held[id] = &h
		}
		return known
	}
	if terms.Idempotency.Key != "" {
		m.calls = append(m.calls, call{*o, *terms})
	}
	return m.settles(id, m.open(id, h))
}

// drawMostly draws an id. In three of four cases it draws the id of a reservation in
// that state, if there is one.
func (m *model) drawMostly(r *rapid.T, state ledger.State) string {
	if rapid.IntRange(0, 3).Draw(r, "mostly") < 3 {
		if id, found := m.drawHeld(r, state); found {
			return id
		}
	}
	return m.drawID(r)
}

func (m *model) release(r *rapid.T) {
	id := m.drawMostly(r, ledger.Reserved)
	var want error
	switch h := m.held[id]; {
	case h == nil && m.paid[id] == nil:
		want = ledger.ErrNotFound
	case h == nil || h.state == ledger.Captured:
		want = ledger.ErrSettled
	default:
		m.shut(id, h, ledger.Released)
		if m.Tombstones && m.paid[id] != nil { // the id was captured, and reserved again after a crash
			want = ledger.ErrSettled
		}
	}
	m.expect(r, "release", m.Store.Release(m.ctx, id), want)
	if m.Tombstones && !errors.Is(want, ledger.ErrSettled) {
		m.released[id] = m.Now()
	}
}

// onlyReleased reports whether the store knows nothing about the id except that it was
// released.
func (m *model) onlyReleased(id string) bool {
	_, released := m.released[id]
	return released && m.held[id] == nil && m.paid[id] == nil
}

// staysReleased checks that nothing can be captured under a released id. It calls do(),
// which tries to capture. The attempt must fail, but not with ErrUnavailable. The store
// remembers a release for ledger.SettleTime, so attempts later than half of that time
// are not checked.
func (m *model) staysReleased(r *rapid.T, id string, do func() error) {
	if since := m.Now().Sub(m.released[id]); since < 0 || since > ledger.SettleTime/2 {
		return
	}
	if err := do(); err == nil || errors.Is(err, ledger.ErrUnavailable) {
		r.Fatalf("%s was released: %v", id, err)
	}
}

func (m *model) renew(r *rapid.T) {
	id := m.drawMostly(r, ledger.Reserved)
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

// retry sometimes posts an earlier transaction again, with the same or other content,
// and reports whether it did.
func (m *model) retry(r *rapid.T) bool {
	if len(m.asked) == 0 || rapid.IntRange(0, 3).Draw(r, "retry") != 0 {
		return false
	}
	again := rapid.SampledFrom(m.asked).Draw(r, "posted")
	var want error
	if rapid.Bool().Draw(r, "changed") {
		again.Reason, want = "changed", ledger.ErrConflict
	}
	got, _, err := m.Store.PostTransaction(m.ctx, again, m.audit("retry", again.ID))
	m.expect(r, "retry of a post", err, want)
	if err == nil && got != m.posts[again.ID] {
		r.Fatalf("retry gave %+v, the first outcome was %+v", got, m.posts[again.ID])
	}
	return true
}

func (m *model) credit(r *rapid.T) {
	if m.retry(r) {
		return
	}
	t := ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: rapid.SampledFrom(m.accounts).Draw(r, "account"),
		Amount: ledger.Amount(rapid.IntRange(1, 20).Draw(r, "amount")), Test: rapid.IntRange(0, 4).Draw(r, "test") == 0,
	}
	m.balances[balance{t.Creditor, t.Test}] += t.Amount
	m.post(r, t, t.Amount, t.Creditor, t.Creditor, t.Test, nil)
}

func (m *model) adjust(r *rapid.T) {
	if m.retry(r) {
		return
	}
	account := rapid.SampledFrom(m.accounts).Draw(r, "account")
	t := ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindAdjustment, Creditor: account,
		Amount: ledger.Amount(rapid.IntRange(1, 9).Draw(r, "amount")), Test: rapid.IntRange(0, 4).Draw(r, "test") == 0,
	}
	p := balance{account, t.Test}
	if rapid.Bool().Draw(r, "take") {
		m.takeAway(r, p, t.Amount)
		return
	}
	m.balances[p] += t.Amount
	m.post(r, t, t.Amount, account, account, t.Test, nil)
}

func (m *model) takeAway(r *rapid.T, p balance, amount ledger.Amount) {
	m.balances[p] -= amount
	m.excused[p] = true
	m.post(r, ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindAdjustment, Debtor: p.account, Amount: amount, Test: p.test,
	}, amount, p.account, ledger.Funding, p.test, nil)
}

func (m *model) refund(r *rapid.T) {
	id := m.drawMostly(r, ledger.Captured)
	t := ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id,
		Amount: ledger.Amount(rapid.SampledFrom([]int{0, 0, 1, 2, 3, 5, 8}).Draw(r, "amount")),
	}
	c := m.paid[id]
	if c == nil {
		m.post(r, t, 0, "", "", false, ledger.ErrNotFound)
		return
	}
	left := c.Paid() - c.Refunded
	amount := t.Amount
	if amount == 0 {
		amount = left
	}
	switch {
	case left == 0:
		m.post(r, t, 0, "", "", false, ledger.ErrSettled)
	case amount > left:
		m.post(r, t, 0, "", "", false, ledger.ErrInsufficient)
	default:
		m.giveBack(c, amount)
		m.post(r, t, amount, c.Account, c.Account, c.Test, nil)
	}
}

// giveBack refunds a part of the charge in the model, and the fee in proportion.
func (m *model) giveBack(c *paidCharge, amount ledger.Amount) {
	payer, provider := balance{c.Account, c.Test}, balance{c.Provider, c.Test}
	m.balances[payer] += amount
	m.balances[provider] -= amount
	m.excused[provider] = true
	before := c.feeReturned()
	c.Refunded += amount
	if back := c.feeReturned() - before; back > 0 {
		operator := balance{c.FeeTo, c.Test}
		m.balances[operator] -= back
		m.balances[provider] += back
		m.excused[operator] = true
		m.rows++
	}
	if was := m.idempotencyKeys[c.idempotencyKey]; c.Refunded == c.Amount && was != nil && was.id == c.ID && len(was.answer) == 0 {
		delete(m.idempotencyKeys, c.idempotencyKey)
	}
}

func (c *paidCharge) feeReturned() ledger.Amount {
	if c.Fee == 0 || c.Waived {
		return 0
	}
	return c.Fee * c.Refunded / c.Amount
}

// post posts a transaction. The balances of the model must already include it. The
// returned balance must be that of the given account.
func (m *model) post(r *rapid.T, t ledger.Transaction, amount ledger.Amount, about, creditor string, test bool, want error) {
	got, p, err := m.Store.PostTransaction(m.ctx, t, m.audit("post", t.ID))
	m.expect(r, "post", err, want)
	if err != nil {
		return
	}
	m.rows++
	m.audited++
	m.asked, m.posts[t.ID] = append(m.asked, t), got
	if got.Amount != amount || got.Creditor != creditor || got.Test != test {
		r.Fatalf("posted %+v, want %s to %s", got, amount, creditor)
	}
	m.balanceIs(r, about, test, p)
}

// limit changes the limits of an account. A change that returns an error has no effect.
func (m *model) limit(r *rapid.T) {
	id := rapid.SampledFrom(m.accounts).Draw(r, "account")
	limit := rapid.SampledFrom([]ledger.Amount{0, 5, 30}).Draw(r, "credit limit")
	caps := drawCaps(r, "cap of the account")
	var want error
	if rapid.IntRange(0, 5).Draw(r, "given up") == 0 {
		want = errors.New("given up")
	}
	m.limitTo(r, id, limit, caps, want)
}

func (m *model) limitTo(r *rapid.T, id string, limit ledger.Amount, caps ledger.Caps, want error) {
	got, err := m.Store.UpdateAccount(m.ctx, id, func(a *ledger.Account) error {
		a.CreditLimit, a.Caps = limit, caps
		a.Live.Posted += 1000 // the store must ignore this change
		return want
	}, m.audit("account.update", id))
	m.expect(r, "change of limits", err, want)
	if err != nil {
		return
	}
	m.limits[id], m.caps[id] = limit, caps
	m.excused[balance{id, false}] = true
	m.audited++
	if got.ID != id || got.CreditLimit != limit || got.Caps != caps {
		r.Fatalf("changed to %+v, want %s and %+v", got, limit, caps)
	}
	m.balanceIs(r, id, false, got.Live)
}

// beforeMidnight is the time before midnight at which long waits stop. No sum of the
// short waits (25, 50 and 130 seconds) differs by less than five seconds from
// beforeMidnight or from the life of a reservation. The real time that a test takes
// adds less than five seconds, and so never decides the outcome.
const beforeMidnight = 60 * time.Second

// wait moves the clock, sometimes over midnight or the end of a month, and backwards if
// the harness can do that.
func (m *model) wait(r *rapid.T) {
	now := m.Now().UTC()
	day := now.Truncate(24 * time.Hour)
	next := func(at time.Time, days, months int) time.Duration {
		if at = at.Add(-beforeMidnight); !at.After(now) {
			at = at.Add(beforeMidnight).AddDate(0, months, days).Add(-beforeMidnight)
		}
		return at.Sub(now)
	}
	moves := []time.Duration{
		25 * time.Second, 130 * time.Second, next(day.AddDate(0, 0, 1), 1, 0), 50 * time.Second, 26 * time.Hour,
		next(day.AddDate(0, 1, 1-day.Day()), 0, 1),
	}
	if m.Backwards {
		moves = append(moves, -10*time.Minute)
	}
	move := rapid.SampledFrom(moves).Draw(r, "time")
	if move < 0 {
		if m.forgotten(-move) {
			return
		}
		m.seen(r)
	}
	m.pass(move)
}

// pass moves the clock and expires the model's reservations.
func (m *model) pass(d time.Duration) {
	m.Advance(d)
	for _, id := range m.ids {
		if h := m.held[id]; h != nil && h.state == ledger.Reserved && !m.Now().Before(h.expires) {
			m.shut(id, h, ledger.Expired)
		}
	}
}

// forgotten reports whether an idempotency key would be valid again after the clock was
// set back by the given time. The store may have forgotten such a key.
func (m *model) forgotten(back time.Duration) bool {
	for _, c := range m.paid {
		if age := m.Now().Sub(c.At); c.idempotencyKey.key != "" && age >= ledger.IdempotencyLife && age <= ledger.IdempotencyLife+back {
			return true
		}
	}
	return false
}

// The method seen makes a reservation and releases it, so that the store notices the
// current day.
func (m *model) seen(r *rapid.T) {
	id := newID("chg_")
	o := order(m.accounts[0], m.accounts[1], 1)
	h, want := m.admit(&o, &ledger.Terms{})
	_, err := m.Store.Reserve(m.ctx, id, o, ledger.Terms{})
	m.refused(r, "a last call", err, want)
	if err == nil {
		m.expect(r, "its release", m.Store.Release(m.ctx, id), nil)
		h.state = ledger.Released
		m.held[id] = &h
	}
}

func (m *model) crash(r *rapid.T) {
	if rapid.IntRange(0, 3).Draw(r, "crash") != 0 {
		return
	}
	m.Store = m.Crash()
	if !m.Forgets {
		return
	}
	for _, id := range m.ids {
		if h := m.held[id]; h != nil && h.state == ledger.Reserved {
			m.shut(id, h, ledger.Released)
		}
	}
	clear(m.held)
	m.day = 0 // after a crash, the store knows the latest day only from the charges in its journal
	for _, c := range m.paid {
		m.day = max(m.day, c.day)
	}
}
