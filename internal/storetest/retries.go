package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runRetries(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"a call that is sent again gets the first answer, free", retryPath},
		named{"exactly one of 32 callers with one key runs, and all get its answer", retryRace},
		named{"the same key for another call is an error", retryReused},
		named{"keys are separate for each lineage and server", retryScope},
		named{"a call that is released or expires frees the key", retryFreed},
		named{"a day after its capture a call may run again", retryDay},
		named{"an answer that is too long is gone and never run again, unless all is refunded", retryGone},
		named{"a stored answer is returned even after a refund", retryRefunded},
		named{"stored answers survive a crash, calls in flight do not", retryCrash},
		named{"promise 4: an expired call is not captured if the call has run again", retryLate},
		named{"a charge repeated after a crash has its first outcome, and keeps its key", retryForgotten},
	)
}

func again(key string, content byte) ledger.Terms {
	return ledger.Terms{Idempotency: ledger.Idempotency{Key: key, Fingerprint: [32]byte{content}}}
}

// answered reserves and captures a call with an idempotency key.
func (t *test) answered(o ledger.Order, terms ledger.Terms, answer []byte) ledger.Charge {
	t.Helper()
	id := newID("chg_")
	got, err := t.Store.Reserve(t.ctx, id, o, terms)
	t.ok(err)
	if got.First != nil {
		t.Fatalf("the call was answered before: %+v", got.First)
	}
	c, _, err := t.Store.Capture(t.ctx, id, answer)
	t.ok(err)
	return t.made(c)
}

// repeats repeats a call and checks that it gets the stored response.
func (t *test) repeats(o ledger.Order, terms ledger.Terms, c ledger.Charge, answer []byte) {
	t.Helper()
	got, err := t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
	t.ok(err)
	if got.First == nil || got.First.Charge != c || !bytes.Equal(got.First.Body, answer) || got.First.Balance != t.balance(o.Account) {
		t.Fatalf("repeating gave %+v, want %+v and %d bytes", got.First, c, len(answer))
	}
}

func (t *test) repeatFails(o ledger.Order, terms ledger.Terms, want error) {
	t.Helper()
	id := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, terms)
	t.want(err, want)
	_, _, err = t.Store.Capture(t.ctx, id, nil)
	t.want(err, ledger.ErrNotFound)
}

func (t *test) refundAll(c ledger.Charge) {
	t.Helper()
	_, _, err := t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID}, t.audit("refund", c.ID))
	t.ok(err)
}

func retryPath(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	body := []byte("{\"text\":\"\x00\u00e4\"}")
	c := t.answered(o, terms, body)
	for range 3 { // the balance is used up, but the repetition of a captured call costs nothing
		t.repeats(o, terms, c, body)
	}
	terms.Key = ledger.Caps{Day: 1} // this cap is below the price, but caps do not apply to the repetition of a captured call
	t.repeats(o, terms, c, body)
	if n := t.Store.OpenReservations(); n != 0 {
		t.Fatalf("%d reservations are open", n)
	}
	t.holds(payee, price, 0)
	t.balanced(2)
}

func retryRace(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	answer := []byte("answer")
	for round := range 8 {
		terms.Idempotency.Key = fmt.Sprint("k", round)
		var ran atomic.Pointer[string]
		var y tally
		together(32, func(int) {
			id := newID("chg_")
			_, err := t.Store.Reserve(t.ctx, id, o, terms)
			if err == nil {
				ran.Store(&id)
			}
			y.add(err, ledger.ErrInFlight)
		})
		y.check(t, 1, 31)
		var first atomic.Pointer[ledger.Charge]
		var late tally
		together(32, func(i int) { // while one caller captures the call, the others repeat it
			if i == 0 {
				c, _, err := t.Store.Capture(t.ctx, *ran.Load(), answer)
				first.Store(&c)
				late.add(err)
				return
			}
			got, err := t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
			if err == nil && (got.First == nil || got.First.Charge.ID != *ran.Load() || !bytes.Equal(got.First.Body, answer)) {
				err = errors.New("a second run, or another answer")
			}
			late.add(err, ledger.ErrInFlight)
		})
		late.check(t, late.won.Load(), 32-late.won.Load())
		t.repeats(o, terms, t.made(*first.Load()), answer)
	}
	t.holds(payer, 92*price, 0)
	t.balanced(1 + 8)
}

func retryReused(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o, id := order(payer, payee, price), newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, again("k", 1))
	t.ok(err)
	t.repeatFails(o, again("k", 2), ledger.ErrReused)
	t.repeatFails(o, again("k", 1), ledger.ErrInFlight)
	_, _, err = t.Store.Charge(t.ctx, newID("chg_"), o, again("k", 1), nil)
	t.want(err, ledger.ErrInFlight)
	_, _, err = t.Store.Capture(t.ctx, id, []byte("a"))
	t.ok(err)
	t.repeatFails(o, again("k", 2), ledger.ErrReused)
	t.Store = t.Crash()
	t.repeatFails(o, again("k", 2), ledger.ErrReused)
	t.answered(o, again("k2", 2), []byte("b"))
	t.balanced(3)
}

func retryScope(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o := order(payer, payee, price)
	other, elsewhere, rotated := o, o, o
	other.Lineage, elsewhere.Server, rotated.Key = "key_other", "maps", "key_2"
	c := t.answered(o, again("k", 1), []byte("1"))
	d := t.answered(other, again("k", 1), []byte("2"))
	e := t.answered(elsewhere, again("k", 1), []byte("3"))
	f := t.answered(o, again("K", 1), []byte("4"))
	for range 2 {
		t.repeats(o, again("k", 1), c, []byte("1"))
		t.repeats(rotated, again("k", 1), c, []byte("1"))
		t.repeats(other, again("k", 1), d, []byte("2"))
		t.repeats(elsewhere, again("k", 1), e, []byte("3"))
		t.repeats(o, again("K", 1), f, []byte("4"))
		t.Store = t.Crash()
	}
	// The store hashes lineage, server and key with their lengths. So the lineage
	// "a" with the server "bc" must not pass for the lineage "ab" with the server
	// "c".
	o.Lineage, o.Server = "a", "bc"
	t.answered(o, again("d", 1), []byte("5"))
	o.Lineage, o.Server = "ab", "c"
	t.answered(o, again("d", 1), []byte("6"))
	t.balanced(7)
}

func retryFreed(t *test) {
	payer, payee := t.account("payer", price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	for i := range 3 {
		id := newID("chg_")
		_, err := t.Store.Reserve(t.ctx, id, o, terms)
		t.ok(err)
		t.repeatFails(o, terms, ledger.ErrInFlight)
		if i == 1 {
			t.Advance(2 * ledger.ReservationLife)
			continue
		}
		t.ok(t.Store.Release(t.ctx, id))
	}
	poor := o
	poor.Amount = 2 * price
	t.repeatFails(poor, terms, ledger.ErrInsufficient) // the refused call does not use up the idempotency key
	c := t.answered(o, terms, []byte("a"))
	t.repeats(o, terms, c, []byte("a"))
	t.balanced(2)
}

func retryDay(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	first := t.answered(o, terms, []byte("a"))
	t.Advance(ledger.IdempotencyLife - time.Minute)
	t.repeats(o, terms, first, []byte("a"))
	t.Advance(2 * time.Minute)
	second := t.answered(o, again("k", 2), []byte("b")) // the key has expired, so another call can use it
	t.repeats(o, again("k", 2), second, []byte("b"))
	t.Store = t.Crash()
	t.repeats(o, again("k", 2), second, []byte("b"))
	t.repeatFails(o, terms, ledger.ErrReused)
	t.balanced(3)
}

func retryGone(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o := order(payer, payee, price)
	longest := bytes.Repeat([]byte("x"), ledger.MaxStoredResponse)
	kept := t.answered(o, again("longest", 1), longest)
	t.repeats(o, again("longest", 1), kept, longest)
	for i, answer := range [][]byte{append(longest, 'x'), nil} {
		key := fmt.Sprint("k", i)
		c := t.answered(o, again(key, 1), answer)
		t.repeatFails(o, again(key, 1), ledger.ErrGone)
		t.repeatFails(o, again(key, 2), ledger.ErrReused)
		t.Store = t.Crash()
		t.repeatFails(o, again(key, 1), ledger.ErrGone)
		_, _, err := t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID, Amount: 1}, t.audit("refund", c.ID))
		t.ok(err)
		t.repeatFails(o, again(key, 1), ledger.ErrGone)
		t.refundAll(c)
		second := t.answered(o, again(key, 1), []byte("short"))
		t.repeats(o, again(key, 1), second, []byte("short"))
	}
	t.balanced(2 + 2*4)
}

func retryRefunded(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	c := t.answered(o, terms, []byte("a"))
	t.refundAll(c)
	c.Refunded = price
	t.repeats(o, terms, c, []byte("a"))
	t.balanced(3)
}

func retryCrash(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o := order(payer, payee, price)
	c := t.answered(o, again("k", 1), []byte("a"))
	_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, again("open", 1))
	t.ok(err)
	for range 2 {
		t.Store = t.Crash()
		t.repeats(o, again("k", 1), c, []byte("a"))
	}
	if t.Forgets {
		d := t.answered(o, again("open", 1), []byte("b"))
		t.Store = t.Crash()
		t.repeats(o, again("open", 1), d, []byte("b"))
		t.balanced(3)
	}
}

func retryLate(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), again("k", 1)
	late, anew := newID("chg_"), newID("chg_")
	_, err := t.Store.Reserve(t.ctx, late, o, terms)
	t.ok(err)
	t.Advance(2 * ledger.ReservationLife)
	_, err = t.Store.Reserve(t.ctx, anew, o, terms)
	t.ok(err)
	settled := func() {
		t.Helper()
		_, _, err := t.Store.Capture(t.ctx, late, []byte("late"))
		t.want(err, ledger.ErrSettled)
		_, _, err = t.Store.Charge(t.ctx, late, o, terms, []byte("late"))
		t.want(err, ledger.ErrSettled)
	}
	settled()
	c, _, err := t.Store.Capture(t.ctx, anew, []byte("anew"))
	t.ok(err)
	settled()
	t.repeats(o, terms, t.made(c), []byte("anew"))
	t.Store = t.Crash()
	_, _, err = t.Store.Charge(t.ctx, late, o, terms, []byte("late"))
	t.want(err, ledger.ErrSettled)
	t.holds(payer, 9*price, 0)

	// If the second call is released, the first call may still be captured, and the key
	// then belongs to it.
	terms = again("other", 1)
	late, anew = newID("chg_"), newID("chg_")
	_, err = t.Store.Reserve(t.ctx, late, o, terms)
	t.ok(err)
	t.Advance(2 * ledger.ReservationLife)
	_, err = t.Store.Reserve(t.ctx, anew, o, terms)
	t.ok(err)
	t.ok(t.Store.Release(t.ctx, anew))
	c, _, err = t.Store.Capture(t.ctx, late, []byte("late"))
	t.ok(err)
	t.repeats(o, terms, t.made(c), []byte("late"))
	t.balanced(3)
}

func retryForgotten(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	o, terms, id := order(payer, payee, price), again("k", 1), newID("chg_")
	first, _, err := t.Store.Charge(t.ctx, id, o, terms, []byte("a"))
	t.ok(err)
	first = t.made(first)
	t.Store = t.Crash()
	second, balance, err := t.Store.Charge(t.ctx, id, o, terms, []byte("b"))
	t.ok(err)
	t.same(second, first)
	t.same(balance, ledger.Balance{Posted: 9 * price})
	other := o
	other.Tool = "other"
	_, _, err = t.Store.Charge(t.ctx, id, other, terms, nil)
	t.want(err, ledger.ErrConflict)
	t.repeats(o, terms, first, []byte("a"))

	// If the charge is captured again with another key, the capture returns its first
	// outcome, and the other key stays unused.
	t.Store = t.Crash()
	second, _, err = t.Store.Charge(t.ctx, id, o, again("k2", 1), []byte("b"))
	t.ok(err)
	t.same(second, first)
	t.answered(o, again("k2", 1), []byte("c"))
	t.balanced(3)
}
