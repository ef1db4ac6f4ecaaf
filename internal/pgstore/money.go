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

// Reserve holds the order's amount under the charge id for ledger.ReservationLife, if
// the balance, the terms and the account's own caps allow it. If the terms have the
// idempotency key of a captured call, Reserve reserves nothing and returns the stored
// response. Repeating Reserve with the same order changes nothing while the reservation
// is open. If ctx ends before Reserve returns, nothing stays reserved.
//
// Errors: ledger.ErrNotFound (account or provider), ErrConflict (the id was used with
// another order), ErrSettled (the id is captured, released or expired), *CapError,
// *InsufficientError, ErrUnavailable. With an idempotency key: ErrInFlight, ErrReused
// and ErrGone as well.
func (s *Store) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Reservation{}, err
	}
	op := &operation{kind: opReserve, id: u, order: o, terms: terms, hash: hashOf(&o, terms.Idempotency.Key)}
	if err := s.reserves.submit(ctx, op); err != nil {
		return ledger.Reservation{}, err
	}
	if op.out.Code == codeReplay {
		first, err := s.storedResponse(ctx, op.out.Charge, *op.hash, &terms.Idempotency)
		return ledger.Reservation{First: first}, err
	}
	if err := op.refusal(); err != nil {
		return ledger.Reservation{}, err
	}
	return ledger.Reservation{Balance: op.out.balance(), Waived: op.out.Waived}, nil
}

// check validates a new order, and returns its charge id as a UUID.
func (s *Store) check(ctx context.Context, id string, o *ledger.Order, terms *ledger.Terms) (uuid.UUID, error) {
	if err := ctx.Err(); err != nil {
		return uuid.UUID{}, err
	}
	if err := errors.Join(o.Check(), terms.Key.Check(), terms.Server.Check()); err != nil {
		return uuid.UUID{}, err
	}
	if len(terms.Idempotency.Key) > ledger.MaxIdempotencyKey {
		return uuid.UUID{}, fmt.Errorf("the idempotency key is longer than %d bytes", ledger.MaxIdempotencyKey)
	}
	u, err := parseID(chargePrefix, id)
	if err == nil {
		err = s.again(ctx, u)
	}
	return u, err
}

// Renew lets an open reservation live for ledger.ReservationLife from now on. Errors:
// ledger.ErrSettled if the reservation is no longer open, ErrNotFound, ErrUnavailable.
func (s *Store) Renew(ctx context.Context, id string) error { return s.settleOpen(ctx, opRenew, id) }

// Release releases an open reservation. Repeating it changes nothing. Releasing an
// expired reservation marks it as released. Errors: ledger.ErrSettled if the
// reservation is captured, ErrNotFound if the id is unknown, ErrUnavailable, after
// which the reservation is released or will expire.
func (s *Store) Release(ctx context.Context, id string) error {
	return s.settleOpen(ctx, opRelease, id)
}

// Void is a durable Release. For ledger.SettleTime after Void returns, no capture
// takes credits under the id, even if the id is unknown. Errors: ledger.ErrSettled
// if the id is captured, ErrNotFound if no reservation was released, ErrUnavailable.
func (s *Store) Void(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	op := &operation{kind: opVoid, id: u}
	if err := s.settles.submit(ctx, op); err != nil { // s.settles waits until the commit is on disk; s.reserves does not
		return err
	}
	return op.refusal()
}

func (s *Store) settleOpen(ctx context.Context, kind operationKind, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	op := &operation{kind: kind, id: u}
	if err := s.reserves.submit(ctx, op); err != nil {
		return err
	}
	return op.refusal()
}

// Capture takes the credits of a reservation. It returns the charge and the payer's
// balance as soon as the charge is durable. If the call has an idempotency key,
// Capture stores the response, unless the response is empty or longer than
// ledger.MaxStoredResponse. The caller must not change the response afterwards. A
// repeated Capture returns the first outcome. If the reservation has expired,
// Capture acts like Charge with the reservation's order. If ctx ends while the
// outcome is still open, the error wraps ErrUnavailable as well.
//
// Errors: ledger.ErrSettled if the reservation was released, and ErrNotFound if no
// reservation is known under the id. The database may have lost the reservation in a
// crash of its machine; the caller can use Charge then. After expiry,
// *InsufficientError and *CapError are possible, too. With ErrUnavailable the outcome
// is unknown; a repetition with the same id returns the outcome.
func (s *Store) Capture(ctx context.Context, id string, response []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.settle(ctx, id, &operation{kind: opCapture, id: u, response: storable(response)})
}

// Charge captures an order in one step, with or without a reservation. If the id has
// an open reservation, Charge captures it; otherwise it checks terms and balance
// first. A repeated Charge returns the first outcome. Errors are those of Reserve
// and Capture; ledger.ErrSettled means that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, response []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := s.check(ctx, id, &o, &terms)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	op := &operation{
		kind: opCharge, id: u, order: o, terms: terms, hash: hashOf(&o, terms.Idempotency.Key), response: storable(response),
	}
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
	return op.out.charge(id), op.out.balance(), nil
}

// storable returns the response, or nil if the response is empty or too long to store.
func storable(response []byte) []byte {
	if len(response) == 0 || len(response) > ledger.MaxStoredResponse {
		return nil
	}
	return response
}

// hashOf identifies a call by account, lineage, server and idempotency key. It returns
// 128 bits of a SHA-256, which do not collide by chance, or nil without a key.
func hashOf(o *ledger.Order, key string) *uuid.UUID {
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
	hash := uuid.UUID(h.Sum(nil)[:len(uuid.UUID{})])
	return &hash
}

// OpenReservations returns the number of open reservations of all nodes. If the
// database does not answer within two seconds, it returns the last count.
func (s *Store) OpenReservations() int {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	var n int64
	err := s.db.Row(ctx, `SELECT count(*) FROM reservation WHERE state = 1 AND expires_at > (SELECT moved_clock($1))`, []any{s.shift()}, &n)
	if err != nil {
		return int(s.open.Load())
	}
	s.open.Store(n)
	return int(n)
}
