package storetest

import (
	"errors"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// today returns the day that a new reservation counts for. If the clock was set back
// over midnight, today still returns the later day.
func (m *model) today() int32 {
	if day := int32(m.Now().Unix() / 86400); day != m.day-1 {
		m.day = day
	}
	return m.day
}

// within reports whether two days are in the same period: the same day or the same
// month, depending on p.
func within(p ledger.Period, day, of int32) bool {
	if p == ledger.PerDay {
		return day == of
	}
	a, b := time.Unix(int64(day)*86400, 0).UTC(), time.Unix(int64(of)*86400, 0).UTC()
	return p == ledger.PerMonth && a.Year() == b.Year() && a.Month() == b.Month()
}

// counted reports whether two orders count towards the same cap of that holder.
func counted(holder ledger.Holder, a, b *ledger.Order) bool {
	if holder == ledger.HolderKey {
		return a.Lineage == b.Lineage
	}
	return a.Account == b.Account && a.Test == b.Test && (holder == ledger.HolderAccount || a.Server == b.Server)
}

// spending adds up the charges and the reservations that count towards the order's
// cap for the holder and the period. Refunds do not reduce the sum.
func (m *model) spending(holder ledger.Holder, period ledger.Period, o *ledger.Order, day int32) (spent, held ledger.Amount) {
	for _, c := range m.paid {
		if counted(holder, &c.Order, o) && within(period, c.day, day) && !c.Waived {
			spent += c.Amount
		}
	}
	for _, h := range m.held {
		if h.state == ledger.Reserved && counted(holder, &h.order, o) && within(period, h.day, day) && !h.waived {
			held += h.order.Amount
		}
	}
	return spent, held
}

// free counts the captured and reserved calls that use the same free quota as the
// order on that day.
func (m *model) free(o *ledger.Order, day int32) (n int64) {
	for _, c := range m.paid {
		if c.Waived && c.day == day && counted(ledger.HolderServer, &c.Order, o) {
			n++
		}
	}
	for _, h := range m.held {
		if h.state == ledger.Reserved && h.waived && h.day == day && counted(ledger.HolderServer, &h.order, o) {
			n++
		}
	}
	return n
}

// beyond lists the caps that the order would exceed.
func (m *model) beyond(o *ledger.Order, terms *ledger.Terms, day int32) (broken []ledger.Cap) {
	for holder, caps := range map[ledger.Holder]ledger.Caps{
		ledger.HolderKey: terms.Key, ledger.HolderAccount: m.caps[o.Account], ledger.HolderServer: terms.Server,
	} {
		for period, amount := range map[ledger.Period]ledger.Amount{
			ledger.PerCall: caps.Call, ledger.PerDay: caps.Day, ledger.PerMonth: caps.Month,
		} {
			spent, held := m.spending(holder, period, o, day)
			if amount > 0 && spent+held+o.Amount > amount {
				broken = append(broken, ledger.Cap{
					Holder: holder, Period: period, Account: o.Account, Lineage: o.Lineage, Server: o.Server, Test: o.Test,
					Amount: amount, Spent: spent, Held: held, Resets: resets(period, day),
				})
			}
		}
	}
	return broken
}

func resets(p ledger.Period, day int32) time.Time {
	at := time.Unix(int64(day)*86400, 0).UTC()
	switch p {
	case ledger.PerDay:
		return at.AddDate(0, 0, 1)
	case ledger.PerMonth:
		return time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	default:
		return time.Time{}
	}
}

func (m *model) reserved(p balance) (sum ledger.Amount) {
	for _, h := range m.held {
		if h.state == ledger.Reserved && !h.waived && h.order.Account == p.account && h.order.Test == p.test {
			sum += h.order.Amount
		}
	}
	return sum
}

func (m *model) limitOf(p balance) ledger.Amount {
	if p.test {
		return 0
	}
	return m.limits[p.account]
}

// refusal is an expected error with its figures.
type refusal struct {
	error
	caps    []ledger.Cap // the store names one of these
	balance ledger.Balance
	needed  ledger.Amount
}

func (f *refusal) Unwrap() error { return f.error }

// admit returns the reservation that the store should make for the order now, or the
// expected refusal.
func (m *model) admit(o *ledger.Order, terms *ledger.Terms) (heldCharge, error) {
	h := heldCharge{order: *o, terms: *terms, state: ledger.Reserved, day: m.today()}
	h.expires = m.Now().Add(ledger.ReservationLife)
	if h.waived = m.free(o, h.day) < terms.FreeCalls; h.waived {
		return h, nil
	}
	p := balance{o.Account, o.Test}
	if broken := m.beyond(o, terms, h.day); len(broken) > 0 {
		return h, &refusal{error: ledger.ErrCapped, caps: broken, needed: o.Amount}
	}
	if m.balances[p]-m.reserved(p)-o.Amount < -m.limitOf(p) {
		return h, &refusal{error: ledger.ErrInsufficient, balance: m.balanceOf(p), needed: o.Amount}
	}
	return h, nil
}

// refused checks that err is the expected refusal, with the same figures. Call it
// before the model changes.
func (m *model) refused(r *rapid.T, what string, err, want error) {
	r.Helper()
	var f *refusal
	if !errors.As(want, &f) {
		m.expect(r, what, err, want)
		return
	}
	m.expect(r, what, err, f.error)
	var capped *ledger.CapError
	if errors.As(err, &capped) && (capped.Needed != f.needed || !slices.Contains(f.caps, capped.Cap)) {
		r.Fatalf("%s: refused by %+v, want one of %+v", what, capped, f.caps)
	}
	var short *ledger.InsufficientError
	if errors.As(err, &short) && (short.Needed != f.needed || short.Balance != f.balance) {
		r.Fatalf("%s: refused by %+v, want balance %+v", what, short, f.balance)
	}
}

// checkIdempotencyKey returns the expected result of looking up a call's idempotency
// key: no call, the first call, or an error.
func (m *model) checkIdempotencyKey(o *ledger.Order, terms *ledger.Terms) (*idempotencyEntry, error) {
	was := m.idempotencyKeys[idempotencyKeyOf(o, terms)]
	switch {
	case terms.Idempotency.Key == "" || was == nil:
		return nil, nil
	case !was.captured && was.fingerprint != terms.Idempotency.Fingerprint:
		return nil, ledger.ErrReused
	case !was.captured:
		return nil, ledger.ErrInFlight
	case m.Now().Sub(was.at) >= ledger.IdempotencyLife:
		return nil, nil
	}
	return was, nil
}

// open adds a reservation to the model.
func (m *model) open(id string, h heldCharge) *heldCharge {
	m.held[id] = &h
	if h.terms.Idempotency.Key != "" {
		m.idempotencyKeys[idempotencyKeyOf(&h.order, &h.terms)] = &idempotencyEntry{id: id, fingerprint: h.terms.Idempotency.Fingerprint}
	}
	return &h
}

// shut ends a reservation and puts it into the given state. It frees the reservation's
// idempotency key, unless the call was captured or another call has taken the key since.
func (m *model) shut(id string, h *heldCharge, state ledger.State) {
	h.state = state
	k := idempotencyKeyOf(&h.order, &h.terms)
	if was := m.idempotencyKeys[k]; h.terms.Idempotency.Key != "" && was != nil && was.id == id && !was.captured {
		delete(m.idempotencyKeys, k)
	}
}

// firstOutcome returns the expected error of capturing the order under an id that the
// store has no reservation for. If the journal has no charge under the id either,
// firstOutcome returns reason unchanged.
func (m *model) firstOutcome(id string, o *ledger.Order, reason error) error {
	switch c := m.paid[id]; {
	case c == nil:
		return reason
	case !m.sameCall(o, &c.Order):
		return ledger.ErrConflict
	}
	return nil
}

// settles returns the expected error of capturing h, and captures h in the model if no
// error is expected.
func (m *model) settles(id string, h *heldCharge) error {
	late := false
	switch h.state {
	case ledger.Captured:
		return nil
	case ledger.Released:
		return ledger.ErrSettled
	case ledger.Expired:
		if first, err := m.checkIdempotencyKey(&h.order, &h.terms); first != nil || err != nil {
			return ledger.ErrSettled // the call was made again under its idempotency key
		}
		again, err := m.admit(&h.order, &h.terms)
		if err != nil {
			return m.firstOutcome(id, &h.order, err)
		}
		late, h.day, h.waived = true, again.day, again.waived
		if h.terms.Idempotency.Key != "" {
			m.idempotencyKeys[idempotencyKeyOf(&h.order, &h.terms)] = &idempotencyEntry{id: id, fingerprint: h.terms.Idempotency.Fingerprint}
		}
	}
	switch err := m.firstOutcome(id, &h.order, ledger.ErrNotFound); {
	case err == nil: // the id was captured before, so no credits move, and the idempotency key of h stays unused
		m.shut(id, h, ledger.Captured)
	case errors.Is(err, ledger.ErrConflict) && late:
		m.shut(id, h, ledger.Expired)
		return err
	case errors.Is(err, ledger.ErrConflict):
		m.shut(id, h, ledger.Released)
		return err
	default:
		m.take(h)
	}
	return nil
}

// take moves the credits of a charge in the model.
func (m *model) take(h *heldCharge) {
	h.state = ledger.Captured
	m.rows++
	if h.waived {
		return
	}
	o := &h.order
	m.balances[balance{o.Account, o.Test}] -= o.Amount
	m.balances[balance{o.Provider, o.Test}] += o.Amount
	if o.Fee > 0 {
		m.balances[balance{o.Provider, o.Test}] -= o.Fee
		m.balances[balance{o.FeeTo, o.Test}] += o.Fee
		m.rows++
	}
}

// captured checks the result of a capture, and records the capture in the model. If the
// id was captured before, the result must be the first outcome.
func (m *model) captured(r *rapid.T, id string, got ledger.Charge, answer []byte) {
	r.Helper()
	if got.Made != (m.paid[id] == nil) {
		r.Fatalf("captured %+v, of which the first was %+v", got, m.paid[id])
	}
	got.Made = false
	if first := m.paid[id]; first != nil {
		if got != first.Charge {
			r.Fatalf("outcome %+v, but the first was %+v", got, first.Charge)
		}
		return
	}
	h := m.held[id]
	if want := (ledger.Charge{ID: id, Order: h.order, State: ledger.Captured, At: got.At, Waived: h.waived}); got != want {
		r.Fatalf("captured %+v, want %+v", got, want)
	}
	c := &paidCharge{Charge: got, day: h.day}
	if m.paid[id] = c; h.terms.Idempotency.Key == "" {
		return
	}
	c.idempotencyKey = idempotencyKeyOf(&h.order, &h.terms)
	if len(answer) > ledger.MaxStoredResponse {
		answer = nil
	}
	m.idempotencyKeys[c.idempotencyKey] = &idempotencyEntry{id: id, fingerprint: h.terms.Idempotency.Fingerprint, captured: true, at: got.At, answer: answer}
}
