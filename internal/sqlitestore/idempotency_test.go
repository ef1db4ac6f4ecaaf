package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func repeatable(key string) ledger.Terms {
	return ledger.Terms{Idempotency: ledger.Idempotency{Key: key}}
}

// keptClean checks that memory has the same idempotency keys as the file, and the
// right number of keys for each payer. It also checks that the books balance.
func keptClean(t *testing.T, s *Store) {
	t.Helper()
	clean(t, s)
	err := s.inspect(context.Background(), func(x *tx) error {
		rows, err := x.listResponses(`SELECT seq, idempotency_hash, size, at FROM stored_response ORDER BY seq`)
		if err != nil {
			return err
		}
		b := s.books
		b.mu.Lock()
		defer b.mu.Unlock()
		inFile := map[idempotencyHash]int64{}
		var size int64
		for _, k := range rows {
			inFile[k.idempotencyHash], size = k.seq, size+k.size
		}
		if x.w.responseBytes != size {
			t.Errorf("%d bytes of answers are counted, and %d are kept", x.w.responseBytes, size)
		}
		each := map[int64]int{}
		for m, was := range b.idempotencyKeys {
			each[was.payer]++
			if was.hold == nil && inFile[m] != was.seq {
				t.Errorf("a call that may be repeated is charge %d in memory and %d in the file", was.seq, inFile[m])
			}
			if was.hold != nil && was.hold.state >= holdCaptured {
				t.Errorf("a call in flight is in state %d", was.hold.state)
			}
		}
		for m, seq := range inFile {
			if _, known := b.idempotencyKeys[m]; !known {
				t.Errorf("the answer of charge %d is in the file and not in memory", seq)
			}
		}
		for _, a := range b.numbered {
			if a != nil && a.idempotencyKeys != each[a.n] {
				t.Errorf("account %s has %d calls that may be repeated, and %d are counted", a.name, each[a.n], a.idempotencyKeys)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// answered captures a call with an idempotency key and a response.
func answered(t *testing.T, s *Store, o ledger.Order, key string, answer []byte) ledger.Charge {
	t.Helper()
	c, _, err := s.Charge(t.Context(), newID("chg_"), o, repeatable(key), answer)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// repeat repeats a call under its key and returns the result. If the call reserves
// credits, repeat releases them.
func repeat(t *testing.T, s *Store, o ledger.Order, key string) (*ledger.StoredResponse, error) {
	t.Helper()
	charge := newID("chg_")
	got, err := s.Reserve(t.Context(), charge, o, repeatable(key))
	if err == nil && got.First == nil {
		if err := s.Release(t.Context(), charge); err != nil {
			t.Fatal(err)
		}
	}
	return got.First, err
}

func wantRepeat(t *testing.T, s *Store, o ledger.Order, key string, answer []byte, want error) {
	t.Helper()
	first, err := repeat(t, s, o, key)
	switch {
	case !errors.Is(err, want):
		t.Errorf("repeating %s: error is %v, want %v", key, err, want)
	case want == nil && (first == nil) != (answer == nil):
		t.Errorf("repeating %s gave %+v, want an answer: %v", key, first, answer != nil)
	case first != nil && !bytes.Equal(first.Body, answer):
		t.Errorf("repeating %s gave %q, want %q", key, first.Body, answer)
	}
}

// TestStoredResponsesAreBounded checks that the stored responses stay within their
// bound after each commit. The oldest are evicted first, and their calls do not run
// again.
func TestStoredResponsesAreBounded(t *testing.T) {
	t.Parallel()
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), MaxResponseBytes: 1000}
	s := opened(t, o)
	order := pair(t, s, 1000)
	const calls, size = 60, 100
	for i := range calls {
		answered(t, s, order, fmt.Sprint("k", i), bytes.Repeat([]byte{byte(i)}, size))
		var kept int64
		if err := s.readers.QueryRow(`SELECT sum(size) FROM stored_response`).Scan(&kept); err != nil {
			t.Fatal(err)
		}
		if kept > o.MaxResponseBytes {
			t.Fatalf("%d bytes are kept after %d calls", kept, i+1)
		}
	}
	keptClean(t, s)
	o.Path = crashed(t, s)
	s = opened(t, o)
	keptClean(t, s)
	for i := range calls {
		want, body := error(nil), bytes.Repeat([]byte{byte(i)}, size)
		if i < calls-10 {
			want = ledger.ErrGone
		}
		wantRepeat(t, s, order, fmt.Sprint("k", i), body, want)
	}
	answered(t, s, order, "large", make([]byte, 1001)) // this response is longer than the bound for all responses together
	wantRepeat(t, s, order, "large", nil, ledger.ErrGone)
	wantRepeat(t, s, order, fmt.Sprint("k", calls-1), nil, ledger.ErrGone)
	keptClean(t, s)
}

// TestStoredResponsesAreSwept checks that an idle store deletes responses older
// than a day, and keeps the others.
func TestStoredResponsesAreSwept(t *testing.T) {
	t.Parallel()
	c := &fakeClock{}
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now})
	o := pair(t, s, 1000)
	for i := range 20 {
		answered(t, s, o, fmt.Sprint("old", i), []byte("old"))
	}
	c.advance(ledger.IdempotencyLife / 2)
	answered(t, s, o, "young", []byte("young"))
	c.advance(ledger.IdempotencyLife/2 + time.Second)
	again := answered(t, s, o, "old3", []byte("anew")) // the first call with the key old3 has expired; it may or may not have been swept before this second call
	until(t, "what is old is forgotten", func() bool {
		var n int
		return s.readers.QueryRow(`SELECT count(*) FROM stored_response`).Scan(&n) == nil && n == 2
	})
	keptClean(t, s)
	wantRepeat(t, s, o, "young", []byte("young"), nil)
	wantRepeat(t, s, o, "old3", []byte("anew"), nil)
	wantRepeat(t, s, o, "old4", nil, nil)
	if first, err := repeat(t, s, o, "old3"); err != nil || first.Charge != asBooked(again) {
		t.Errorf("repeating gave %+v and %v, want %+v", first, err, again)
	}
}

// TestSweepInDoubt checks that memory agrees with the file after the COMMIT of a
// sweep failed, whether the sweep happened or not.
func TestSweepInDoubt(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]int32{"came back": commitOnceBack, "lost": commitOnceLost} {
		t.Run(name, func(t *testing.T) {
			c, f := &fakeClock{}, &faults{}
			s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now, connect: f.connect})
			o := pair(t, s, 1000)
			for i := range 5 {
				answered(t, s, o, fmt.Sprint("k", i), []byte("a"))
			}
			held := newID("chg_")
			if _, err := s.Reserve(t.Context(), held, o, repeatable("open")); err != nil {
				t.Fatal(err)
			}
			c.advance(ledger.IdempotencyLife)
			if err := s.Renew(t.Context(), held); err == nil {
				t.Fatal("a reservation lives for a day")
			}
			f.commit.Store(mode)
			if err := s.do(t.Context(), (*tx).sweepResponses); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatalf("error is %v, want %v", err, ledger.ErrUnavailable)
			}
			until(t, "the store can write", healthy(s))
			keptClean(t, s)
			answered(t, s, o, "k1", []byte("b"))
			wantRepeat(t, s, o, "k1", []byte("b"), nil)
			keptClean(t, s)
		})
	}
}

// TestFailedCommitKeepsResponsesAndFees checks that after a failed COMMIT, either
// all of a capture's charge, fee, response and spending exist, or none of them
// does.
func TestFailedCommitKeepsResponsesAndFees(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode int32
		want error
	}{
		"came back": {commitOnceBack, nil},
		"lost":      {commitOnceLost, ledger.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faults{}
			var near []ledger.Cap
			s := opened(t, Options{
				Path: filepath.Join(memoryDir(t), "farebox.db"), connect: f.connect,
				NearCap: func(c ledger.Cap) { near = append(near, c) },
			})
			o := pair(t, s, 1000)
			o.Amount, o.Fee, o.FeeTo = 10, 3, newID("acct_")
			if err := s.CreateAccount(t.Context(), ledger.Account{ID: o.FeeTo, Name: "operator"}, ledger.Audit{}); err != nil {
				t.Fatal(err)
			}
			var ids []string
			terms := ledger.Terms{Key: ledger.Caps{Day: 40}, FreeCalls: 1}
			for i := range 5 {
				terms.Idempotency.Key = fmt.Sprint("k", i)
				ids = append(ids, newID("chg_"))
				if _, err := s.Reserve(t.Context(), ids[i], o, terms); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range captureAll(t, s, ids, func() { f.commit.Store(c.mode) }) {
				if !errors.Is(r.err, c.want) {
					t.Fatalf("error is %v, want %v", r.err, c.want)
				}
			}
			until(t, "the store can write", healthy(s))
			keptClean(t, s)
			first, err := s.Reserve(t.Context(), newID("chg_"), o, terms)
			if c.want == nil && !errors.Is(err, ledger.ErrGone) || c.want != nil && !errors.Is(err, ledger.ErrInFlight) {
				t.Errorf("repeating gave %+v and %v", first, err)
			}
			for i, id := range ids {
				if _, _, err := s.Capture(t.Context(), id, []byte("late")); err != nil {
					t.Fatalf("capture %d: %v", i, err)
				}
			}
			terms.Idempotency.Key = ""
			if _, err := s.Reserve(t.Context(), newID("chg_"), o, terms); !errors.Is(err, ledger.ErrCapped) {
				t.Errorf("beyond the cap: %v", err)
			}
			keptClean(t, s)
			for name, want := range map[string]ledger.Amount{o.Account: 960, o.Provider: 28, o.FeeTo: 12} {
				if p := balanceOf(t, s, name); p != (ledger.Balance{Posted: want}) {
					t.Errorf("balance is %+v, want %s", p, want)
				}
			}
			if v := clean(t, s); v.Transactions != 1+5+4 || len(near) != 1 {
				t.Errorf("%d transactions and %d warnings, want 10 and 1", v.Transactions, len(near))
			}
		})
	}
}

// TestOutageFreesKeys checks that a call released while its capture was in doubt costs
// nothing and can run again under its key. That holds whether or not the row of the
// capture reappeared, and whether or not the COMMIT of the refund failed.
func TestOutageFreesKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ mode, refund int32 }{
		"rows come back":                 {commitOnceBack, commitWorks},
		"rows come back, refund too":     {commitOnceBack, commitOnceBack},
		"rows come back, refund is lost": {commitOnceBack, commitOnceLost},
		"rows are lost":                  {commitOnceLost, commitWorks},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := faulty(t)
			o := pair(t, s, 100)
			charge := newID("chg_")
			if _, err := s.Reserve(t.Context(), charge, o, repeatable("k")); err != nil {
				t.Fatal(err)
			}
			captureAll(t, s, []string{charge}, func() { f.open.Store(true); f.commit.Store(c.mode) })
			if err := s.Release(t.Context(), charge); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatal(err)
			}
			f.pass.Store(1) // the COMMIT of the writer's probe succeeds
			f.commit.Store(c.refund)
			f.open.Store(false)
			until(t, "what was to fail has failed", func() bool { return f.commit.Load() == commitWorks })
			until(t, "what was released is given back", func() bool {
				return s.Healthy() == nil && balanceOf(t, s, o.Account) == ledger.Balance{Posted: 100}
			})
			until(t, "the key is free", func() bool {
				first, err := repeat(t, s, o, "k")
				return first == nil && err == nil
			})
			keptClean(t, s)
			answered(t, s, o, "k", []byte("a"))
			wantRepeat(t, s, o, "k", []byte("a"), nil)
			keptClean(t, s)
		})
	}
}

// TestRefundInDoubtFreesTheKey checks a refund with a failed COMMIT, for a call
// without a stored response. If the refund did happen, it frees the idempotency
// key of the call.
func TestRefundInDoubtFreesTheKey(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode int32
		want error
	}{"came back": {commitOnceBack, nil}, "lost": {commitOnceLost, ledger.ErrGone}} {
		t.Run(name, func(t *testing.T) {
			s, f := faulty(t)
			o := pair(t, s, 100)
			charge := answered(t, s, o, "k", nil)
			f.commit.Store(c.mode)
			refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: charge.ID}
			if _, _, err := s.PostTransaction(t.Context(), refund, ledger.Audit{}); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatalf("error is %v, want %v", err, ledger.ErrUnavailable)
			}
			until(t, "the store can write", healthy(s))
			wantRepeat(t, s, o, "k", nil, c.want)
			keptClean(t, s)
			if _, _, err := s.PostTransaction(t.Context(), refund, ledger.Audit{}); err != nil {
				t.Fatal(err)
			}
			wantRepeat(t, s, o, "k", nil, nil)
			keptClean(t, s)
		})
	}
}

// TestKeyOfADuplicate checks captured charges that memory has forgotten. When such a
// charge is captured again, it keeps the idempotency key of the first capture, if
// there is one, and takes no other key.
func TestKeyOfADuplicate(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 100)
	plain, keyed := newID("chg_"), newID("chg_")
	for charge, terms := range map[string]ledger.Terms{plain: {}, keyed: repeatable("first")} {
		if _, _, err := s.Charge(t.Context(), charge, o, terms, []byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	s = opened(t, Options{Path: crashed(t, s)})
	for _, charge := range []string{plain, keyed} {
		if _, err := s.Reserve(t.Context(), charge, o, repeatable("second")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Capture(t.Context(), charge, []byte("b")); err != nil {
			t.Fatal(err)
		}
		wantRepeat(t, s, o, "second", nil, nil)
		keptClean(t, s)
	}
	wantRepeat(t, s, o, "first", []byte("a"), nil)
}

// TestKeysAreBounded checks an account with the maximum number of idempotency keys.
// The account can only call without a key. Other accounts are not affected.
func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 100)
	topUp(t, s, o.Provider, 100)
	s.books.mu.Lock()
	s.books.byID[o.Account].idempotencyKeys += maxIdempotencyKeysPerAccount
	s.books.mu.Unlock()
	if _, err := s.Reserve(t.Context(), newID("chg_"), o, repeatable("k")); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("error is %v, want %v", err, ledger.ErrUnavailable)
	}
	if _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{}); err != nil {
		t.Error(err)
	}
	other := o
	other.Account, other.Provider, other.Lineage = o.Provider, o.Account, "key_other"
	answered(t, s, other, "k", []byte("a"))
}

// TestUnqueuedCaptureKeepsItsKey checks that a caller that could not queue its
// capture keeps the reservation and its idempotency key.
func TestUnqueuedCaptureKeepsItsKey(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 100)
	charge := newID("chg_")
	if _, err := s.Reserve(t.Context(), charge, o, repeatable("k")); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h := heldAs(s, charge)
	done := make(chan outcome, 1)
	if j := s.join(h.id, conditional{}, []byte("a"), done); j.err != nil || !j.submit {
		t.Fatal(j)
	}
	if err := s.writer.submit(gone, job{hold: h}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.unqueue(h, done)
	wantRepeat(t, s, o, "k", nil, ledger.ErrInFlight)
	keptClean(t, s)
	if _, _, err := s.Charge(gone, newID("chg_"), o, repeatable("k2"), nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantRepeat(t, s, o, "k2", nil, nil)
	if _, _, err := s.Capture(t.Context(), charge, []byte("b")); err != nil {
		t.Fatal(err)
	}
	wantRepeat(t, s, o, "k", []byte("b"), nil)
	keptClean(t, s)
}

// TestLateCaptureAfterADay checks a late capture of an expired reservation after a
// second call was captured under the same idempotency key. A day after the second
// call, the key is free again and the late capture succeeds. That holds whether the
// key was swept or not.
func TestLateCaptureAfterADay(t *testing.T) {
	t.Parallel()
	for _, swept := range []bool{false, true} {
		c := &fakeClock{}
		s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now})
		o, late := pair(t, s, 100), newID("chg_")
		if _, err := s.Reserve(t.Context(), late, o, repeatable("k")); err != nil {
			t.Fatal(err)
		}
		c.advance(2 * ledger.ReservationLife)
		answered(t, s, o, "k", []byte("anew"))
		c.advance(ledger.IdempotencyLife - time.Minute)
		if _, _, err := s.Capture(t.Context(), late, []byte("late")); !errors.Is(err, ledger.ErrSettled) {
			t.Fatalf("error is %v, want %v", err, ledger.ErrSettled)
		}
		c.advance(2 * time.Minute)
		if swept {
			if err := s.do(t.Context(), (*tx).sweepResponses); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.Capture(t.Context(), late, []byte("late")); err != nil {
			t.Fatal(err)
		}
		wantRepeat(t, s, o, "k", []byte("late"), nil)
		if err := s.do(t.Context(), (*tx).sweepResponses); err != nil {
			t.Fatal(err)
		}
		keptClean(t, s)
	}
}

// asBooked returns the charge as a later read returns it, without Made.
func asBooked(c ledger.Charge) ledger.Charge {
	c.Made = false
	return c
}
