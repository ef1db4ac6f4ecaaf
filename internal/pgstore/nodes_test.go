//go:build unix

package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// nodes opens n stores on one new database.
func nodes(t testing.TB, n int) (list []*Store, dsn string) {
	t.Helper()
	dsn = cluster.Database(t, template)
	for range n {
		list = append(list, opened(t, Options{DSN: dsn}))
	}
	return list, dsn
}

// together makes n concurrent calls and waits for them.
func together(n int, call func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	group.Wait()
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// TestExactlyTenOnThreeNodes checks promise 3 of docs/promises.md across nodes: if 64
// callers share a balance for ten calls, exactly ten succeed.
func TestExactlyTenOnThreeNodes(t *testing.T) {
	stores, _ := nodes(t, 3)
	payee := account(t, stores[0], "payee", 0)
	for round := range 5 {
		o := order(account(t, stores[0], fmt.Sprint("payer", round), 100), payee, 10)
		var won, lost atomic.Int64
		together(64, func(i int) {
			s, charge := stores[i%3], newID("chg_")
			var err error
			if i%2 == 0 {
				_, _, err = s.Charge(t.Context(), charge, o, ledger.Terms{}, nil)
			} else if _, err = s.Reserve(t.Context(), charge, o, ledger.Terms{}); err == nil {
				_, _, err = stores[(i+1)%3].Capture(t.Context(), charge, nil) // the capture goes to another node than the reservation
			}
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ledger.ErrInsufficient):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
		if won.Load() != 10 || lost.Load() != 54 {
			t.Fatalf("%d calls got through and %d did not, want 10 and 54", won.Load(), lost.Load())
		}
	}
	if v := clean(t, stores[1]); v.Transactions != 5*11 {
		t.Fatalf("%d transactions", v.Transactions)
	}
}

// TestHotAccountOnNodes checks that an account is never overdrawn, not even for a
// moment, while all nodes reserve, capture and release on it at once.
func TestHotAccountOnNodes(t *testing.T) {
	long(t)
	stores, dsn := nodes(t, 3)
	payer, payee := account(t, stores[0], "payer", 200), account(t, stores[0], "payee", 0)
	query(t, dsn, `CREATE TABLE overdrawn AS SELECT 0 AS n WHERE false;
		CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
			IF new.live - new.live_reserved < 0 AND new.name = ''payer'' THEN INSERT INTO overdrawn VALUES (1); END IF; RETURN NULL; END';
		CREATE TRIGGER watch AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION watch()`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var paid atomic.Int64
	together(48, func(i int) {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		for range 20 {
			s, other, charge := stores[random.IntN(3)], stores[random.IntN(3)], newID("chg_")
			o := order(payer, payee, ledger.Amount(1+random.IntN(20)))
			_, err := s.Reserve(t.Context(), charge, o, ledger.Terms{})
			if errors.Is(err, ledger.ErrInsufficient) {
				continue
			}
			switch {
			case err != nil:
			case random.IntN(2) == 0:
				err = other.Release(t.Context(), charge)
			default:
				if _, _, err = other.Capture(t.Context(), charge, nil); err == nil {
					paid.Add(int64(o.Amount))
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	if p := balanceOf(t, stores[0], payer); p.Posted != 200-ledger.Amount(paid.Load()) || p.Reserved != 0 {
		t.Errorf("the balance is %+v after %d were paid of 200", p, paid.Load())
	}
	if n := count(t, dsn, `SELECT count(*) FROM overdrawn`); n > 0 {
		t.Errorf("overdrawn %d times", n)
	}
	clean(t, stores[2])
}

func count(t testing.TB, dsn, text string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNodesDoNotDeadlock lets several nodes send batches that touch the same
// accounts in different sequences. Refunds, changes of limits and maintenance run in
// between. There must be no deadlock and no error.
func TestNodesDoNotDeadlock(t *testing.T) {
	long(t)
	stores, dsn := nodes(t, 3)
	var accounts []string
	for i := range 6 {
		accounts = append(accounts, account(t, stores[0], fmt.Sprint("a", i), 1_000_000))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	together(48, func(i int) {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		s := stores[i%3]
		for range 12 {
			from := random.IntN(6)
			o := order(accounts[from], accounts[(from+1+random.IntN(5))%6], ledger.Amount(1+random.IntN(9)))
			o.Server = fmt.Sprint("server", random.IntN(3))
			if to := accounts[random.IntN(6)]; to != o.Provider {
				o.Fee, o.FeeTo = 1, to
			}
			if err := s.mixed(random, o, i); err != nil {
				t.Error(err)
			}
		}
	})
	if n := count(t, dsn, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n > 0 {
		t.Errorf("%d deadlocks", n)
	}
	clean(t, stores[1])
}

// mixed reserves and captures a call. Then it refunds the call, changes the account's
// limits, runs maintenance or does nothing, chosen at random.
func (s *Store) mixed(random *rand.Rand, o ledger.Order, i int) error {
	ctx, charge := context.Background(), newID("chg_")
	terms := ledger.Terms{Server: ledger.Caps{Day: 1 << 30}, Key: ledger.Caps{Month: 1 << 30}, FreeCalls: int64(random.IntN(2))}
	if random.IntN(3) == 0 {
		terms.Idempotency.Key = charge
	}
	if _, err := s.Reserve(ctx, charge, o, terms); err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	if _, _, err := s.Capture(ctx, charge, []byte("answer")); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	switch random.IntN(4) {
	case 0:
		_, _, err := s.PostTransaction(ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: charge}, ledger.Audit{})
		if err != nil && !errors.Is(err, ledger.ErrSettled) {
			return fmt.Errorf("refund: %w", err)
		}
	case 1:
		_, err := s.UpdateAccount(ctx, o.Account, func(a *ledger.Account) error { a.CreditLimit = ledger.Amount(i); return nil }, ledger.Audit{})
		return err
	case 2:
		return s.maintainOnce(true)
	}
	return nil
}

// TestDeadNodeIsSweptUp checks that credits reserved by a dead node can be spent on
// other nodes after the reservations expire, and that several nodes can run
// maintenance at once.
func TestDeadNodeIsSweptUp(t *testing.T) {
	var ahead atomic.Int64
	o := Options{DSN: cluster.Database(t, template), Shift: func() time.Duration { return time.Duration(ahead.Load()) }}
	dead, a, b := opened(t, o), opened(t, o), opened(t, o)
	payee := account(t, a, "payee", 0)
	var payers, held []string
	for i := range 20 {
		payers = append(payers, account(t, a, fmt.Sprint("payer", i), 10))
		held = append(held, newID("chg_"))
		if _, err := dead.Reserve(t.Context(), held[i], order(payers[i], payee, 10), ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	dead.crash()
	if _, err := b.Reserve(t.Context(), newID("chg_"), order(payers[0], payee, 1), ledger.Terms{}); !errors.Is(err, ledger.ErrInsufficient) {
		t.Fatalf("reserving what a node holds that has just died: %v", err)
	}
	ahead.Store(int64(ledger.ReservationLife))
	if _, err := b.Reserve(t.Context(), newID("chg_"), order(payers[0], payee, 10), ledger.Terms{}); err != nil {
		t.Fatalf("reserving what has expired: %v", err)
	}
	together(8, func(i int) {
		if err := []*Store{a, b}[i%2].maintainOnce(true); err != nil {
			t.Error(err)
		}
	})
	if n := count(t, o.DSN, `SELECT count(*) FROM reservation WHERE state = 1`); n != 1 {
		t.Errorf("%d reservations are open after tidying up, want 1", n)
	}
	if p := balanceOf(t, a, payers[1]); p != (ledger.Balance{Posted: 10}) {
		t.Errorf("the balance is %+v", p)
	}
	if _, _, err := a.Capture(t.Context(), held[1], nil); err != nil {
		t.Errorf("capturing what has expired: %v", err)
	}
	ahead.Store(int64(defaultRemember + 2*ledger.ReservationLife))
	if err := a.maintainOnce(false); err != nil {
		t.Fatal(err)
	}
	if err := b.maintainOnce(false); err != nil { // deletes reservations that the first run expired
		t.Fatal(err)
	}
	if n := count(t, o.DSN, `SELECT count(*) FROM reservation`); n > 1 {
		t.Errorf("%d reservations are remembered", n)
	}
	clean(t, b)
}

// TestRepeatOnAnotherNode checks that a call repeated on another node is refused as
// in flight before the capture, and gets the stored response after it.
func TestRepeatOnAnotherNode(t *testing.T) {
	stores, _ := nodes(t, 2)
	o := order(account(t, stores[0], "payer", 100), account(t, stores[0], "payee", 0), 10)
	terms, first := ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}, newID("chg_")
	if _, err := stores[0].Reserve(t.Context(), first, o, terms); err != nil {
		t.Fatal(err)
	}
	if _, err := stores[1].Reserve(t.Context(), newID("chg_"), o, terms); !errors.Is(err, ledger.ErrInFlight) {
		t.Fatalf("a call that is under way on another node: %v", err)
	}
	c, _, err := stores[0].Capture(t.Context(), first, []byte("answer"))
	if err != nil {
		t.Fatal(err)
	}
	c.Made = false // Capture sets Made, but a stored charge is returned without it
	got, err := stores[1].Reserve(t.Context(), newID("chg_"), o, terms)
	if err != nil || got.First == nil || got.First.Charge != c || string(got.First.Body) != "answer" {
		t.Fatalf("repeated on another node: %+v, %v", got, err)
	}
	clean(t, stores[0])
}

func newKey(account string) keys.Key {
	secret, id := keys.Mint(keys.Agent, keys.Live), newID("key_")
	return keys.Key{ID: id, Account: account, Lineage: id, Kind: keys.Agent, Environment: keys.Live, Hint: keys.Hint(secret), Digest: keys.DigestOf(secret)}
}

// TestRevocationsAreInOrder reads revocations while three nodes create and change keys.
// It checks that it gets every revocation, in order.
func TestRevocationsAreInOrder(t *testing.T) {
	const writers, each = 12, 8
	stores, _ := nodes(t, 3)
	owner := account(t, stores[0], "owner", 0)
	var done atomic.Bool
	seen := map[keys.Digest]int{}
	var follower sync.WaitGroup
	follower.Go(func() {
		var last int64
		for more := true; more; {
			more = !done.Load()
			list, next, err := stores[2].Revocations(context.Background(), last, 3)
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range list {
				if r.Seq <= last {
					t.Errorf("revocation %d after %d", r.Seq, last)
				}
				last = r.Seq
				seen[r.Digest]++
			}
			more = more || len(list) > 0
			if next != last {
				t.Errorf("to go on after %d, but the last was %d", next, last)
			}
		}
	})
	var made sync.Map
	together(writers, func(i int) {
		for range each {
			k := newKey(owner)
			made.Store(k.Digest, true)
			if err := stores[i%3].CreateKey(context.Background(), k, ledger.Audit{}); err != nil {
				t.Error(err)
			}
			change := func(k *keys.Key) error { k.Name = "x"; return nil }
			if _, err := stores[(i+1)%3].UpdateKey(context.Background(), k.ID, change, ledger.Audit{}); err != nil {
				t.Error(err)
			}
		}
	})
	done.Store(true)
	follower.Wait()
	made.Range(func(digest, _ any) bool {
		if n := seen[digest.(keys.Digest)]; n != 2 {
			t.Errorf("a key that was made and changed was heard of %d times", n)
		}
		return true
	})
	if len(seen) != writers*each {
		t.Errorf("%d keys were heard of, want %d", len(seen), writers*each)
	}
}

// TestFrozenNodeHoldsNobodyUp freezes a node in the middle of a change of a key and of
// a change of an account. It checks that the database ends the frozen transaction with
// the change of the key, so that another node's change of the key succeeds. The
// change of the account must not delay a charge on another node.
func TestFrozenNodeHoldsNobodyUp(t *testing.T) {
	long(t)
	stores, _ := nodes(t, 2)
	owner := account(t, stores[0], "owner", 100)
	k := newKey(owner)
	if err := stores[0].CreateKey(t.Context(), k, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	frozen, thaw := make(chan struct{}, 2), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		_, err := stores[0].UpdateKey(context.Background(), k.ID, func(k *keys.Key) error {
			frozen <- struct{}{}
			<-thaw
			k.Name = "late"
			return nil
		}, ledger.Audit{})
		if !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("the change of a key by a node that was frozen: %v", err)
		}
	})
	group.Go(func() {
		_, err := stores[0].UpdateAccount(context.Background(), owner, func(a *ledger.Account) error {
			frozen <- struct{}{}
			<-thaw
			a.CreditLimit = 5
			return nil
		}, ledger.Audit{})
		if err != nil {
			t.Errorf("the change of an account by a node that was frozen: %v", err)
		}
	})
	<-frozen
	<-frozen
	var others sync.WaitGroup
	others.Go(func() {
		_, err := stores[1].UpdateKey(context.Background(), k.ID, func(k *keys.Key) error { k.DeletedAt = clock.Now(); return nil }, ledger.Audit{})
		if err != nil {
			t.Errorf("deleting the key on another node: %v", err)
		}
	})
	others.Go(func() {
		began := clock.Now()
		defer func() {
			if took := clock.Since(began); took > idleTime/2 {
				t.Errorf("a charge took %s beside a node that was frozen", took)
			}
		}()
		if _, _, err := stores[1].Charge(context.Background(), newID("chg_"), order(owner, owner, 10), ledger.Terms{}, nil); err != nil {
			t.Errorf("charging the account on another node: %v", err)
		}
	})
	others.Wait()
	close(thaw)
	group.Wait()
	got, err := stores[0].Key(t.Context(), k.ID)
	if err != nil || got.DeletedAt.IsZero() || got.Name != "" {
		t.Errorf("the key is %+v, %v", got, err)
	}
	clean(t, stores[1])
}

// TestLimitsChangedOnNodes lets several nodes change the limits of one account at
// once. It checks that no change is lost and that each change has an audit row.
func TestLimitsChangedOnNodes(t *testing.T) {
	stores, dsn := nodes(t, 3)
	owner := account(t, stores[0], "owner", 0)
	together(6, func(i int) {
		for range 4 {
			_, err := stores[i%3].UpdateAccount(t.Context(), owner, func(a *ledger.Account) error { a.CreditLimit++; return nil }, ledger.Audit{Action: "limit"})
			if err != nil {
				t.Error(err)
			}
		}
	})
	a, err := stores[1].Account(t.Context(), owner)
	if err != nil || a.CreditLimit != 24 {
		t.Errorf("the limit is %s, %v, want 24 micro-units", a.CreditLimit, err)
	}
	if n := count(t, dsn, `SELECT count(*) FROM audit WHERE action = 'limit'`); n != 24 {
		t.Errorf("%d audit rows", n)
	}
}
