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

// Reserve holds the order's amount under the charge id for ledger.ReservationLife, if
// the balance, the terms and the account's own caps allow it. Repeating Reserve with
// the same order while the reservation is open changes nothing. If a call was captured
// before under the idempotency key in the terms, Reserve reserves nothing and returns
// the stored response. Reserve does I/O only to read that response, and for an id old
// enough to be in the archive.
//
// Errors: ledger.ErrNotFound (account or provider), ErrConflict (the id was used with
// another order), ErrSettled (the id is captured, released or expired), *CapError,
// *InsufficientError; ErrInFlight, ErrReused and ErrGone for a repeated call; and
// ErrUnavailable while the store cannot write or has the maximum number of open
// reservations.
//
// In time, memory forgets a captured id. The id can then be reserved again, but
// capturing it returns the first outcome and takes nothing.
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

// check validates the id, order and terms of a new call.
func (s *Store) check(ctx context.Context, id string, o *ledger.Order, terms *ledger.Terms) (uuid, error) {
	if err := ctx.Err(); err != nil {
		return uuid{}, err
	}
	if err := s.Healthy(); err != nil {
		return uuid{}, err
	}
	if err := errors.Join(o.Check(), terms.Check()); err != nil {
		return uuid{}, err
	}
	u, err := parseID(chargePrefix, id)
	if err == nil && s.writer.archived.Load().covers(u) {
		if _, err = s.captured(u); errors.Is(err, ledger.ErrNotFound) {
			err = &ledger.ArchivedError{ID: id, Cause: ledger.ErrSettled}
		}
	}
	return u, err
}

// Renew extends an open reservation to ledger.ReservationLife from now. Errors:
// ledger.ErrSettled if the reservation is no longer open, ErrNotFound if it is
// unknown.
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

// parseCharge parses the id of a charge. For a malformed id, the error is
// ledger.ErrNotFound.
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

// Release releases an open reservation. Repeating it changes nothing. Releasing an
// expired reservation marks it as released.
//
// Errors: ledger.ErrSettled if the reservation is captured or being captured,
// ErrNotFound if it is unknown and so holds nothing, ErrUnavailable if its capture
// is in doubt. In the last case, the reservation is released or refunded as soon as
// the outcome is known, provided that this process still runs then.
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
		h.onFailure = releaseHold
		return true, s.inDoubtError()
	case holdReleased:
	default:
		return true, ledger.ErrSettled
	}
	return true, nil
}

// Capture takes the money of a reservation. It returns the charge and the payer's
// balance as soon as the charge is durable. A second capture returns the first
// outcome again. If the reservation has expired, Capture acts like Charge with the
// reservation's order. ctx can cancel Capture only while it is certain that nothing
// is charged.
//
// If the call has an idempotency key, Capture stores the call's response with the
// charge. A response that is nil or longer than ledger.MaxStoredResponse is not stored.
// The caller must not change the response afterwards.
//
// Errors: ledger.ErrSettled if the reservation was released, ErrNotFound if the
// reservation is unknown (a restart forgets reservations: use Charge),
// *InsufficientError if the reservation expired and the balance is too small now,
// ErrUnavailable if nothing was taken or the outcome is not known yet. After
// ErrUnavailable, the reservation stays: the caller may capture it again or release it.
func (s *Store) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.captureNow(ctx, u, conditional{}, answer)
}

// Charge makes a conditional charge: it reserves and captures the order in one
// step, for a reservation that expired or that a restart forgot. If the reservation
// is still open, Charge captures it. If the id was captured before, Charge returns
// the first outcome again. Errors are those of Reserve and Capture;
// ledger.ErrSettled means that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.captureNow(ctx, u, conditional{&o, &terms}, answer)
}

// conditional has the order and the terms of a conditional charge.
type conditional struct {
	order *ledger.Order // nil for the capture of a reservation
	terms *ledger.Terms
}

var channels = sync.Pool{New: func() any { return make(chan outcome, 1) }}

// captureNow captures the hold under the id. If there is no such hold, it opens and
// captures a hold for the order of c.
func (s *Store) captureNow(ctx context.Context, u uuid, c conditional, body []byte) (ledger.Charge, ledger.Balance, error) {
	o := c.order
	done := channels.Get().(chan outcome)
	defer channels.Put(done)
	for {
		j := s.join(u, c, body, done)
		switch {
		case j.err != nil:
			return s.refused(u, j.order, j.err)
		case j.hold == nil:
			return s.firstOutcome(u, j.order)
		}
		if j.submit {
			if err := s.writer.submit(ctx, job{hold: j.hold}); err != nil {
				s.unqueue(j.hold, done)
				return ledger.Charge{}, ledger.Balance{}, err
			}
		}
		out := <-done
		if errors.Is(out.err, errNotQueued) {
			continue // try again, because the caller that should have queued the hold gave up
		}
		if o != nil && j.hold.order != *o {
			return ledger.Charge{}, ledger.Balance{}, ledger.ErrConflict
		}
		return out.charge, out.balance, out.err
	}
}

// joined is the result of join. If it has neither a hold nor an error, the journal
// has the outcome.
type joined struct {
	hold   *hold         // the hold to wait for
	submit bool          // the caller must submit the hold to the writer
	order  *ledger.Order // the order that a charge in the journal must have; nil for any order
	err    error         // the reason why nothing can be captured now
}

// join finds or makes the hold to capture, and adds the given channel to the channels
// that get the outcome of the hold.
func (s *Store) join(u uuid, c conditional, body []byte, done chan outcome) joined {
	o := c.order
	b, now := s.books, s.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	h := b.holds[u]
	switch {
	case h == nil && o == nil:
		return joined{}
	case h == nil:
		made, first, err := b.reserve(u, o, c.terms, now, now)
		if first != nil {
			err = errCapturedUnderKey
		}
		if err != nil {
			return joined{order: o, err: err}
		}
		h = made
		h.onFailure = discardHold
		b.queue(h)
	case o != nil && h.order != *o:
		return joined{order: o, err: ledger.ErrConflict}
	case h.state == holdCaptured:
		return joined{order: o}
	case h.state == holdReleased:
		return joined{order: o, err: ledger.ErrSettled}
	case h.state == holdInDoubt:
		return joined{order: o, err: s.inDoubtError()}
	case h.state == holdQueued:
		h.waiters = append(h.waiters, done)
		return joined{hold: h}
	case h.state == holdExpired:
		if err := b.holdAgain(h, now); err != nil {
			return joined{order: &h.order, err: err} // the journal may have a capture of h that memory has forgotten
		}
	default:
		b.queue(h)
	}
	h.waiters, h.response = append(h.waiters, done), body
	return joined{hold: h, submit: true}
}

func (s *Store) inDoubtError() error {
	if err := s.Healthy(); err != nil {
		return err
	}
	return fmt.Errorf("%w: the outcome of the capture is not known yet", ledger.ErrUnavailable)
}

// unqueue reverses the effects of join for a hold that could not be submitted to the
// writer.
func (s *Store) unqueue(h *hold, done chan outcome) {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.captureFailed(h)
	wake(h, outcome{err: errNotQueued})
	<-done // empty this channel, because wake has sent the outcome to it, too
}

// errCapturedUnderKey means that the idempotency key of the call belongs to a captured
// charge. Either this charge is the charge to capture, and memory has forgotten that it
// was captured, or a repetition of the call was captured as another charge.
var errCapturedUnderKey = fmt.Errorf("the call was answered under its key: %w", ledger.ErrSettled)

// refused returns the outcome of an earlier capture that memory has forgotten. If the
// journal has no such capture, refused returns the given error, which says why nothing
// can be captured.
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

// firstOutcome reads from the journal the charge that was captured under the id.
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

// captured reads the charge with the given id, or returns ledger.ErrNotFound.
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

// charge converts a row to a charge.
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

// OpenReservations returns the number of reservations that hold credits now.
func (s *Store) OpenReservations() int {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	return b.open
}

func newUUID() uuid { return uuid(id.V7()) }

// orNow returns t, or now if t is zero, at the precision of the store.
func orNow(t, now time.Time) time.Time {
	if t.IsZero() {
		t = now
	}
	return fromMicros(micros(t))
}
