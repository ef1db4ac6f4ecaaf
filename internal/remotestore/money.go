package remotestore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Reserve reserves the order's amount under the charge id for ledger.ReservationLife,
// if the terms and the platform's own rules allow it. For a repeated call it returns
// the stored response instead. Reserve sends the order's key, server, tool and amount,
// and the terms without the key's caps: the platform derives the accounts and the key's
// caps itself. Reserve is idempotent.
//
// Errors: ledger.ErrInvalid, ErrNotFound, ErrConflict (the id was used with another
// order), ErrSettled, *CapError, *InsufficientError, ErrUnavailable, and for a repeated
// call ErrInFlight, ErrReused and ErrGone. The error is ErrUnavailable also if this
// gateway has too many open reservations. If the response was lost, the platform may
// hold the amount until the reservation expires.
func (s *Store) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	if err := check(id, &o, &terms); err != nil {
		return ledger.Reservation{}, err
	}
	if !s.open.room() {
		return ledger.Reservation{}, fmt.Errorf("%w: too many reservations are open", ledger.ErrUnavailable)
	}
	var got wire.Reserved
	err := s.ask(ctx, request{method: http.MethodPost, path: []string{"reservations"}, in: s.order(id, o, terms), out: &got, limit: largeResponse})
	if err != nil {
		return ledger.Reservation{}, filterError(err, orderErrors...)
	}
	if got.First == nil {
		s.open.add(id, o, terms)
		return ledger.Reservation{Balance: ledger.Balance(got.Balance), Waived: got.Waived}, nil
	}
	first := &ledger.StoredResponse{Charge: got.First.Charge.Charge(), Balance: ledger.Balance(got.First.Balance), Body: got.First.Body}
	if terms.Idempotency.Key == "" || !firstOf(&first.Charge, &o) {
		return ledger.Reservation{}, mismatch("the answer of another call")
	}
	return ledger.Reservation{First: first}, nil
}

// UseCurrency sets the currency (ISO 4217) of the prices in the gateway's config.
// Each order names this currency, and the platform refuses an order in another
// currency than the platform's own. UseCurrency itself sends no request.
func (s *Store) UseCurrency(_ context.Context, code string) error {
	s.currency.Store(code)
	return nil
}

func (s *Store) order(id string, o ledger.Order, terms ledger.Terms) wire.Order {
	w := wire.OrderOf(id, o, terms)
	w.Currency, _ = s.currency.Load().(string)
	return w
}

// orderErrors are the errors with which the platform may refuse an order.
var orderErrors = []error{
	ledger.ErrInvalid, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrCapped, ledger.ErrInsufficient,
	ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone, ledger.ErrOverflow,
}

// check returns an error for an order that every platform would refuse.
func check(id string, o *ledger.Order, terms *ledger.Terms) error {
	err := terms.Check()
	switch {
	case err != nil:
	case !isID(chargePrefix, id):
		err = errors.New("the id of a charge is chg_ and a UUID in lower case")
	case o.Amount <= 0:
		err = fmt.Errorf("amount %s of the order is not more than zero", o.Amount)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrInvalid, err)
	}
	return nil
}

// Renew extends an open reservation to ledger.ReservationLife from now. Errors:
// ledger.ErrSettled if the reservation is no longer open; ErrNotFound if it is
// unknown, or a restart of the platform forgot it; ErrUnavailable.
func (s *Store) Renew(ctx context.Context, id string) error {
	if !isID(chargePrefix, id) {
		return ledger.ErrNotFound
	}
	s.open.renew(id) // renew the order even if the platform refuses, because Capture may still need it
	return filterError(s.ask(ctx, request{method: http.MethodPost, path: []string{"reservations", id, "renew"}, limit: smallResponse}), ledger.ErrSettled, ledger.ErrNotFound)
}

// Release releases an open reservation. It is idempotent. Errors: ledger.ErrSettled
// if the reservation is captured or being captured; ErrNotFound if it is unknown and
// therefore holds no credits; ErrUnavailable.
func (s *Store) Release(ctx context.Context, id string) error {
	if !isID(chargePrefix, id) {
		return ledger.ErrNotFound
	}
	s.open.drop(id) // without its order, the reservation is never charged, even if the platform forgets the release
	return filterError(s.ask(ctx, request{method: http.MethodDelete, path: []string{"reservations", id}, limit: smallResponse}), ledger.ErrSettled, ledger.ErrNotFound)
}

// Capture pays a reservation and returns the charge and the payer's balance as soon as
// the payment is durable. If the call has an idempotency key, its response is stored
// with the charge, unless the response is nil or longer than ledger.MaxStoredResponse.
// A second capture returns the first outcome again. If a restart of the platform forgot
// the reservation, Capture charges its order under the same id, provided that the
// balance and caps still allow it.
//
// Errors: those of Reserve; ledger.ErrSettled if the reservation was released;
// ErrNotFound if neither the platform nor this store knows the reservation;
// ErrUnavailable if nothing was paid or the outcome is not known, after which the
// caller may try again or release the reservation.
func (s *Store) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if !isID(chargePrefix, id) {
		return ledger.Charge{}, ledger.Balance{}, ledger.ErrNotFound
	}
	h, known := s.open.get(id)
	if !known {
		return s.capture(ctx, id, nil, nil, answer)
	}
	if h.terms.Idempotency.Key == "" {
		answer = nil // without an idempotency key nobody can ask for the response again
	}
	charge, balance, err := s.capture(ctx, id, &h.order, nil, answer)
	if errors.Is(err, ledger.ErrNotFound) {
		return s.capture(ctx, id, &h.order, &h.terms, answer)
	}
	return charge, balance, err
}

// Charge captures the order in one step, with or without an open reservation, if the
// terms and the balance allow it. If the id was captured before, Charge returns the
// first outcome again. Its errors are those of Reserve and Capture;
// ledger.ErrSettled means that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if err := check(id, &o, &terms); err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.capture(ctx, id, &o, &terms, answer)
}

// capture captures the charge with that id, which must match the order o unless o is
// nil. If terms is not nil, no reservation is needed.
func (s *Store) capture(ctx context.Context, id string, o *ledger.Order, terms *ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	var in wire.Capture
	if len(answer) <= ledger.MaxStoredResponse {
		in.Answer = answer
	}
	if terms != nil {
		order := s.order(id, *o, *terms)
		in.Order = &order
	}
	var got wire.Captured
	err := s.ask(ctx, request{
		method: http.MethodPost, path: []string{"reservations", id, "capture"}, in: in, out: &got, limit: smallResponse, within: s.settleTimeout,
	})
	if err == nil || errors.Is(err, ledger.ErrSettled) {
		s.open.drop(id)
	}
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, filterError(err, orderErrors...)
	}
	charge := got.Charge.Charge()
	charge.Made = got.Made // Made is false after a retry, even if the request that was lost made the charge
	if charge.ID != id || charge.State != ledger.Captured || o != nil && !sameOrder(&charge, o) {
		return ledger.Charge{}, ledger.Balance{}, mismatch("another charge")
	}
	return charge, ledger.Balance(got.Balance), nil
}

// sameOrder reports whether the charge matches the order. It ignores the provider
// and the fee, which the platform determines.
func sameOrder(c *ledger.Charge, o *ledger.Order) bool {
	return c.Account == o.Account && c.Key == o.Key && c.Lineage == o.Lineage && c.Server == o.Server && c.Tool == o.Tool &&
		c.Amount == o.Amount && c.Test == o.Test
}

// firstOf reports whether o may be a repetition of the call that c paid for. The key
// may be another key of the same lineage, and the price may differ.
func firstOf(c *ledger.Charge, o *ledger.Order) bool {
	return isID(chargePrefix, c.ID) && c.State == ledger.Captured && c.Account == o.Account && c.Lineage == o.Lineage && c.Server == o.Server && c.Test == o.Test
}

// PostTransaction refunds a charge, in whole or in part. It refuses other kinds of
// transactions. It uses the fields ID, Charge, Amount and Reason of t; a zero amount
// means all that is left of the charge. The platform writes the audit record. The
// returned transaction has no debtor and creditor, and the returned balance is the
// payer's.
//
// Errors: ledger.ErrInvalid, ErrNotFound, ErrConflict (the ID was used with other
// content), ErrSettled (the charge is refunded in full), ErrInsufficient (the amount
// is more than is left of the charge), ErrUnavailable.
func (s *Store) PostTransaction(ctx context.Context, t ledger.Transaction, _ ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	none := ledger.Transaction{}
	switch {
	case t.Kind != ledger.KindRefund:
		return none, ledger.Balance{}, fmt.Errorf("%w: a gateway without a store posts only refunds, no transaction of kind %s: do that at the platform", ledger.ErrInvalid, t.Kind)
	case !isID(otherPrefix, t.ID) || t.Amount < 0:
		return none, ledger.Balance{}, fmt.Errorf("%w: a refund has an id, of txn_ and a UUID in lower case, and no amount below zero", ledger.ErrInvalid)
	case !isID(chargePrefix, t.Charge):
		return none, ledger.Balance{}, ledger.ErrNotFound
	}
	var got wire.Refunded
	err := s.ask(ctx, request{
		method: http.MethodPost, path: []string{"reservations", t.Charge, "refund"}, in: wire.Refund{ID: t.ID, Amount: t.Amount, Reason: t.Reason},
		out: &got, limit: smallResponse, within: s.settleTimeout,
	})
	switch {
	case err != nil:
		return none, ledger.Balance{}, filterError(err, ledger.ErrInvalid, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInsufficient, ledger.ErrOverflow)
	case got.ID != t.ID || got.Charge != t.Charge || got.Amount <= 0 || t.Amount != 0 && got.Amount != t.Amount:
		return none, ledger.Balance{}, mismatch("another refund")
	}
	t.Amount, t.At = got.Amount, got.At
	return t, ledger.Balance(got.Balance), nil
}

// OpenReservations returns the number of this gateway's open reservations, by the
// gateway's own clock.
func (s *Store) OpenReservations() int { return s.open.count() }

// Prefixes of ids.
const (
	chargePrefix = "chg_"
	otherPrefix  = "txn_"
)

// isID reports whether id is the prefix and a UUID in lower case. Such an id is safe
// in a path.
func isID(prefix, id string) bool {
	if len(id) != len(prefix)+36 || id[:len(prefix)] != prefix {
		return false
	}
	for i, c := range []byte(id[len(prefix):]) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
