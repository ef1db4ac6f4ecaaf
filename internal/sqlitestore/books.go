package sqlitestore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of the holds in memory.
const (
	maxOpen     = 1 << 18 // maximum number of open reservations
	maxUnpaid   = 1 << 15 // maximum number of remembered reservations that were released or expired
	maxCaptured = 1 << 12 // maximum number of remembered reservations that were captured; the journal has all of them
)

// books is the state in memory. One mutex guards all of it. A lock for each account
// would be slower, because finding the lock would take far longer than the work under
// the lock.
type books struct {
	mu       sync.Mutex
	byID     map[string]*account
	byName   map[string]*account // accounts by their folded names; see ledger.FoldName
	numbered []*account          // indexed by account.n; nil at unused numbers

	day             int32 // the day that new reservations count towards
	counters        map[counterKey]*spendCounter
	loaded          map[string]*spendCounter // counters that were read from the file and are not used yet, by spendCounter.subject
	idempotencyKeys map[idempotencyHash]idempotencyEntry

	holds    map[uuid]*hold
	expiring expiryList
	open     int // the number of holds that hold credits
	unpaid   ring
	captured ring
}

func newBooks() *books {
	return &books{
		byID: map[string]*account{}, byName: map[string]*account{}, holds: map[uuid]*hold{},
		counters: map[counterKey]*spendCounter{}, loaded: map[string]*spendCounter{}, idempotencyKeys: map[idempotencyHash]idempotencyEntry{},
		unpaid: ring{max: maxUnpaid}, captured: ring{max: maxCaptured},
	}
}

// add registers an account. The mutex of books must be locked, unless the caller is the
// only user of the books.
func (b *books) add(a *account) {
	for int64(len(b.numbered)) <= a.n {
		b.numbered = append(b.numbered, nil)
	}
	b.numbered[a.n], b.byID[a.id], b.byName[ledger.FoldName(a.name)] = a, a, a
}

func (b *books) number(n int64) *account {
	if n < 0 || n >= int64(len(b.numbered)) {
		return nil
	}
	return b.numbered[n]
}

// find returns the account with the given id, or ledger.ErrNotFound. It does not find
// system accounts.
func (b *books) find(id string) (*account, error) {
	a := b.byID[id]
	if a == nil || a.system() {
		return nil, fmt.Errorf("account %q: %w", id, ledger.ErrNotFound)
	}
	return a, nil
}

// holdState is the state of a hold.
type holdState uint8

const (
	holdOpen     holdState = iota // the hold reserves credits until it expires
	holdQueued                    // the hold reserves credits; the writer is capturing it
	holdInDoubt                   // the hold reserves credits; it is not known yet whether the hold was captured
	holdCaptured                  // the hold's credits were paid
	holdReleased                  // the hold's credits were released
	holdExpired                   // the hold's credits were released; a conditional charge may still capture it
)

// onFailure is the action that captureFailed takes on a hold.
type onFailure uint8

const (
	reopenHold  onFailure = iota // for a reservation: it stays open and may be captured again
	expireHold                   // for a conditional charge of an expired reservation: the hold expires again
	discardHold                  // for a conditional charge without a reservation: the hold is forgotten
	releaseHold                  // for a hold released while in doubt; if it was captured after all, it is refunded
)

// hold is a reservation that is open or remembered. The mutex of books guards it.
type hold struct {
	id              uuid
	order           ledger.Order
	payer, payee    *account
	feeTo           *account // nil if the order has no fee
	terms           ledger.Terms
	day             int32 // the day towards which the amount of the hold counts
	waived          bool  // true if a free quota pays for the call
	counters        [counterCount]*spendCounter
	idempotencyHash idempotencyHash // set if the terms have an idempotency key
	response        []byte          // the response to store together with the charge
	state           holdState
	onFailure       onFailure
	expires         time.Time
	waiters         []chan outcome

	prev, next *hold // the neighbours in the expiry list
}

// outcome is the result of a capture.
type outcome struct {
	charge  ledger.Charge
	balance ledger.Balance
	err     error
	ownsKey bool // whether the hold's idempotency key now belongs to the charge
	made    bool // whether this capture made the charge; false if an earlier capture made it
}

// paid returns the amount that the hold takes from the balance.
func (h *hold) paid() ledger.Amount {
	if h.waived {
		return 0
	}
	return h.order.Amount
}

func (h *hold) freeCalls() int64 {
	if h.waived {
		return 1
	}
	return 0
}

// reserve makes a hold for the order and opens it. If a call was captured before under
// the idempotency key in the terms, reserve makes no hold, and returns the entry of the
// key instead. b.mu must be locked.
func (b *books) reserve(id uuid, o *ledger.Order, terms *ledger.Terms, now, expires time.Time) (*hold, *idempotencyEntry, error) {
	h := &hold{id: id, order: *o, terms: *terms, expires: expires}
	if err := b.findAccounts(h); err != nil {
		return nil, nil, err
	}
	if terms.Idempotency.Key != "" {
		var first *idempotencyEntry
		var err error
		if h.idempotencyHash, first, err = b.checkIdempotencyKey(o, &terms.Idempotency, h.payer, now); err != nil || first != nil {
			return nil, first, err
		}
	}
	if b.open >= maxOpen {
		return nil, nil, fmt.Errorf("%w: %d reservations are open, which is the maximum", ledger.ErrUnavailable, maxOpen)
	}
	if err := b.admit(h, now); err != nil {
		return nil, nil, err
	}
	b.holds[id] = h
	b.expiring.insert(h)
	return h, nil, nil
}

// findAccounts looks up the accounts that the hold's order names.
func (b *books) findAccounts(h *hold) (err error) {
	if h.payer, err = b.find(h.order.Account); err != nil {
		return err
	}
	if h.payee, err = b.find(h.order.Provider); err != nil {
		return err
	}
	if h.order.FeeTo != "" {
		h.feeTo, err = b.find(h.order.FeeTo)
	}
	return err
}

// admit reserves the order's credits and its share of caps and quotas, or returns an
// error with the reason why the order is refused.
func (b *books) admit(h *hold, now time.Time) error {
	h.counters = b.countersOf(h.payer.n, h.order.Lineage, h.order.Server, h.order.Test)
	h.day = dayOf(&h.counters, b.today(now))
	h.waived = h.counters[ofServer].free(h.day) < h.terms.FreeCalls
	if !h.waived {
		if err := h.checkCaps(); err != nil {
			return err
		}
		if err := h.payer.hold(h.order.Amount, h.order.Test); err != nil {
			return err
		}
	}
	for _, m := range h.counters {
		m.hold(h.day, h.paid(), h.freeCalls())
	}
	b.open++
	b.reserveIdempotencyKey(h)
	return nil
}

// holdAgain reserves the credits of an expired hold again, for a conditional charge.
// b.mu must be locked.
func (b *books) holdAgain(h *hold, now time.Time) error {
	if h.terms.Idempotency.Key != "" {
		switch _, first, err := b.checkIdempotencyKey(&h.order, &h.terms.Idempotency, h.payer, now); {
		case errors.Is(err, ledger.ErrUnavailable):
			return err
		case first != nil || err != nil:
			return ledger.ErrSettled // after the hold expired, another call took its idempotency key
		}
	}
	if err := b.admit(h, now); err != nil {
		return err
	}
	h.onFailure, h.state = expireHold, holdQueued
	return nil
}

// queue gives a hold the state holdQueued, so that it does not expire on its way to the
// writer. b.mu must be locked.
func (b *books) queue(h *hold) {
	b.expiring.remove(h)
	h.state = holdQueued
}

// finish ends a hold, sets the given state, and frees the credits that the hold
// reserved. b.mu must be locked. If the hold was captured, the balance must already
// include the charge.
func (b *books) finish(h *hold, state holdState) {
	h.payer.balances[balanceIndex(h.order.Test)].Reserved -= h.paid()
	for _, m := range h.counters {
		m.unhold(h.day, h.paid(), h.freeCalls())
	}
	h.response = nil
	if state != holdCaptured {
		b.releaseIdempotencyKey(h)
	}
	b.open--
	b.expiring.remove(h)
	h.state = state
	if state == holdCaptured {
		b.captured.push(b, h)
	} else {
		b.unpaid.push(b, h)
	}
}

// captureFailed changes a hold after its capture has failed. h.onFailure decides
// whether the hold is opened again or ends. b.mu must be locked.
func (b *books) captureFailed(h *hold) {
	switch h.onFailure {
	case releaseHold:
		b.finish(h, holdReleased)
	case expireHold:
		h.onFailure = reopenHold
		b.finish(h, holdExpired)
	case discardHold:
		b.finish(h, holdReleased)
		delete(b.holds, h.id) // forget the hold, as if it had never existed
	case reopenHold:
		h.state = holdOpen
		b.expiring.insert(h)
	}
}

// expire ends the holds that have expired by now. b.mu must be locked.
func (b *books) expire(now time.Time) {
	for h := b.expiring.first; h != nil && !now.Before(h.expires); h = b.expiring.first {
		b.finish(h, holdExpired)
	}
}

// expiryList is a list of open holds in the order of their expiry. All holds live
// equally long, so a search from the back finds the place of a new hold at once, unless
// the clock went backwards.
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

// remove removes the hold if it is in the list.
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

// nextNumber returns the number for the next account.
func (b *books) nextNumber() int64 { return int64(len(b.numbered)) }
