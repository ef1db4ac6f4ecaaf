package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// storeErrors lists all known errors of a store, and some unknown ones.
var storeErrors = []error{
	keys.ErrMalformed, keys.ErrUnknown, keys.ErrDeleted, keys.ErrDisabled, keys.ErrExpired, keys.ErrKind, keys.ErrEnvironment, keys.ErrServer, keys.ErrScope, ErrFlood,
	ledger.ErrNotFound, ledger.ErrExists, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInsufficient, ledger.ErrInvalid, ledger.ErrUnavailable, ledger.ErrOverflow,
	ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone, ledger.ErrCapped,
	&ledger.InsufficientError{}, &ledger.CapError{},
	context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, syscall.ENOSPC, syscall.EIO, syscall.ECONNRESET, errors.New("nobody knows this one"),
}

// failing is a Keys and a Ledger that fails at one step, always with the same
// error.
type failing struct {
	Ledger
	lookup, reserve, capture error
	found                    Keys
	charges                  bool // Charge succeeds, even if Capture fails
}

func (f *failing) Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error) {
	if f.lookup != nil {
		return nil, f.lookup
	}
	return f.found.Lookup(ctx, client, digest)
}

func (f *failing) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	if f.reserve != nil {
		return ledger.Reservation{}, f.reserve
	}
	return f.Ledger.Reserve(ctx, id, o, terms)
}

func (f *failing) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if f.capture != nil {
		return ledger.Charge{}, ledger.Balance{}, f.capture
	}
	return f.Ledger.Capture(ctx, id, answer)
}

func (f *failing) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if f.capture != nil && !f.charges {
		return ledger.Charge{}, ledger.Balance{}, f.capture
	}
	return f.Ledger.Charge(ctx, id, o, terms, answer)
}

// TestForgottenReservationIsCharged checks a call after the store has lost its
// reservation. The call is charged under the same id when its response arrives, if
// the balance still allows it. If not, the response is withheld.
func TestForgottenReservationIsCharged(t *testing.T) {
	for _, poor := range []bool{false, true} {
		b := newBench(t)
		f := &failing{Ledger: b.deps.Ledger, found: b.deps.Keys, charges: true}
		b.deps.Ledger, b.deps.Keys = f, f
		secret := b.key(t, nil)
		call, refusal := b.call(t, secret, toolCall("cheap"))
		if refusal != nil {
			t.Fatal(refusal)
		}
		f.capture = fmt.Errorf("the server was started anew: %w", ledger.ErrNotFound)
		if err := b.store.Release(t.Context(), call.ID()); err != nil {
			t.Fatal(err)
		}
		id := b.newID("chg_") // the store does not know this id
		call.id = id
		want := ledger.Balance{Posted: 40_000}
		if poor {
			_, _, err := b.store.PostTransaction(t.Context(), ledger.Transaction{ID: b.newID("txn_"), Kind: ledger.KindAdjustment, Debtor: b.payer.ID, Amount: 45_000, At: now, Reason: "test"},
				ledger.Audit{At: now, Actor: "test", Action: "test"})
			if err != nil {
				t.Fatal(err)
			}
			want.Posted = 5_000
		}
		fields, refusal := call.Settle(t.Context(), mcp.OutcomeResult, nil)
		call.Close(t.Context())
		if poor != (refusal != nil) || poor == (len(fields) > 0) || poor == call.Captured() {
			t.Errorf("poor %t: %v, %v, captured %t", poor, fields, refusal, call.Captured())
		}
		if got := b.balance(t, false); got != want {
			t.Errorf("poor %t: balance %+v, want %+v", poor, got, want)
		}
		if charge, err := b.store.ChargeByID(t.Context(), id); poor != errors.Is(err, ledger.ErrNotFound) || !poor && (err != nil || charge.Amount != 10_000) {
			t.Errorf("poor %t: the charge with the call's id is %+v, %v", poor, charge, err)
		}
	}
}

// TestEveryStoreErrorDenies checks promise 8 of docs/promises.md. Every error of a
// store, at every step, bare or wrapped, refuses the call without a charge
// (CVE-2026-12773).
func TestEveryStoreErrorDenies(t *testing.T) {
	for _, bare := range storeErrors {
		b := newBench(t)
		f := &failing{Ledger: b.deps.Ledger, found: b.deps.Keys}
		b.deps.Ledger, b.deps.Keys = f, f
		secret := b.key(t, nil)
		for _, err := range []error{bare, fmt.Errorf("store: %w", bare)} {
			f.lookup, f.reserve, f.capture = err, nil, nil
			for _, tool := range []string{"cheap", "free"} {
				if call, refusal := b.call(t, secret, toolCall(tool)); refusal == nil || call != nil {
					t.Errorf("%v at the lookup: %s is called", err, tool)
				}
			}
			f.lookup, f.reserve = nil, err
			if call, refusal := b.call(t, secret, toolCall("cheap")); refusal == nil || call != nil {
				t.Errorf("%v at the reservation: the call goes on", err)
			}
			f.reserve, f.capture = nil, err
			call, refusal := b.call(t, secret, toolCall("cheap"))
			if refusal != nil {
				t.Fatal(refusal)
			}
			if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal == nil || call.Captured() {
				t.Errorf("%v at the capture: the answer is let go", err)
			}
			call.Close(context.Background())
			if p := b.balance(t, false); p.Posted != 50_000 {
				t.Errorf("%v: %+v was charged", err, p)
			}
		}
	}
}
