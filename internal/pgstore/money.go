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
// the terms and the account's own caps allow it. If the terms have the idempotency
// key of a captured call, it reserves nothing and returns the stored response.
// Repeating it with the same order while the reservation is open changes nothing. If
// the caller goes away meanwhile, its reservation is released.
//
// Errors: ledger.ErrNotFound (account or provider), ErrConflict (the id has another
// order), ErrSettled (the id is captured, released or expired), *CapError,
// *InsufficientError, for an idempotency key ErrInFlight, ErrReused and ErrGone, and
// ErrUnavailable.
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

// check validates a new order.
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

// Renew extends an open reservation to ledger.ReservationLife from now. Errors:
// ledger.ErrSettled if it is not open any more, ErrNotFound, ErrUnavailable.
func (s *Store) Renew(ctx context.Context, id string) error { return s.settleOpen(ctx, opRenew, id) }

// Release releases an open reservation. Repeating it changes nothing, and an expired
// one counts as released from then on. Errors: ledger.ErrSettled if it is captured,
// ErrNotFound if the id is unknown, ErrUnavailable: it may be released, and else
// expires.
func (s *Store) Release(ctx context.Context, id string) error {
	return s.settleOpen(ctx, opRelease, id)
}

// Void is a durable Release: when it returns, no later capture takes credits under
// the id for ledger.SettleTime, even if the id is unknown. Errors: ledger.ErrSettled
// if it is captured, ErrNotFound if no reservation was released, ErrUnavailable.
func (s *Store) Void(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	op := &operation{kind: opVoid, id: u}
	if err := s.settles.submit(ctx, op); err != nil { // unlike reserves it waits for the disk
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

// Capture takes the credits of a reservation and returns once that is durable, with
// the charge and the payer's balance. If the call has an idempotency key, it stores
// the response, unless that is nil or longer than ledger.MaxStoredResponse. The response must
// not be changed afterwards. Repeated, it returns the first outcome. If the
// reservation has expired, it is Charge with its order. If ctx ends before it is
// certain that nothing is charged, the error is an ErrUnavailable, too.
//
// Errors: ledger.ErrSettled if it was released, ErrNotFound if it is unknown (a
// database that lost its machine may have forgotten it: use Charge),
// *InsufficientError after expiry, ErrUnavailable: the outcome is unknown, and asking
// again under the same id returns it.
func (s *Store) Capture(ctx context.Context, id string, response []byte) (ledger.Charge, ledger.Balance, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.settle(ctx, id, &operation{kind: opCapture, id: u, response: storable(response)})
}

// Charge captures the order in one step: it checks the balance and captures, as
// Capture does for an expired or forgotten reservation. It captures an open
// reservation of the id. Repeated, it returns the first outcome. Errors are those of
// Reserve and Capture; ledger.ErrSettled means that the id was released.
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

// storable returns the response to store, nil for none.
func storable(response []byte) []byte {
	if len(response) == 0 || len(response) > ledger.MaxStoredResponse {
		return nil
	}
	return response
}

// hashOf identifies calls with an idempotency key: by account, lineage, server and
// key. It keeps 128 bits of a SHA-256, which do not collide by chance. It is nil
// without a key.
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

// OpenReservations returns how many reservations of all nodes hold credits, as last
// read from the database.
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
