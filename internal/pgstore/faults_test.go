//go:build unix

package pgstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgtest"

	"github.com/fareboxhq/farebox/internal/clock"
)

// outcomes records the results of charges as callers saw them.
type outcomes struct {
	mu    sync.Mutex
	paid  map[string]ledger.Charge // acknowledged charges by id
	doubt []string                 // ids of charges with an unknown outcome
}

func (k *outcomes) note(id string, c ledger.Charge, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.paid[id] = c
	} else {
		k.doubt = append(k.doubt, id)
	}
}

// captures makes calls until stop is closed, and records the outcomes.
func (k *outcomes) captures(t *testing.T, s *Store, o ledger.Order, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		charge := newID("chg_")
		if _, err := s.Reserve(context.Background(), charge, o, ledger.Terms{}); err != nil {
			if !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("reserving: %v", err)
			}
			continue
		}
		c, _, err := s.Capture(context.Background(), charge, nil)
		if errors.Is(err, ledger.ErrNotFound) { // the killed server lost the reservation
			c, _, err = s.Charge(context.Background(), charge, o, ledger.Terms{}, nil)
		}
		if err != nil && !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("capturing: %v", err)
		}
		k.note(charge, c, err)
	}
}

// settled repeats each charge with an unknown outcome. Then it checks that the books
// have all acknowledged charges, and no others.
func (k *outcomes) settled(t *testing.T, s *Store, o ledger.Order, balance ledger.Amount) {
	t.Helper()
	for _, charge := range k.doubt {
		c, _, err := s.Charge(context.Background(), charge, o, ledger.Terms{}, nil)
		if err != nil {
			t.Fatalf("asking again for %s: %v", charge, err)
		}
		k.paid[charge] = c
	}
	for charge, c := range k.paid {
		c.Made = false // ChargeByID never sets Made
		got, err := s.ChargeByID(context.Background(), charge)
		if err != nil || got != c {
			t.Errorf("acknowledged %+v, but the books have %+v, %v", c, got, err)
		}
	}
	if p := balanceOf(t, s, o.Account); p.Posted != balance-ledger.Amount(len(k.paid))*o.Amount {
		t.Errorf("the balance is %s after %d charges of %s from %s", p.Posted, len(k.paid), o.Amount, balance)
	}
	if v := clean(t, s); v.Transactions != int64(1+len(k.paid)) {
		t.Errorf("%d transactions, want a top-up and %d charges", v.Transactions, len(k.paid))
	}
	t.Logf("%d charges, of which %d had to be asked for again", len(k.paid), len(k.doubt))
}

// TestKilledDatabase checks that no acknowledged charge is lost or doubled when the
// server is killed several times during captures.
func TestKilledDatabase(t *testing.T) {
	long(t)
	const balance = ledger.Amount(1 << 30)
	c := pgtest.New(t)
	s := opened(t, Options{DSN: c.Database(t, template)})
	o := order(account(t, s, "payer", balance), account(t, s, "payee", 0), 3)
	k := &outcomes{paid: map[string]ledger.Charge{}}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() { k.captures(t, s, o, stop) })
	}
	for range 4 {
		before := s.settles.batches.Load()
		eventually(t, "captures", func() bool { return s.settles.batches.Load() > before+20 })
		c.Kill(t)
		c.Start(t)
	}
	eventually(t, "the store is healthy again", func() bool { return s.Healthy() == nil })
	close(stop)
	group.Wait()
	k.settled(t, s, o, balance)
}

// TestCutConnections checks that no call fails or is charged twice when connections
// break before the response arrives.
func TestCutConnections(t *testing.T) {
	long(t)
	const balance = ledger.Amount(1 << 30)
	direct := fresh(t)
	p := newProxy(t, &cluster, direct.o.DSN)
	s := opened(t, Options{DSN: p.dsn})
	o := order(account(t, s, "payer", balance), account(t, s, "payee", 0), 3)
	k := &outcomes{paid: map[string]ledger.Charge{}}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { k.captures(t, s, o, stop) })
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for cuts := int64(1); cuts <= 25; cuts++ {
		p.answers.Store(random.Int64N(20_000))
		eventually(t, "a cut", func() bool { return p.cuts.Load() >= cuts })
	}
	close(stop)
	group.Wait()
	if len(k.doubt) > 0 {
		t.Errorf("%d callers do not know the outcome of their charge", len(k.doubt))
	}
	k.settled(t, direct, o, balance)
}

// TestPostIsCut checks that a top-up is posted exactly once if its response is lost.
func TestPostIsCut(t *testing.T) {
	long(t)
	direct := fresh(t)
	p := newProxy(t, &cluster, direct.o.DSN)
	s := opened(t, Options{DSN: p.dsn})
	payer := account(t, direct, "payer", 0)
	for n := range 10 {
		p.answers.Store(int64(n))
		post := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: payer, Amount: 1}
		if _, _, err := s.PostTransaction(t.Context(), post, ledger.Audit{}); err != nil {
			t.Errorf("a top-up whose answer was lost: %v", err)
		}
	}
	if got := balanceOf(t, direct, payer); got.Posted != 10 {
		t.Errorf("the balance is %s", got.Posted)
	}
	clean(t, direct)
}

// TestDatabaseIsAway checks that each method reports an outage within a time limit, and
// that all methods work again after the outage.
func TestDatabaseIsAway(t *testing.T) {
	long(t)
	c := pgtest.New(t)
	s := opened(t, Options{DSN: c.Database(t, template)})
	payer, payee := account(t, s, "payer", 100), account(t, s, "payee", 0)
	k := newKey(payer)
	if err := s.CreateKey(t.Context(), k, ledger.Audit{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(t.Context(), ledger.Binding{Until: clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	o := order(payer, payee, 1)
	calls := map[string]func() error{
		"KeyByDigest":   func() error { _, err := s.KeyByDigest(t.Context(), k.Digest); return err },
		"Key":           func() error { _, err := s.Key(t.Context(), k.ID); return err },
		"Keys":          func() error { _, _, err := s.Keys(t.Context(), ledger.KeyFilter{}); return err },
		"CountExpiring": func() error { _, err := s.CountExpiring(t.Context(), []time.Time{clock.Now()}); return err },
		"CreateKey":     func() error { return s.CreateKey(t.Context(), newKey(payer), ledger.Audit{}) },
		"UpdateKey": func() error {
			_, err := s.UpdateKey(t.Context(), k.ID, func(*keys.Key) error { return nil }, ledger.Audit{})
			return err
		},
		"TouchKeys": func() error { return s.TouchKeys(t.Context(), map[string]time.Time{k.ID: clock.Now()}) },
		"Account":   func() error { _, err := s.Account(t.Context(), payer); return err },
		"Accounts":  func() error { _, _, err := s.Accounts(t.Context(), ledger.Page{}); return err },
		"CreateAccount": func() error {
			return s.CreateAccount(t.Context(), ledger.Account{ID: newID("acct_"), Name: newID("a")}, ledger.Audit{})
		},
		"UpdateAccount": func() error {
			_, err := s.UpdateAccount(t.Context(), payer, func(*ledger.Account) error { return nil }, ledger.Audit{})
			return err
		},
		"Reserve": func() error { _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{}); return err },
		"Charge":  func() error { _, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil); return err },
		"Post": func() error {
			_, _, err := s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: payer, Amount: 1}, ledger.Audit{})
			return err
		},
		"Charges":       func() error { _, _, err := s.Charges(t.Context(), ledger.ChargeFilter{}); return err },
		"Journal":       func() error { _, _, err := s.Journal(t.Context(), ledger.Page{}); return err },
		"JournalLength": func() error { _, err := s.JournalLength(t.Context()); return err },
		"Bind":          func() error { return s.Bind(t.Context(), ledger.Binding{Until: clock.Now().Add(time.Hour)}) },
		"Bond":          func() error { _, err := s.Binding(t.Context(), "", ledger.HandleHash{}); return err },
		"Verify":        func() error { _, err := s.Verify(t.Context(), nil); return err },
		"AuditLog":      func() error { _, _, err := s.AuditLog(t.Context(), ledger.AuditFilter{}); return err },
		"Revocations":   func() error { _, _, err := s.Revocations(t.Context(), 0, 1); return err },
	}
	c.Kill(t)
	eventually(t, "the store is not healthy", func() bool { return errors.Is(s.Healthy(), ledger.ErrUnavailable) })
	for name, call := range calls {
		began := clock.Now()
		if err := call(); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s while the database is away: %v", name, err)
		}
		if took := clock.Since(began); took > 2*connectTime {
			t.Errorf("%s took %s to say that the database is away", name, took)
		}
	}
	c.Start(t)
	eventually(t, "the store is healthy", func() bool { return s.Healthy() == nil })
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the database came back: %v", name, err)
		}
	}
	clean(t, s)
}

// TestRestartIsNotNoticed checks that captures wait for a server that restarts, and
// then succeed.
func TestRestartIsNotNoticed(t *testing.T) {
	long(t)
	c := pgtest.New(t)
	s := opened(t, Options{DSN: c.Database(t, template)})
	o := order(account(t, s, "payer", 1<<30), account(t, s, "payee", 0), 1)
	var ids []string
	for range 8 {
		charge := newID("chg_")
		if _, err := s.Reserve(t.Context(), charge, o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, charge)
	}
	var failed atomic.Int64
	restarted := make(chan struct{})
	go func() { defer close(restarted); c.Restart(t) }()
	together(len(ids), func(i int) {
		if _, _, err := s.Capture(t.Context(), ids[i], nil); err != nil {
			failed.Add(1)
			t.Logf("a capture during the restart: %v", err)
		}
	})
	<-restarted
	if failed.Load() > 0 {
		t.Errorf("%d captures failed", failed.Load())
	}
	clean(t, s)
}

// TestHangingDatabase checks that a caller stops waiting at its own deadline if the
// server does not respond.
func TestHangingDatabase(t *testing.T) {
	s := fresh(t)
	payer := account(t, s, "payer", 100)
	defer held(t, s, payer)() // the batch waits for this lock
	for range 2 {             // the first charge is in the batch, and the second waits behind it
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := clock.Now()
		_, _, err := s.Charge(ctx, newID("chg_"), order(payer, payer, 1), ledger.Terms{}, nil)
		if !errors.Is(err, context.DeadlineExceeded) || clock.Since(began) > 5*time.Second {
			t.Errorf("%v after %s", err, clock.Since(began))
		}
		cancel()
	}
}

// TestErrorsKeepThePassword checks that no error about a DSN shows the password.
func TestErrorsKeepThePassword(t *testing.T) {
	const password = "s3cr3t-pass"
	for _, dsn := range []string{
		"postgres://user:" + password + "@127.0.0.1:1/db?connect_timeout=1",
		"postgres://user:" + password + "@[bad", "host=127.0.0.1 port=1 password=" + password + " user='x",
		"postgres://user:" + password + "@127.0.0.1:port/db", password,
		"host=127.0.0.1 port=1 user=x dbname=y password=" + password,
	} {
		s, err := Open(t.Context(), Options{DSN: dsn})
		if err == nil {
			t.Fatalf("opened a store at %s: %v", dsn, s.Close())
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
