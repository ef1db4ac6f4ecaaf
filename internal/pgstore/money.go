package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Reserve holds the order's amount under the charge id for
// ledger.ReservationLife, if the terms and the account's own caps allow it. If
// the terms have the key of a call that was captured before, nothing is
// reserved, and the first answer is read instead. Repeating it with the same
// order while the reservation is open changes nothing. A reservation whose
// caller leaves while it is made is given back.
//
// Errors: ledger.ErrNotFound (account or provider), ErrConflict (the id has
// another order), ErrSettled (the id is captured, released or expired),
// *CapError, *InsufficientError, for a call that is sent again ErrInFlight,
// ErrReused and ErrGone, and ErrUnavailable.
func (s *Store) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Reservation{}, err
	}
	op := &operation{op: opReserve, id: u, order: o, terms: terms, mark: markOf(&o, terms.Idempotency.Key)}
	if err := s.reserves.submit(ctx, op); err != nil {
		return ledger.Reservation{}, err
	}
	if op.out.code == codeAnswered {
		first, err := s.first(ctx, op.out.charge, op.mark, &terms.Idempotency)
		return ledger.Reservation{First: first}, err
	}
	if err := op.refusal(); err != nil {
		return ledger.Reservation{}, err
	}
	return ledger.Reservation{Balance: op.out.balance, Waived: op.out.waived}, nil
}

// check is what every new order must pass.
func (s *Store) check(ctx context.Context, id string, o *ledger.Order, terms *ledger.Terms) (uuid.UUID, error) {
	if err := ctx.Err(); err != nil {
		return uuid.UUID{}, err
	}
	if err := errors.Join(o.Check(), terms.Key.Check(), terms.Server.Check()); err != nil {
		return uuid.UUID{}, err
	}
	if len(terms.Idempotency.Key) > ledger.MaxIdempotencyKey {
		return uuid.UUID{}, fmt.Errorf("the key to repeat the call by is longer than %d bytes", ledger.MaxIdempotencyKey)
	}
	u, err := parseID(chargePrefix, id)
	if err == nil {
		err = s.again(ctx, u)
	}
	return u, err
}

// Renew lets an open reservation live for another ledger.ReservationLife from
// now. Errors: ledger.ErrSettled if it is open no more, ErrNotFound,
// ErrUnavailable.
func (s *Store) Renew(ctx context.Context, id string) error { return s.settleOpen(ctx, opRenew, id) }

// Release gives an open reservation back. Repeating it changes nothing, and an
// expired one counts as released from then on. Errors: ledger.ErrSettled if it
// is captured, ErrNotFound if it is not known, so that there is nothing to give
// back, ErrUnavailable: it may be released, and else expires.
func (s *Store) Release(ctx context.Context, id string) error {
	return s.settleOpen(ctx, opRelease, id)
}

// Void is a Release that lasts: when it returns, it is durable that no capture
// that comes later takes anything under the id, for ledger.SettleTime. The id
// need not be known. Errors: ledger.ErrSettled if it is captured, ErrNotFound if
// there was nothing to give back, ErrUnavailable.
func (s *Store) Void(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	op := &operation{op: opVoid, id: u}
	if err := s.settles.submit(ctx, op); err != nil { // unlike the other lane it waits for the disk
		return err
	}
	return op.refusal()
}

func (s *Store) settleOpen(ctx context.Context, kind int16, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	op := &operation{op: kind, id: u}
	if err := s.reserves.submit(ctx, op); err != nil {
		return err
	}
	return op.refusal()
}

// Capture takes the money of a reservation and returns once that is durable,
// with the charge and the payer's balance. If the call may be sent again, its
// answer is kept with it; nil, or one longer than ledger.MaxAnswer, is not kept.
// The answer must not be changed afterwards. Captured before, it gives the first
// outcome again. If the reservation has expired, it is Charge with its order.
// If ctx ends before it is certain that nothing is charged, the error is an
// ErrUnavailable, too.
//
// Errors: ledger.ErrSettled if it was released, ErrNotFound if it is not known
// (a database that lost its machine may have forgotten it: use Charge),
// *InsufficientError after expiry, ErrUnavailable: nothing was taken, or the
// outcome is not known. To ask again under the same id tells.
func (s *Store) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.settle(ctx, id, &operation{op: opCapture, id: u, answer: kept(answer)})
}

// Charge captures the order in one step: it checks the balance and captures, as
// Capture does for a reservation that expired or was forgotten. If the
// reservation is open, it is captured. Captured before, the first outcome is
// given again. Errors are those of Reserve and Capture; ledger.ErrSettled means
// that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	op := &operation{op: opCharge, id: u, order: o, terms: terms, mark: markOf(&o, terms.Idempotency.Key), answer: kept(answer)}
	return s.settle(ctx, id, op)
}

func (s *Store) settle(ctx context.Context, id string, op *operation) (ledger.Charge, ledger.Balance, error) {
	err := s.settles.submit(ctx, op)
	if err == nil {
		err = op.refusal()
	}
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	c := op.out.known
	c.ID = id
	return c, op.out.balance, nil
}

// kept is the answer that is kept of one.
func kept(answer []byte) []byte {
	if len(answer) == 0 || len(answer) > ledger.MaxStoredResponse {
		return nil
	}
	return answer
}

// markOf tells calls that may be repeated apart: by account, lineage, server
// and the caller's key. At 128 bits of a hash, none is taken for another. nil
// if the call may not be repeated.
func markOf(o *ledger.Order, key string) *uuid.UUID {
	if key == "" {
		return nil
	}
	h := sha256.New()
	for _, part := range [...]string{o.Account, o.Lineage, o.Server, key} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	mark := uuid.UUID(h.Sum(nil)[:len(uuid.UUID{})])
	return &mark
}

// OpenReservations returns how many reservations of all nodes hold credits now,
// or what that was when the database could last be asked.
func (s *Store) OpenReservations() int {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	var n int64
	err := s.row(ctx, `SELECT count(*) FROM reservation WHERE state = 1 AND expires_at > (SELECT moved_clock($1))`, []any{s.shift()}, &n)
	if err != nil {
		return int(s.open.Load())
	}
	s.open.Store(n)
	return int(n)
}
