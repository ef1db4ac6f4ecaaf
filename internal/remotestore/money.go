package remotestore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Reserve holds the order's amount under the charge id for
// ledger.ReservationLife, if the terms and the platform's own rules allow it,
// or gives the first answer of a call that is sent again. Of the order, the key,
// the server, the tool and the amount are sent, of the terms all but the caps of
// the key: the platform knows who pays, who earns, and those caps. Repeating it
// changes nothing.
//
// Errors: ledger.ErrInvalid, ErrNotFound, ErrConflict (the id has another order),
// ErrSettled, *CapError, *InsufficientError, for a call that is sent again
// ErrInFlight, ErrReused and ErrGone, and ErrUnavailable, also while this gateway
// has all the reservations open that it may. If the answer was lost, the platform
// may hold the amount until the reservation expires.
func (s *Store) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	if err := check(id, &o, &terms); err != nil {
		return ledger.Reservation{}, err
	}
	if !s.open.room() {
		return ledger.Reservation{}, fmt.Errorf("%w: too many reservations are open", ledger.ErrUnavailable)
	}
	var got wire.Reserved
	err := s.ask(ctx, request{method: http.MethodPost, path: []string{"reservations"}, in: s.order(id, o, terms), out: &got, most: largeAnswer})
	if err != nil {
		return ledger.Reservation{}, only(err, orderErrors...)
	}
	if got.First == nil {
		s.open.add(id, o, terms)
		return ledger.Reservation{Balance: ledger.Balance(got.Balance), Waived: got.Waived}, nil
	}
	first := &ledger.StoredResponse{Charge: got.First.Charge.Charge(), Balance: ledger.Balance(got.First.Balance), Body: got.First.Body}
	if terms.Idempotency.Key == "" || !firstOf(&first.Charge, &o) {
		return ledger.Reservation{}, doubt("the answer of another call")
	}
	return ledger.Reservation{First: first}, nil
}

// UseCurrency says in which currency (ISO 4217) the gateway's config has its
// prices. It asks nothing: the platform refuses orders in another currency than
// its own.
func (s *Store) UseCurrency(_ context.Context, code string) error {
	s.currency.Store(code)
	return nil
}

func (s *Store) order(id string, o ledger.Order, terms ledger.Terms) wire.Order {
	w := wire.OrderOf(id, o, terms)
	w.Currency, _ = s.currency.Load().(string)
	return w
}

// orderErrors are those that an order may meet.
var orderErrors = []error{
	ledger.ErrInvalid, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrCapped, ledger.ErrInsufficient,
	ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone, ledger.ErrOverflow,
}

// check refuses what no platform would take.
func check(id string, o *ledger.Order, terms *ledger.Terms) error {
	err := errors.Join(terms.Key.Check(), terms.Server.Check())
	switch {
	case err != nil:
	case !isID(chargePrefix, id):
		err = errors.New("the id of a charge is chg_ and a UUID in lower case")
	case o.Amount <= 0:
		err = fmt.Errorf("amount %s of the order is not more than zero", o.Amount)
	case len(terms.Idempotency.Key) > ledger.MaxIdempotencyKey:
		err = fmt.Errorf("the key to repeat the call by is longer than %d bytes", ledger.MaxIdempotencyKey)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrInvalid, err)
	}
	return nil
}

// Renew lets an open reservation live for another ledger.ReservationLife from
// now. Errors: ledger.ErrSettled if it is open no more, ErrNotFound, also after
// the platform was restarted, ErrUnavailable.
func (s *Store) Renew(ctx context.Context, id string) error {
	if !isID(chargePrefix, id) {
		return ledger.ErrNotFound
	}
	s.open.renew(id) // whatever the platform says: its order may be needed still
	return only(s.ask(ctx, request{method: http.MethodPost, path: []string{"reservations", id, "renew"}, most: smallAnswer}), ledger.ErrSettled, ledger.ErrNotFound)
}

// Release gives an open reservation back. Repeating it changes nothing. Errors:
// ledger.ErrSettled if it is captured or being captured, ErrNotFound if it is not
// known, so that there is nothing to give back, ErrUnavailable.
func (s *Store) Release(ctx context.Context, id string) error {
	if !isID(chargePrefix, id) {
		return ledger.ErrNotFound
	}
	s.open.drop(id) // from now on it is not charged, whatever the platform forgets
	return only(s.ask(ctx, request{method: http.MethodDelete, path: []string{"reservations", id}, most: smallAnswer}), ledger.ErrSettled, ledger.ErrNotFound)
}

// Capture takes the money of a reservation and returns once that is durable,
// with the charge and the payer's balance. If the call may be sent again, its
// answer is kept with it; nil, or one longer than ledger.MaxAnswer, is not kept.
// Captured before, it gives the first outcome again. A reservation of this store
// that a restart of the platform forgot is charged under its id if balance and
// caps allow it still.
//
// Errors: those of Reserve; ledger.ErrSettled if it was released, ErrNotFound if
// neither the platform nor this store knows it, ErrUnavailable: nothing was
// taken, or the outcome is not known. The caller may try again, or release it.
func (s *Store) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if !isID(chargePrefix, id) {
		return ledger.Charge{}, ledger.Balance{}, ledger.ErrNotFound
	}
	h, known := s.open.get(id)
	if !known {
		return s.capture(ctx, id, nil, nil, answer)
	}
	if h.terms.Idempotency.Key == "" {
		answer = nil // nobody could ask for it
	}
	charge, balance, err := s.capture(ctx, id, &h.order, nil, answer)
	if errors.Is(err, ledger.ErrNotFound) {
		return s.capture(ctx, id, &h.order, &h.terms, answer)
	}
	return charge, balance, err
}

// Charge captures the order in one step, if the terms and the balance allow it:
// what no reservation is known of, or an open one. Captured before, the first
// outcome is given again. Errors are those of Reserve and Capture;
// ledger.ErrSettled means that the id was released.
func (s *Store) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if err := check(id, &o, &terms); err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return s.capture(ctx, id, &o, &terms, answer)
}

// capture captures the charge, which must be of the order if that is known. With
// terms, no reservation is needed.
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
		method: http.MethodPost, path: []string{"reservations", id, "capture"}, in: in, out: &got, most: smallAnswer, within: s.settleTimeout,
	})
	if err == nil || errors.Is(err, ledger.ErrSettled) {
		s.open.drop(id)
	}
	if err != nil {
		return ledger.Charge{}, ledger.Balance{}, only(err, orderErrors...)
	}
	charge := got.Charge.Charge()
	charge.Made = got.Made // by this request: of one that was sent again, nobody can tell
	if charge.ID != id || charge.State != ledger.Captured || o != nil && !sameOrder(&charge, o) {
		return ledger.Charge{}, ledger.Balance{}, doubt("another charge")
	}
	return charge, ledger.Balance(got.Balance), nil
}

// sameOrder reports whether the charge is of the order: who earns, and the fee,
// are the platform's to say.
func sameOrder(c *ledger.Charge, o *ledger.Order) bool {
	return c.Account == o.Account && c.Key == o.Key && c.Lineage == o.Lineage && c.Server == o.Server && c.Tool == o.Tool &&
		c.Amount == o.Amount && c.Test == o.Test
}

// firstOf reports whether the charge may be of the first call that the order
// repeats: by another key of the lineage, or at another price.
func firstOf(c *ledger.Charge, o *ledger.Order) bool {
	return isID(chargePrefix, c.ID) && c.State == ledger.Captured && c.Account == o.Account && c.Lineage == o.Lineage && c.Server == o.Server && c.Test == o.Test
}

// Post refunds a charge, in whole or in part: of the transaction ID, Charge,
// Amount and Reason are read, where an amount of zero means all that is left.
// Nothing else can be posted here. The platform writes the audit row. What it
// returns has no debtor and creditor; the balance is the payer's.
//
// Errors: ledger.ErrInvalid, ErrNotFound, ErrConflict (the ID was used with other
// content), ErrSettled (nothing is left to refund), ErrInsufficient (less is left
// than is asked for), ErrUnavailable.
func (s *Store) PostTransaction(ctx context.Context, t ledger.Transaction, _ ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	none := ledger.Transaction{}
	switch {
	case t.Kind != ledger.KindRefund:
		return none, ledger.Balance{}, fmt.Errorf("%w: a gateway without a store posts refunds alone, no %s: do that at the platform", ledger.ErrInvalid, t.Kind)
	case !isID(otherPrefix, t.ID) || t.Amount < 0:
		return none, ledger.Balance{}, fmt.Errorf("%w: a refund has an id, of txn_ and a UUID in lower case, and no amount below zero", ledger.ErrInvalid)
	case !isID(chargePrefix, t.Charge):
		return none, ledger.Balance{}, ledger.ErrNotFound
	}
	var got wire.Refunded
	err := s.ask(ctx, request{
		method: http.MethodPost, path: []string{"charges", t.Charge, "refund"}, in: wire.Refund{ID: t.ID, Amount: t.Amount, Reason: t.Reason},
		out: &got, most: smallAnswer, within: s.settleTimeout,
	})
	switch {
	case err != nil:
		return none, ledger.Balance{}, only(err, ledger.ErrInvalid, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInsufficient, ledger.ErrOverflow)
	case got.ID != t.ID || got.Charge != t.Charge || got.Amount <= 0 || t.Amount != 0 && got.Amount != t.Amount:
		return none, ledger.Balance{}, doubt("another refund")
	}
	t.Amount, t.At = got.Amount, got.At
	return t, ledger.Balance(got.Balance), nil
}

// OpenReservations counts the reservations of this gateway, by its own clock.
func (s *Store) OpenReservations() int { return s.open.count() }

// What ids begin with.
const (
	chargePrefix = "chg_"
	otherPrefix  = "txn_"
)

// isID reports whether it is the prefix and a UUID in lower case, and so safe in
// a path.
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
