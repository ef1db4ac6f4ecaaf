package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Reserve holds the order's amount under the charge id for
// ledger.ReservationLife, if the terms and the account's own caps allow it. It
// does no I/O. If the terms have the key of a call that was captured before,
// nothing is reserved, and the first answer is read instead. Repeating it with the same order while the reservation is open changes
// nothing. Errors: ledger.ErrNotFound (account or provider), ErrConflict (the id
// has another order), ErrSettled (the id is captured, released or expired),
// *CapError, *InsufficientError, for a call that is sent again ErrInFlight,
// ErrReused and ErrGone, and ErrUnavailable while the store cannot write or holds
// all the reservations it may.
//
// An id that was captured so long ago that memory forgot it can be reserved
// again; capturing it then gives the first outcome and takes nothing.
func (s *Store) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Reservation{}, err
	}
	h, first, err := s.reserve(u, &o, &terms)
	if err != nil {
		return ledger.Reservation{}, err
	}
	if first == nil {
		return h, nil
	}
	answer, err := s.storedResponse(first, &terms.Idempotency)
	return ledger.Reservation{First: answer}, err
}

func (s *Store) reserve(u uuid, o *ledger.Order, terms *ledger.Terms) (ledger.Reservation, *idempotencyEntry, error) {
	b, now := s.books, s.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	h := b.holds[u]
	switch {
	case h == nil:
		var first *idempotencyEntry
		var err error
		if h, first, err = b.reserve(u, o, terms, now, now.Add(ledger.ReservationLife)); err != nil || first != nil {
			return ledger.Reservation{}, first, err
		}
	case h.order != *o:
		return ledger.Reservation{}, nil, ledger.ErrConflict
	case h.state != holdOpen && h.state != holdQueued:
		return ledger.Reservation{}, nil, ledger.ErrSettled
	}
	return ledger.Reservation{Balance: h.payer.balances[balanceIndex(o.Test)], Waived: h.waived}, nil, nil
}

// check is what every new order must pass.
func (s *Store) check(ctx context.Context, id string, o *ledger.Order, terms *ledger.Terms) (uuid, error) {
	if err := ctx.Err(); err != nil {
		return uuid{}, err
	}
	if err := s.Healthy(); err != nil {
		return uuid{}, err
	}
	if err := errors.Join(o.Check(), terms.Key.Check(), terms.Server.Check()); err != nil {
		return uuid{}, err
	}
	if len(terms.Idempotency.Key) > ledger.MaxIdempotencyKey {
		return uuid{}, fmt.Errorf("the key to repeat the call by is longer than %d bytes", ledger.MaxIdempotencyKey)
	}
	u, err := parseID(chargePrefix, id)
	if err == nil && s.writer.archived.Load().covers(u) {
		if _, err = s.captured(u); errors.Is(err, ledger.ErrNotFound) {
			err = &ledger.ArchivedError{ID: id, Cause: ledger.ErrSettled}
		}
	}
	return u, err
}

// Renew lets an open reservation live for another ledger.ReservationLife from
// now. Errors: ledger.ErrSettled if it is open no more, ErrNotFound.
func (s *Store) Renew(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	b, now := s.books, s.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	h := b.holds[u]
	switch {
	case h == nil:
		return ledger.ErrNotFound
	case h.state > holdInDoubt:
		return ledger.ErrSettled
	}
	h.expires = now.Add(ledger.ReservationLife)
	if h.state == holdOpen {
		b.expiring.remove(h)
		b.expiring.insert(h)
	}
	return nil
}

// parseCharge takes an id that can be none for one that does not exist.
func parseCharge(ctx context.Context, id string) (uuid, error) {
	if err := ctx.Err(); err != nil {
		return uuid{}, err
	}
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return uuid{}, ledger.ErrNotFound
	}
	return u, nil
}

// Release gives an open reservation back. Repeating it changes nothing, and an
// expired one counts as released from then on. Errors: ledger.ErrSettled if it
// is captured or being captured, ErrNotFound if it is not known, so that there
// is nothing to give back, ErrUnavailable if its capture is in doubt: it is
// released, or refunded, when that ends, if this process lives to see it.
func (s *Store) Release(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	if known, err := s.release(u); known {
		return err
	}
	if _, err := s.captured(u); err != nil {
		return err
	}
	return ledger.ErrSettled
}

func (s *Store) release(u uuid) (known bool, err error) {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	h := b.holds[u]
	if h == nil {
		return false, nil
	}
	switch h.state {
	case holdOpen:
		b.finish(h, holdReleased)
	case holdExpired:
		h.state = holdReleased
	case holdInDoubt:
		h.unwanted = true
		return true, s.inDoubtError()
	case holdReleased:
	default:
		return true, ledger.ErrSettled
	}
	return true, nil
}

// Capture takes the money of a reservation and returns once that is durable,
// with the charge and the payer's balance. If the call may be sent again, its
// answer is kept with it; nil, or one longer than ledger.MaxAnswer, is not kept.
// The answer must not be changed afterwards. Captured before, it gives the first
// outcome again. If the reservation has expired, it is Charge with its order.
// ctx cancels it only as long as it is certain that nothing is charged.
//
// Errors: ledger.ErrSettled if it was released, ErrNotFound if it is not known
// (a restart forgets reservations: use Charge), *InsufficientError after expiry,
// ErrUnavailable: nothing was taken, or the outcome is not known yet. The
// reservation stays then; the caller may try again, or release it.
func (s *Store) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.captureNow(ctx, u, conditional{}, answer)
}

// Charge captures the order in one step: it checks the balance and captures, as
// Capture does for a reservation that expired or that a restart forgot. If the
// reservation is open, it is captured. Captured before, the first outcome is
// given again. Errors are those of Reserve and Capture; ledger.ErrSettled means
// that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.captureNow(ctx, u, conditional{&o, &terms}, answer)
}

// conditional is what a charge without a reservation asks for.
type conditional struct {
	order *ledger.Order // nil for the capture of a reservation
	terms *ledger.Terms
}

var channels = sync.Pool{New: func() any { return make(chan outcome, 1) }}

// settleNow captures what is held under the id, or what c asks for.
func (s *Store) captureNow(ctx context.Context, u uuid, c conditional, body []byte) (ledger.Charge, ledger.Balance, error) {
	o := c.order
	done := channels.Get().(chan outcome)
	defer channels.Put(done)
	for {
		h, mine, err := s.join(u, c, body, done)
		switch {
		case err == nil && h == nil:
			return s.firstOutcome(u, o)
		case err != nil && h != nil:
			return s.refused(u, &h.order, err)
		case err != nil:
			return s.refused(u, o, err)
		}
		if mine {
			if err := s.writer.submit(ctx, job{hold: h}); err != nil {
				s.unqueue(h, done)
				return ledger.Charge{}, ledger.Balance{}, err
			}
		}
		out := <-done
		if errors.Is(out.err, errNotQueued) {
			continue // who was to queue it gave up
		}
		if o != nil && h.order != *o {
			return ledger.Charge{}, ledger.Balance{}, ledger.ErrConflict
		}
		return out.charge, out.balance, out.err
	}
}

// join finds or makes the hold to capture, which then answers on done. It is
// mine if the caller must queue it. Neither hold nor error means that the
// journal knows; both, that an expired hold cannot be held again.
func (s *Store) join(u uuid, c conditional, body []byte, done chan outcome) (h *hold, mine bool, err error) {
	o := c.order
	b, now := s.books, s.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	h = b.holds[u]
	switch {
	case h == nil && o == nil:
		return nil, false, nil
	case h == nil:
		var first *idempotencyEntry
		if h, first, err = b.reserve(u, o, c.terms, now, now); err != nil {
			return nil, false, err
		}
		if first != nil {
			return nil, false, errCapturedUnderKey
		}
		h.conditional = true
		b.queue(h)
	case o != nil && h.order != *o:
		return nil, false, ledger.ErrConflict
	case h.state == holdCaptured:
		return nil, false, nil
	case h.state == holdReleased:
		return nil, false, ledger.ErrSettled
	case h.state == holdInDoubt:
		return nil, false, s.inDoubtError()
	case h.state == holdQueued:
		h.waiters = append(h.waiters, done)
		return h, false, nil
	case h.state == holdExpired:
		if err := b.holdAgain(h, now); err != nil {
			return h, false, err
		}
	default:
		b.queue(h)
	}
	h.waiters, h.response = append(h.waiters, done), body
	return h, true, nil
}

func (s *Store) inDoubtError() error {
	if err := s.Healthy(); err != nil {
		return err
	}
	return fmt.Errorf("%w: the outcome of the capture is not known yet", ledger.ErrUnavailable)
}

// unqueue puts a hold back that could not be queued.
func (s *Store) unqueue(h *hold, done chan outcome) {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.captureFailed(h)
	wake(h, outcome{err: errNotQueued})
	<-done // it was among those answered
}

// errAnswered says that the caller's key stands for a captured charge: for this
// very one, which memory forgot, or for another that the call was run anew with.
var errCapturedUnderKey = fmt.Errorf("the call was answered under its key: %w", ledger.ErrSettled)

// refused is the answer if nothing can be held: the first outcome if there was
// one before memory forgot it, else the reason.
func (s *Store) refused(u uuid, o *ledger.Order, reason error) (ledger.Charge, ledger.Balance, error) {
	if o == nil || errors.Is(reason, ledger.ErrConflict) || errors.Is(reason, ledger.ErrSettled) && !errors.Is(reason, errCapturedUnderKey) {
		return ledger.Charge{}, ledger.Balance{}, reason
	}
	charge, balance, err := s.firstOutcome(u, o)
	if errors.Is(err, ledger.ErrNotFound) {
		err = reason
	}
	return charge, balance, err
}

// firstOutcome reads from the journal what was captured under the id.
func (s *Store) firstOutcome(u uuid, o *ledger.Order) (ledger.Charge, ledger.Balance, error) {
	r, err := s.captured(u)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	charge, err := s.charge(&r)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	if o != nil && charge.Order != *o {
		return ledger.Charge{}, ledger.Balance{}, ledger.ErrConflict
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	return charge, s.books.number(r.debtor).balances[balanceIndex(r.test)], nil
}

// captured reads the charge of that id, or ledger.ErrNotFound.
func (s *Store) captured(u uuid) (row, error) {
	if err := s.Healthy(); err != nil {
		return row{}, err
	}
	var r row
	if err := r.scan(s.reads.charge.QueryRowContext(background(), u[:])); err != nil {
		return row{}, readError(err)
	}
	if r.kind != rowCharge {
		return row{}, ledger.ErrNotFound
	}
	return r, nil
}

// charge makes a charge of its row.
func (s *Store) charge(r *row) (ledger.Charge, error) {
	s.books.mu.Lock()
	payer, payee, operator := s.books.number(r.debtor), s.books.number(r.creditor), s.books.number(r.feeTo)
	s.books.mu.Unlock()
	if payer == nil || payee == nil {
		return ledger.Charge{}, failure(fmt.Errorf("transaction %d names an account that does not exist", r.seq))
	}
	order := ledger.Order{
		Account: payer.id, Provider: payee.id, Key: r.key, Lineage: r.lineage, Server: r.server, Tool: r.tool,
		Amount: r.price(), Fee: r.fee, Test: r.test, Settler: r.settler,
	}
	if r.feeTo != 0 {
		if operator == nil {
			return ledger.Charge{}, failure(fmt.Errorf("transaction %d names an account that does not exist", r.seq))
		}
		order.FeeTo = operator.id
	}
	return chargeOf(r, r.id, order), nil
}

// OpenReservations returns how many reservations hold credits now.
func (s *Store) OpenReservations() int {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	return b.open
}

func newUUID() uuid { return uuid(id.V7()) }

// present is the time if there is one, else now, at the precision of the store.
func orNow(t, now time.Time) time.Time {
	if t.IsZero() {
		t = now
	}
	return fromMicros(micros(t))
}
