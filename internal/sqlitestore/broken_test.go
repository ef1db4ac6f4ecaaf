//go:build !race

// The race detector would make the tests of this file take minutes, and these tests
// have no concurrency for it to check.

package sqlitestore

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/storetest"

	"github.com/fareboxhq/farebox/internal/clock"
)

// breakage describes a faulty store. Each function that is set replaces a method of
// the store.
type breakage struct {
	before  func(s *Store) // called before each call of the store
	reserve func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error)
	capture func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error)
	charge  func(s *Store, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error)
	release func(s *Store, id string) error
	renew   func(s *Store, id string) error
	post    func(s *Store, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error)
	update  func(s *Store, id string, change func(*ledger.Account) error, a ledger.Audit) (ledger.Account, error)
	crash   string // SQL that alters the file after a crash
}

func (b breakage) wrap(s *Store) storetest.Store { return &brokenStore{Store: s, b: b} }

// brokenStore is a store with one fault.
type brokenStore struct {
	*Store
	b breakage
}

func (s *brokenStore) first() {
	if s.b.before != nil {
		s.b.before(s.Store)
	}
}

func (s *brokenStore) OpenReservations() int {
	s.first()
	return s.Store.OpenReservations()
}

func (s *brokenStore) Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
	s.first()
	if s.b.reserve != nil {
		return s.b.reserve(s.Store, id, o, terms)
	}
	return s.Store.Reserve(ctx, id, o, terms)
}

func (s *brokenStore) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	s.first()
	if s.b.capture != nil {
		return s.b.capture(s.Store, id, answer)
	}
	return s.Store.Capture(ctx, id, answer)
}

func (s *brokenStore) Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	s.first()
	if s.b.charge != nil {
		return s.b.charge(s.Store, id, o, terms, answer)
	}
	return s.Store.Charge(ctx, id, o, terms, answer)
}

func (s *brokenStore) Release(ctx context.Context, id string) error {
	s.first()
	if s.b.release != nil {
		return s.b.release(s.Store, id)
	}
	return s.Store.Release(ctx, id)
}

func (s *brokenStore) Renew(ctx context.Context, id string) error {
	if s.b.renew != nil {
		return s.b.renew(s.Store, id)
	}
	return s.Store.Renew(ctx, id)
}

func (s *brokenStore) PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	if s.b.post != nil {
		return s.b.post(s.Store, t, a)
	}
	return s.Store.PostTransaction(ctx, t, a)
}

func (s *brokenStore) UpdateAccount(ctx context.Context, id string, change func(*ledger.Account) error, a ledger.Audit) (ledger.Account, error) {
	if s.b.update != nil {
		return s.b.update(s.Store, id, change, a)
	}
	return s.Store.UpdateAccount(ctx, id, change, a)
}

// recorder is the testing.TB of one run of storetest.Model. It only records the
// messages and whether the test failed.
type recorder struct {
	name   string
	mu     sync.Mutex
	failed bool
	said   []string
}

func (r *recorder) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

func (r *recorder) Helper()                      {}
func (r *recorder) Name() string                 { return r.name }
func (r *recorder) Log(args ...any)              { r.say(fmt.Sprint(args...)) }
func (r *recorder) Logf(f string, args ...any)   { r.say(fmt.Sprintf(f, args...)) }
func (r *recorder) Error(args ...any)            { r.say(fmt.Sprint(args...)); r.Fail() }
func (r *recorder) Errorf(f string, args ...any) { r.say(fmt.Sprintf(f, args...)); r.Fail() }
func (r *recorder) Fatal(args ...any)            { r.say(fmt.Sprint(args...)); r.FailNow() }
func (r *recorder) Fatalf(f string, args ...any) { r.say(fmt.Sprintf(f, args...)); r.FailNow() }
func (r *recorder) Skip(args ...any)             { r.Fatal(args...) } // the model must not skip anything
func (r *recorder) Skipf(f string, args ...any)  { r.Fatalf(f, args...) }
func (r *recorder) SkipNow()                     { r.FailNow() }
func (r *recorder) FailNow()                     { r.Fail(); runtime.Goexit() }
func (r *recorder) Fail()                        { r.mu.Lock(); defer r.mu.Unlock(); r.failed = true }
func (r *recorder) Failed() bool                 { r.mu.Lock(); defer r.mu.Unlock(); return r.failed }

// verdict returns the message of the failure in one line.
func (r *recorder) verdict() string {
	for _, text := range r.said {
		_, after, found := strings.Cut(text, "[rapid] ")
		if found && (strings.HasPrefix(after, "failed") || strings.HasPrefix(after, "panic") || strings.HasPrefix(after, "flaky")) {
			line, _, _ := strings.Cut(after, "\n")
			return line
		}
	}
	return strings.Join(r.said, "; ")
}

// modelRun runs storetest.Model, the model-based test of the suite, on stores with the
// given fault.
func modelRun(t *testing.T, template, name string, broken func() breakage) *recorder {
	r := &recorder{name: name}
	done := make(chan struct{})
	go func() {
		defer close(done)
		storetest.Model(r, func() storetest.Harness {
			b := broken()
			return harness(t, template, b.wrap, b.crash)
		})
	}()
	<-done
	return r
}

// setFlags sets flags of the test binary until the end of the test.
func setFlags(t *testing.T, values map[string]string) {
	t.Helper()
	for name, value := range values {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set(name, before); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSuiteFindsBrokenStores checks the suite itself: its model must fail for each
// faulty store, and must pass for the same store without a fault.
func TestSuiteFindsBrokenStores(t *testing.T) {
	if testing.Short() {
		t.Skip("the model takes all its steps to find them")
	}
	setFlags(t, map[string]string{
		"rapid.checks": "200", "rapid.seed": "7", "rapid.steps": "40", "rapid.shrinktime": "0s", "rapid.nofailfile": "true",
	})
	template := templateStore(t)
	t.Run("modes", func(t *testing.T) {
		for name, broken := range breakages() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				start := clock.Now()
				r := modelRun(t, template, name, broken)
				if !r.failed {
					t.Errorf("the suite takes it for sound")
				}
				if v := r.verdict(); !strings.HasPrefix(v, "failed") {
					t.Errorf("the suite fell over: %s", v)
				} else {
					t.Logf("after %v: %s", clock.Since(start).Round(time.Millisecond), v)
				}
			})
		}
	})
	setFlags(t, map[string]string{"rapid.checks": "5"})
	if r := modelRun(t, template, "unbroken", func() breakage { return breakage{} }); r.failed {
		t.Errorf("the suite fails for a store that is not broken: %s", r.verdict())
	}
}

// lifted calls lift(a) to change the limits of the account a, then calls do(), and then
// restores the limits.
func lifted(s *Store, account string, lift func(*account), do func()) {
	s.books.mu.Lock()
	a := s.books.byID[account]
	limit, caps := a.creditLimit, a.caps
	lift(a)
	s.books.mu.Unlock()
	do()
	s.books.mu.Lock()
	a.creditLimit, a.caps = limit, caps
	s.books.mu.Unlock()
}

// posted runs a change in a transaction of its own, and panics if the change fails.
func posted(s *Store, change func(x *tx) error) {
	if err := s.do(context.Background(), change); err != nil {
		panic(err)
	}
}

// onOrders returns a store that changes the order and the terms of every reservation
// and charge. The results of the store show the original order.
func onOrders(change func(*ledger.Order, *ledger.Terms)) breakage {
	asked := map[string][]ledger.Order{}
	restore := func(c ledger.Charge, p ledger.Balance, err error) (ledger.Charge, ledger.Balance, error) {
		for _, o := range asked[c.ID] {
			changed := o
			if change(&changed, new(ledger.Terms)); changed == c.Order {
				c.Order = o
				break
			}
		}
		return c, p, err
	}
	return breakage{
		reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
			asked[id] = append(asked[id], o)
			change(&o, &terms)
			return s.Reserve(context.Background(), id, o, terms)
		},
		capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
			return restore(s.Capture(context.Background(), id, answer))
		},
		charge: func(s *Store, id string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
			asked[id] = append(asked[id], o)
			change(&o, &terms)
			return restore(s.Charge(context.Background(), id, o, terms, answer))
		},
	}
}

// afterRefund returns a store that calls the given function after each refund. The last
// argument of that function is true if the charge is now refunded in whole.
func afterRefund(do func(s *Store, c ledger.Charge, refund ledger.Transaction, rest bool)) breakage {
	return breakage{post: func(s *Store, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
		before, _ := s.ChargeByID(context.Background(), t.Charge)
		got, p, err := s.PostTransaction(context.Background(), t, a)
		if c, charged := s.ChargeByID(context.Background(), t.Charge); err == nil && charged == nil && c.Refunded > before.Refunded {
			do(s, before, got, c.Refunded == c.Amount)
		}
		return got, p, err
	}}
}
