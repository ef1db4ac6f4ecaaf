package sqlitestore

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestCapturesShareACommit checks that captures queued together share one commit.
func TestCapturesShareACommit(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 1000)
	ids := reserveAll(t, s, o, 200)
	before := s.writer.commits.Load()
	for _, r := range captureAll(t, s, ids, func() {}) {
		if r.err != nil {
			t.Fatal(r.err)
		}
	}
	if n := s.writer.commits.Load() - before; n != 1 {
		t.Errorf("%d captures took %d commits, want 1", len(ids), n)
	}
	clean(t, s)
}

// TestDuplicateFailsItsOwnRow checks a batch with ids that were captured before a
// crash. An id captured with other content must give ledger.ErrConflict. An id captured
// with the same content must give the first outcome. The other captures of the batch
// must succeed.
func TestDuplicateFailsItsOwnRow(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 100)
	same, other := newID("chg_"), newID("chg_")
	first := map[string]ledger.Charge{}
	for _, id := range []string{same, other} {
		c, _, err := s.Charge(t.Context(), id, o, ledger.Terms{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		first[id] = c
	}
	s = opened(t, Options{Path: crashed(t, s)})
	changed := o
	changed.Tool = "other"
	ids := reserveAll(t, s, o, 2)
	for id, o := range map[string]ledger.Order{same: o, other: changed} {
		if _, err := s.Reserve(t.Context(), id, o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range captureAll(t, s, []string{ids[0], same, other, ids[1]}, func() {}) {
		switch {
		case r.id == other:
			if !errors.Is(r.err, ledger.ErrConflict) {
				t.Errorf("other content: error is %v, want %v", r.err, ledger.ErrConflict)
			}
		case r.err != nil:
			t.Errorf("a neighbour of a duplicate failed: %v", r.err)
		case r.id == same && r.charge != asBooked(first[same]):
			t.Errorf("outcome %+v, the first was %+v", r.charge, first[same])
		}
	}
	if p := balanceOf(t, s, o.Account); p != (ledger.Balance{Posted: 96}) {
		t.Errorf("balance is %+v, want four charges and nothing reserved", p)
	}
	clean(t, s)
}

// TestFullQueueBlocksCallers checks that a caller waits while the queue is full.
// When its context ends, the caller gets the error of the context and keeps its
// reservation.
func TestFullQueueBlocksCallers(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, maxQueue+10)
	ids := reserveAll(t, s, o, maxQueue+1)
	last := ids[maxQueue]
	resume := paused(t, s)
	var group sync.WaitGroup
	for _, id := range ids[:maxQueue] {
		group.Go(func() {
			if _, _, err := s.Capture(context.Background(), id, nil); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, "the queue is full", func() bool { return len(s.writer.queue) == maxQueue })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, _, err := s.Capture(ctx, last, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want %v", err, context.DeadlineExceeded)
	}
	resume()
	group.Wait()
	if n := s.OpenReservations(); n != 1 {
		t.Errorf("%d reservations are open, want the one that found no room", n)
	}
	if _, _, err := s.Capture(t.Context(), last, nil); err != nil {
		t.Error(err)
	}
	clean(t, s)
}

// TestCloseFinishesQueuedCaptures checks that Close finishes each queued capture,
// and that the successful ones are in the file.
func TestCloseFinishesQueuedCaptures(t *testing.T) {
	path := filepath.Join(memoryDir(t), "farebox.db")
	s := opened(t, Options{Path: path})
	o := pair(t, s, 1000)
	ids := reserveAll(t, s, o, 100)
	closed := make(chan error, 1)
	captured := 0
	for _, r := range captureAll(t, s, ids, func() { go func() { closed <- s.Close() }() }) {
		if r.err == nil {
			captured++
		} else if !errors.Is(r.err, ledger.ErrUnavailable) {
			t.Error(r.err)
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if captured != len(ids) {
		t.Errorf("%d of %d queued captures were made", captured, len(ids))
	}
	s = opened(t, Options{Path: path})
	if v := clean(t, s); v.Transactions != int64(captured)+1 {
		t.Errorf("the journal has %d transactions, want %d", v.Transactions, captured+1)
	}
}

// TestRebuildEqualsReplay checks that a restart builds the same memory from
// snapshots as a replay of the whole journal. Snapshots of some accounts are
// written at random times.
func TestRebuildEqualsReplay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := fresh(t)
	var accounts []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		account := newID("acct_")
		if err := s.CreateAccount(t.Context(), ledger.Account{ID: account, Name: name}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
		topUp(t, s, account, 1000)
		accounts = append(accounts, account)
	}
	behind := 0
	for range 12 {
		for range random.IntN(12) {
			o := ledger.Order{Account: accounts[random.IntN(5)], Provider: accounts[random.IntN(5)], Amount: ledger.Amount(1 + random.IntN(3))}
			if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.do(t.Context(), func(x *tx) error { return x.flush(random.IntN(5), true) }); err != nil {
			t.Fatal(err)
		}
		var want []ledger.Account
		for _, account := range accounts {
			a, err := s.Account(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, a)
		}
		behind += len(s.writer.dirty)
		path := crashed(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = opened(t, Options{Path: path})
		clean(t, s)
		for i, account := range accounts {
			if a, err := s.Account(t.Context(), account); err != nil || a != want[i] {
				t.Fatalf("after a restart the account is %+v (%v), was %+v", a, err, want[i])
			}
		}
	}
	if behind == 0 {
		t.Error("no snapshot was ever behind, so nothing was proved")
	}
}

// TestSnapshotsFollow checks that an idle store writes all stale snapshots within
// seconds, so that a restart has little to replay.
func TestSnapshotsFollow(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 1000)
	for range 20 {
		if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a replay would begin behind the journal", func() bool {
		var from, last int64
		err := s.readers.QueryRow(`SELECT replay_from, (SELECT max(seq) FROM txn) FROM meta`).Scan(&from, &last)
		return err == nil && from == last+1
	})
	clean(t, s)
}

// TestPanicOfAChange checks that a panic in a change ends the change and not the
// process.
func TestPanicOfAChange(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 10)
	k := keys.Key{ID: "key_1", Lineage: "key_1", Account: o.Account, Kind: keys.Agent, Environment: keys.Live}
	if err := s.CreateKey(t.Context(), k, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	_, err := s.UpdateKey(t.Context(), k.ID, func(*keys.Key) error { panic("oh") }, ledger.Audit{})
	if err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("error is %v, want one that tells of the panic", err)
	}
	if _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); err != nil {
		t.Error(err)
	}
}

// TestMemoryIsBounded checks that memory forgets the oldest settled reservations,
// and that the number of open reservations is bounded.
func TestMemoryIsBounded(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 10)
	first := reserveAll(t, s, o, 1)[0]
	if err := s.Release(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for range maxUnpaid {
		for _, id := range reserveAll(t, s, o, 1) {
			if err := s.Release(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := s.Capture(t.Context(), first, nil); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("capture of what is forgotten: %v, want %v", err, ledger.ErrNotFound)
	}
	if n := len(s.books.holds); n != maxUnpaid {
		t.Errorf("%d settled reservations are remembered, want %d", n, maxUnpaid)
	}
	s.books.mu.Lock()
	s.books.open += maxOpen
	s.books.mu.Unlock()
	if _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("reserving beyond the most: %v, want %v", err, ledger.ErrUnavailable)
	}
}

// TestClockGoesBackwards checks that each reservation ends at its own expiry, even
// if a reservation made later expires first.
func TestClockGoesBackwards(t *testing.T) {
	c := &fakeClock{}
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now})
	o := pair(t, s, 10)
	early := reserveAll(t, s, o, 2)
	c.advance(-time.Hour)
	late := reserveAll(t, s, o, 2)
	c.advance(time.Minute)
	if err := s.Renew(t.Context(), late[1]); err != nil {
		t.Fatal(err)
	}
	c.advance(ledger.ReservationLife - time.Second)
	if n := s.OpenReservations(); n != 3 {
		t.Errorf("%d reservations are open, want 3", n)
	}
	if err := s.Renew(t.Context(), late[0]); !errors.Is(err, ledger.ErrSettled) {
		t.Errorf("renewing what expired: %v, want %v", err, ledger.ErrSettled)
	}
	c.advance(2 * time.Hour)
	if n := s.OpenReservations(); n != 0 {
		t.Errorf("%d reservations are open, want none, first of all %v", n, early)
	}
	clean(t, s)
}
