package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// spentState returns the spending in all counters, by subject.
func spentState(s *Store) map[string]string {
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]string{}
	note := func(m *spendCounter) {
		if m.day != 0 {
			all[m.subject] = fmt.Sprint(m.day, m.spentDay, m.spentMonth, m.freeDay)
		}
	}
	for _, m := range b.loaded {
		note(m)
	}
	for _, m := range b.counters {
		note(m)
	}
	return all
}

// TestSpendCountersRebuild checks that a restart restores the spend counters.
// Snapshots of some counters are written at random times, and the clock moves over
// days and months, forwards and backwards.
func TestSpendCountersRebuild(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := &fakeClock{}
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now}
	s := opened(t, o)
	base := pair(t, s, 1_000_000)
	topUp(t, s, base.Provider, 1_000_000)
	behind := 0
	for range 15 {
		var ids []string
		for range random.IntN(10) {
			order := base
			if random.IntN(2) == 0 {
				order.Account, order.Provider = order.Provider, order.Account
			}
			order.Lineage = fmt.Sprint("key_", order.Account, random.IntN(3))
			order.Server = fmt.Sprint("s", random.IntN(3))
			order.Amount = ledger.Amount(1 + random.IntN(9))
			ids = append(ids, newID("chg_"))
			if _, err := s.Reserve(t.Context(), ids[len(ids)-1], order, ledger.Terms{FreeCalls: int64(random.IntN(3))}); err != nil {
				t.Fatal(err)
			}
		}
		hours := []time.Duration{0, time.Minute, 7 * time.Hour, 24 * time.Hour, 50 * time.Hour, 40 * 24 * time.Hour, -30 * time.Hour, -60 * time.Hour}
		c.advance(hours[random.IntN(len(hours))])
		for _, id := range ids {
			if _, _, err := s.Capture(t.Context(), id, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.do(t.Context(), func(x *tx) error { return x.flush(random.IntN(6), true) }); err != nil {
			t.Fatal(err)
		}
		want := spentState(s)
		behind += len(s.writer.dirty)
		o.Path = crashed(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = opened(t, o)
		clean(t, s)
		got := spentState(s)
		for subject, was := range want {
			if got[subject] != was {
				t.Fatalf("after a restart %s is %s, was %s", subject, got[subject], was)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("after a restart %d counters, want %d", len(got), len(want))
		}
	}
	if behind == 0 {
		t.Error("no snapshot was ever behind, so nothing was proved")
	}
}

// dayClock is a clock that stands until the test sets it. The store reads it from its own
// goroutines.
type dayClock struct{ at atomic.Pointer[time.Time] }

func (c *dayClock) now() time.Time  { return *c.at.Load() }
func (c *dayClock) set(t time.Time) { c.at.Store(&t) }

// dayStore returns a store, its clock, its options, and an order between two of its
// accounts. The clock stands at noon on a day in the middle of a month.
func dayStore(t *testing.T) (*Store, *dayClock, Options, ledger.Order) {
	t.Helper()
	c := new(dayClock)
	c.set(time.Date(2030, 5, 15, 12, 0, 0, 0, time.UTC))
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now}
	s := opened(t, o)
	return s, c, o, pair(t, s, 1000)
}

func spendOne(s *Store, o ledger.Order, terms ledger.Terms) error {
	charge := newID("chg_")
	_, err := s.Reserve(context.Background(), charge, o, terms)
	if err == nil {
		_, _, err = s.Capture(context.Background(), charge, nil)
	}
	return err
}

// TestClockSetBackOverMidnight checks a clock that is set back over midnight. Calls
// still count towards the new day and share its cap, even after a restart, so the
// old day does not begin again. When the clock is right again, the new day
// continues.
func TestClockSetBackOverMidnight(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		s, now, options, o := dayStore(t)
		terms := ledger.Terms{Key: ledger.Caps{Day: 5}, FreeCalls: 1}
		now.set(now.now().Add(12*time.Hour + time.Minute)) // the time is just after midnight now
		for range 4 {
			if err := spendOne(s, o, terms); err != nil {
				t.Fatal(err)
			}
		}
		now.set(now.now().Add(-time.Hour))
		if restart {
			options.Path = crashed(t, s)
			s = opened(t, options)
		}
		for i := range 4 {
			err := spendOne(s, o, terms)
			if want := i >= 2; want != errors.Is(err, ledger.ErrCapped) {
				t.Errorf("restart %v, call %d before midnight: %v", restart, i, err)
			}
		}
		now.set(now.now().Add(2 * time.Hour))
		if err := spendOne(s, o, terms); !errors.Is(err, ledger.ErrCapped) {
			t.Errorf("restart %v, after midnight: %v", restart, err)
		}
		clean(t, s)
	}
}

// TestClockDaysAhead checks a clock that was days ahead and was then set right. The
// cap applies to each of the following days, even for an account that spends nothing
// on the first of them.
func TestClockDaysAhead(t *testing.T) {
	t.Parallel()
	s, now, _, o := dayStore(t)
	other := o
	other.Account, other.Provider, other.Lineage = o.Provider, o.Account, "key_other"
	topUp(t, s, other.Account, 1000)
	terms := ledger.Terms{Key: ledger.Caps{Day: 3}, FreeCalls: 1}
	right := now.now()
	now.set(right.Add(48 * time.Hour))
	for _, o := range []ledger.Order{o, other} {
		if err := spendOne(s, o, terms); err != nil {
			t.Fatal(err)
		}
	}
	now.set(right)
	calls := func(o ledger.Order) (n int) {
		t.Helper()
		for range 20 {
			if err := spendOne(s, o, terms); err == nil {
				n++
			} else if !errors.Is(err, ledger.ErrCapped) {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := calls(o); n != 4 {
		t.Errorf("%d calls on the first day, want 4", n)
	}
	now.set(right.Add(24 * time.Hour))
	if n := calls(o) + calls(other); n > 4+4 {
		t.Errorf("%d calls of two lineages on the second day, want at most 8", n)
	}
	now.set(right.Add(72 * time.Hour))
	if n := calls(other); n != 4 {
		t.Errorf("%d calls on another day, want 4", n)
	}
	clean(t, s)
}

// TestCaptureDaysLater checks that a charge reserved days ago, and renewed since,
// does not reset today's counters.
func TestCaptureDaysLater(t *testing.T) {
	t.Parallel()
	s, now, options, o := dayStore(t)
	terms := ledger.Terms{Key: ledger.Caps{Day: 4, Month: 6}}
	old := newID("chg_")
	if _, err := s.Reserve(t.Context(), old, o, terms); err != nil {
		t.Fatal(err)
	}
	s.books.mu.Lock()
	heldLocked(s, old).expires = now.now().AddDate(0, 0, 4) // set the expiry as if the reservation had been renewed all the time
	s.books.mu.Unlock()
	now.set(now.now().AddDate(0, 0, 3))
	for range 4 {
		if err := spendOne(s, o, terms); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Capture(t.Context(), old, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := spendOne(s, o, terms); !errors.Is(err, ledger.ErrCapped) {
			t.Errorf("beyond the cap of the day: %v", err)
		}
		clean(t, s)
		options.Path = crashed(t, s)
		s = opened(t, options)
	}
	now.set(now.now().AddDate(0, 0, 1))
	if err := spendOne(s, o, terms); err != nil { // 5 of the month's 6 credits are spent
		t.Error(err)
	}
	if err := spendOne(s, o, terms); !errors.Is(err, ledger.ErrCapped) {
		t.Errorf("beyond the cap of the month: %v", err)
	}
}

// TestFeeThatIsNotWrittenEndsTheCapture checks that a capture fails if its fee
// cannot be written, so that no charge is taken without its fee.
func TestFeeThatIsNotWrittenEndsTheCapture(t *testing.T) {
	t.Parallel()
	for name, action := range map[string]string{"is taken for written before": "IGNORE", "fails": "ABORT, 'no'"} {
		t.Run(name, func(t *testing.T) {
			s := fresh(t)
			o := pair(t, s, 100)
			o.Amount, o.Fee, o.FeeTo = 10, 2, newID("acct_")
			if err := s.CreateAccount(t.Context(), ledger.Account{ID: o.FeeTo, Name: "operator"}, ledger.Audit{}); err != nil {
				t.Fatal(err)
			}
			charge := newID("chg_")
			if _, err := s.Reserve(t.Context(), charge, o, repeatable("k")); err != nil {
				t.Fatal(err)
			}
			write(t, s, `CREATE TEMP TRIGGER broken BEFORE INSERT ON main.txn WHEN NEW.kind = 5 BEGIN SELECT RAISE(`+action+`); END`)
			if _, _, err := s.Capture(t.Context(), charge, []byte("a")); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("error is %v, want %v", err, ledger.ErrUnavailable)
			}
			if p := balanceOf(t, s, o.Account); p != (ledger.Balance{Posted: 100, Reserved: 10}) {
				t.Errorf("balance is %+v", p)
			}
			keptClean(t, s)
			write(t, s, `DROP TRIGGER temp.broken`)
			until(t, "the store can write", healthy(s))
			if _, _, err := s.Capture(t.Context(), charge, []byte("a")); err != nil {
				t.Error(err)
			}
			if v := clean(t, s); v.Transactions != 3 {
				t.Errorf("%d transactions, want 3", v.Transactions)
			}
			keptClean(t, s)
		})
	}
}

// TestVerifyFindsWrongTerms checks that Verify reports damage to fees and spend
// counters.
func TestVerifyFindsWrongTerms(t *testing.T) {
	t.Parallel()
	const again = `; UPDATE account SET live = 0, test = 0, as_of = 0, debit_head = 0, credit_head = 0;
		UPDATE meta SET replay_from = 1; DELETE FROM spend`
	dir := memoryDir(t)
	template := filepath.Join(dir, "template.db")
	now := time.Date(2030, 5, 15, 12, 0, 0, 0, time.UTC)
	options := Options{Path: template, Now: func() time.Time { return now }}
	s := opened(t, options)
	o := pair(t, s, 1000)
	o.Amount, o.Fee, o.FeeTo = 10, 4, newID("acct_")
	if err := s.CreateAccount(t.Context(), ledger.Account{ID: o.FeeTo, Name: "operator"}, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	var last ledger.Charge
	for range 4 { // transactions 2 (free), 3, 5 and 7; each of the last three is followed by its fee
		var err error
		if last, _, err = s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{FreeCalls: 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, amount := range []ledger.Amount{3, 7} { // transactions 9 and 11, each followed by the returned fee
		refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: last.ID, Amount: amount}
		if _, _, err := s.PostTransaction(t.Context(), refund, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	if v := clean(t, s); v.Transactions != 12 {
		t.Fatalf("%d transactions, want 12", v.Transactions)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ damage, want string }{
		{`DROP TRIGGER txn_stays; DELETE FROM txn WHERE seq >= 8` + again, "fee of charge 7 is missing"},
		{`UPDATE txn SET ref = 3 WHERE seq = 6`, "fee of charge 5 is missing"},
		{`UPDATE txn SET fee = 3 WHERE seq = 5`, "fee of charge 5 is missing"},
		{`UPDATE txn SET fee_to = 2 WHERE seq = 5`, "fee of charge 5 is missing"},
		{`DROP TRIGGER txn_stays; DELETE FROM txn WHERE seq = 12` + again, "given back 0.000001 of the fee of charge 7, and should have given 0.000004"},
		{`UPDATE txn SET ref = 5 WHERE seq = 10`, "fee of charge 5"},
		{`UPDATE txn SET test = 1 WHERE seq = 12`, "is not a part of the fee"},
		{`UPDATE spend SET spent_day = spent_day + 1 WHERE subject LIKE 'key:%'`, "key:key_1: it spent 0.000031"},
		{`UPDATE spend SET spent_month = 0 WHERE subject LIKE 'account:%'`, ":live: it spent 0.00003 and 1 free calls on 2030-05-15, and 0.00 in that month"},
		{`UPDATE spend SET free_day = 0 WHERE subject LIKE 'server:%'`, "0 free calls"},
		{`UPDATE spend SET day = day - 1`, "on 2030-05-14"},
		{`UPDATE txn SET day = 22000 WHERE seq = 7`, "but the journal gives"},
		{`DELETE FROM spend WHERE subject LIKE 'server:%'`, ":live:s is not in memory"},
		{`INSERT INTO spend VALUES ('key:nobody', 22000, 1, 1, 0, 5)`, "spending that is not in the journal"},
	} {
		options.Path = filepath.Join(dir, fmt.Sprintf("%d.db", i))
		if err := copyFile(options.Path, template); err != nil {
			t.Fatal(err)
		}
		alter(t, options.Path, "DROP TRIGGER txn_is_final; "+c.damage)
		s := opened(t, options)
		v, err := s.Verify(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(v.Differences, "\n"); !strings.Contains(all, c.want) {
			t.Errorf("after %s it found %q, want %q", c.damage, all, c.want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVerifyFindsWrongMemory checks that Verify reports damage to memory alone.
func TestVerifyFindsWrongMemory(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	o := pair(t, s, 100)
	ids := reserveAll(t, s, o, 2)
	if _, _, err := s.Capture(t.Context(), ids[0], nil); err != nil {
		t.Fatal(err)
	}
	clean(t, s)
	s.books.mu.Lock()
	m := heldLocked(s, ids[1]).counters[ofServer]
	m.held[0].amount++
	m.spentDay--
	s.books.mu.Unlock()
	v, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(v.Differences, "\n"); len(v.Differences) != 2 || !strings.Contains(all, "is held") || !strings.Contains(all, "it spent 0.00 ") {
		t.Errorf("found %q", all)
	}
	s.books.mu.Lock()
	m.held[0].amount--
	m.spentDay++
	s.books.mu.Unlock()
	clean(t, s)
}
