package sqlitestore

import (
	"fmt"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of what memory holds.
const (
	maxOpen     = 1 << 18 // open reservations
	maxUnpaid   = 1 << 15 // released and expired ones that are remembered
	maxCaptured = 1 << 12 // captured ones that are remembered; the journal knows them all
)

// books is what memory knows. One mutex guards it: each step under it is far
// shorter than what a lock for each account would cost to find.
type books struct {
	mu       sync.Mutex
	byID     map[string]*account
	byName   map[string]*account
	numbered []*account // by account.n; nil where there is none

	holds    map[uuid]*hold
	expiring expiryList
	open     int // holds that hold credits
	unpaid   ring
	captured ring
}

func newBooks() *books {
	return &books{
		byID: map[string]*account{}, byName: map[string]*account{}, holds: map[uuid]*hold{},
		unpaid: ring{max: maxUnpaid}, captured: ring{max: maxCaptured},
	}
}

// add makes an account known. The caller holds the mutex or is alone.
func (b *books) add(a *account) {
	for int64(len(b.numbered)) <= a.n {
		b.numbered = append(b.numbered, nil)
	}
	b.numbered[a.n], b.byID[a.id], b.byName[a.name] = a, a, a
}

func (b *books) number(n int64) *account {
	if n < 0 || n >= int64(len(b.numbered)) {
		return nil
	}
	return b.numbered[n]
}

// find returns the account that a caller names by its id, the ledger's own
// excepted.
func (b *books) find(id string) (*account, error) {
	a := b.byID[id]
	if a == nil || a.system() {
		return nil, fmt.Errorf("account %q: %w", id, ledger.ErrNotFound)
	}
	return a, nil
}

// holdState is where a hold stands.
type holdState uint8

const (
	holdOpen     holdState = iota // holds credits until it expires
	holdQueued                    // holds credits; the writer is capturing it
	holdDoubt                     // holds credits; whether it was captured is not known yet
	holdCaptured                  // paid
	holdReleased                  // given back
	holdExpired                   // given back; a conditional charge may still capture it
)

// hold is a reservation or what is remembered of one. The mutex of books
// guards it.
type hold struct {
	id           uuid
	order        ledger.Order
	payer, payee *account
	state        holdState
	expires      time.Time
	// conditional: made by a charge without a reservation, it goes when the
	// capture fails, and leaves was behind.
	conditional bool
	was         holdState
	// unwanted: released while in doubt, so a capture that turns up is refunded.
	unwanted bool
	waiters  []chan outcome

	prev, next *hold // in the list of those that expire
}

// outcome is the answer to a capture.
type outcome struct {
	charge ledger.Charge
	purse  ledger.Purse
	err    error
}

// reserve opens a hold for the order. The caller holds the mutex.
func (b *books) reserve(id uuid, o *ledger.Order, expires time.Time) (*hold, error) {
	payer, err := b.find(o.Account)
	if err != nil {
		return nil, err
	}
	payee, err := b.find(o.Provider)
	if err != nil {
		return nil, err
	}
	if b.open >= maxOpen {
		return nil, fmt.Errorf("%w: %d reservations are open, which is the most", ledger.ErrUnavailable, maxOpen)
	}
	if err := payer.hold(o.Amount, o.Sandbox); err != nil {
		return nil, err
	}
	h := &hold{id: id, order: *o, payer: payer, payee: payee, expires: expires}
	b.holds[id] = h
	b.open++
	b.expiring.insert(h)
	return h, nil
}

// again holds the credits of an expired hold once more, for a conditional
// charge. The caller holds the mutex.
func (b *books) again(h *hold) error {
	if err := h.payer.hold(h.order.Amount, h.order.Sandbox); err != nil {
		return err
	}
	b.open++
	h.conditional, h.was, h.state = true, holdExpired, holdQueued
	return nil
}

// queue marks a hold as on its way to the writer: it cannot expire any more.
// The caller holds the mutex.
func (b *books) queue(h *hold) {
	b.expiring.remove(h)
	h.state = holdQueued
}

// settle ends a hold: its credits are no longer held. The caller holds the
// mutex and has moved the balance if there was a payment.
func (b *books) settle(h *hold, state holdState) {
	h.payer.purses[purseIndex(h.order.Sandbox)].Reserved -= h.order.Amount
	b.open--
	b.expiring.remove(h)
	h.state = state
	if state == holdCaptured {
		b.captured.push(b, h)
	} else {
		b.unpaid.push(b, h)
	}
}

// failed puts a hold back whose capture did not happen. The caller holds the
// mutex.
func (b *books) failed(h *hold) {
	switch {
	case h.unwanted:
		b.settle(h, holdReleased)
	case h.conditional && h.was == holdExpired:
		h.conditional = false
		b.settle(h, holdExpired)
	case h.conditional:
		b.settle(h, holdReleased)
		delete(b.holds, h.id) // as if it had never been
	default:
		h.state = holdOpen
		b.expiring.insert(h)
	}
}

// sweep gives back what expired by now. The caller holds the mutex.
func (b *books) sweep(now time.Time) {
	for h := b.expiring.first; h != nil && !now.Before(h.expires); h = b.expiring.first {
		b.settle(h, holdExpired)
	}
}

// expiryList is a list of open holds, the first to expire in front. Lives are
// equal, so inserting from the back finds the place at once unless the clock
// went backwards.
type expiryList struct{ first, last *hold }

func (l *expiryList) insert(h *hold) {
	after := l.last
	for after != nil && after.expires.After(h.expires) {
		after = after.prev
	}
	h.prev = after
	if after == nil {
		h.next, l.first = l.first, h
	} else {
		h.next, after.next = after.next, h
	}
	if h.next == nil {
		l.last = h
	} else {
		h.next.prev = h
	}
}

// remove takes the hold out, if it is in.
func (l *expiryList) remove(h *hold) {
	if h.prev == nil && l.first != h {
		return
	}
	if h.prev == nil {
		l.first = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		l.last = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
}

// ring remembers the latest settled holds and forgets the oldest.
type ring struct {
	max   int
	holds []*hold
	next  int
}

func (r *ring) push(b *books, h *hold) {
	if len(r.holds) < r.max {
		r.holds = append(r.holds, h)
		return
	}
	old := r.holds[r.next]
	if b.holds[old.id] == old && old.state >= holdCaptured {
		delete(b.holds, old.id)
	}
	r.holds[r.next] = h
	r.next = (r.next + 1) % r.max
}

// count is one more than the greatest number of an account.
func (b *books) count() int64 { return int64(len(b.numbered)) }
