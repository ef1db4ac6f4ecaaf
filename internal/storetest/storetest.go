// Package storetest is the test suite of all stores of keys and money. A store's own
// test calls Run with a function that opens the store. The suite compares the store
// with a model and lets callers race. It checks that no call is charged twice, that
// no balance is overdrawn, and that the books balance, even after crashes and
// restarts.
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/platform"
)

// Store combines the interfaces that a store's consumers define. The methods are
// documented there.
type Store interface {
	engine.Store
	admin.Store
	platform.Ledger
	platform.Store
	CountExpiring(ctx context.Context, until []time.Time) ([]int64, error)
}

// Harness is an open, empty store with controls for tests.
type Harness struct {
	Store Store
	// Now reads the store's clock, and Advance moves it. The store uses this clock
	// for expiry, days and months.
	Now     func() time.Time
	Advance func(time.Duration)
	// Backwards is true if Advance sets the clock back for a negative duration.
	Backwards bool
	// Near returns the warnings about caps so far.
	Near func() []ledger.Cap
	// Reports has the audit rows that the store reports.
	Reports *Reports
	// Crash simulates a crash of the store, and reopens it from the data that is left.
	Crash func() Store
	// BreakAudit makes writing audit rows fail until the returned function is called.
	BreakAudit func() (repair func())
	// Forgets is true if a crash releases all reservations.
	Forgets bool
	// Tombstones is true if the store remembers the release of an id even if the store
	// never had a reservation under the id, or has forgotten the reservation. After the
	// release, no charge under the id is possible.
	Tombstones bool
	// Derives is true if the store derives the paying and the earning account from the
	// key and the server, and ignores the accounts in an order. A charge conflicts with
	// an earlier charge under the same id if key, server, tool or amount differ.
	Derives bool
}

// sameCall reports whether a charge of o repeats the known order, so that it is not
// a conflict.
func (h *Harness) sameCall(o, known *ledger.Order) bool {
	if h.Derives {
		return o.Key == known.Key && o.Server == known.Server && o.Tool == known.Tool && o.Amount == known.Amount
	}
	return *o == *known
}

// TB is the common part of *testing.T and *rapid.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// Run runs the suite. It calls open(t) for each test. open must register the closing of
// its store with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Run("keys", func(t *testing.T) { runKeys(t, open) })
	t.Run("audit", func(t *testing.T) { runAudit(t, open) })
	t.Run("accounts", func(t *testing.T) { runAccounts(t, open) })
	t.Run("people", func(t *testing.T) { runPeople(t, open) })
	t.Run("oauth", func(t *testing.T) { runOAuth(t, open) })
	t.Run("alerts", func(t *testing.T) { runAlerts(t, open) })
	t.Run("money", func(t *testing.T) { runMoney(t, open) })
	t.Run("charges", func(t *testing.T) { runCharges(t, open) })
	t.Run("currency", func(t *testing.T) { runCurrency(t, open) })
	t.Run("bindings", func(t *testing.T) { runBindings(t, open) })
	t.Run("caps", func(t *testing.T) { runCaps(t, open) })
	t.Run("settlers", func(t *testing.T) { runSettlers(t, open) })
	t.Run("fees", func(t *testing.T) { runFees(t, open) })
	t.Run("retries", func(t *testing.T) { runRetries(t, open) })
	t.Run("races", func(t *testing.T) { runRaces(t, open) })
	t.Run("archive", func(t *testing.T) { runArchive(t, open) })
	t.Run("usage", func(t *testing.T) { runUsage(t, open) })
	t.Run("calls", func(t *testing.T) { runCalls(t, open) })
	t.Run("model", func(t *testing.T) { runModel(t, open) })
}

// test is a running test with its store.
type test struct {
	TB
	Harness
	ctx context.Context
}

// each runs the tests of a group in the given order. Each test has a new store.
func each(t *testing.T, open func(t *testing.T) Harness, tests ...named) {
	for _, n := range tests {
		t.Run(n.name, func(t *testing.T) {
			x := &test{TB: t, Harness: open(t), ctx: t.Context()}
			n.run(x)
			x.reported()
		})
	}
}

type named struct {
	name string
	run  func(*test)
}

func (t *test) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func (t *test) want(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func (t *test) refused(err error, what string) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s was accepted", what)
	}
}

func newID(prefix string) string { return ids.New(prefix) }

// audit returns an audit row with the action and the target.
func (t *test) audit(action, target string) ledger.Audit {
	return ledger.Audit{At: t.Now(), Actor: "suite", From: "127.0.0.1", Action: action, Target: target, Detail: `{"n":1}`}
}

// account creates an account with a live balance.
func (t *test) account(name string, balance, limit ledger.Amount) string {
	t.Helper()
	id := newID("acct_")
	t.ok(t.Store.CreateAccount(t.ctx, ledger.Account{ID: id, Name: name, CreatedAt: t.Now(), CreditLimit: limit}, t.audit("account.create", id)))
	if balance > 0 {
		t.credit(id, balance, false)
	}
	return id
}

func (t *test) credit(account string, amount ledger.Amount, test bool) {
	t.Helper()
	_, _, err := t.Store.PostTransaction(t.ctx, ledger.Transaction{
		ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: account, Amount: amount, Test: test, Reason: "top-up",
	}, t.audit("credit", account))
	t.ok(err)
}

// order returns an order for a call.
func order(payer, payee string, amount ledger.Amount) ledger.Order {
	return ledger.Order{
		Account: payer, Provider: payee, Key: "key_1", Lineage: "key_0", Server: "weather", Tool: "get_forecast", Amount: amount,
	}
}

// made checks that the capture that returned c also made the charge. It returns c
// without Made, as later reads return it.
func (t *test) made(c ledger.Charge) ledger.Charge {
	t.Helper()
	if !c.Made {
		t.Fatalf("%+v was made before, by what the store says", c)
	}
	c.Made = false
	return c
}

func (t *test) balance(account string) ledger.Balance {
	t.Helper()
	a, err := t.Store.Account(t.ctx, account)
	t.ok(err)
	return a.Live
}

// holds checks the live balance of an account, and the reserved part of it.
func (t *test) holds(account string, balance, reserved ledger.Amount) {
	t.Helper()
	if p := t.balance(account); p.Posted != balance || p.Reserved != reserved {
		t.Fatalf("balance holds %s with %s reserved, want %s and %s", p.Posted, p.Reserved, balance, reserved)
	}
}

// balanced checks that the books balance. It also checks that the journal has the given
// number of transactions, unless this number is negative.
func (t *test) balanced(transactions int64) {
	t.Helper()
	v, err := t.Store.Verify(t.ctx, nil)
	t.ok(err)
	for _, d := range v.Differences {
		t.Errorf("the books do not balance: %s", d)
	}
	if transactions >= 0 && v.Transactions != transactions {
		t.Fatalf("the journal has %d transactions, want %d", v.Transactions, transactions)
	}
	if len(v.Differences) > 0 {
		t.Fatalf("%d differences", len(v.Differences))
	}
}

// charges lists all charges that match the filter.
func (t *test) charges(f ledger.ChargeFilter) []ledger.Charge {
	t.Helper()
	all, _ := AllCharges(t.ctx, t, t.Store, f)
	return all
}

// AllCharges lists all charges that match the filter, and returns the number of parts.
func AllCharges(ctx context.Context, t TB, store interface {
	Charges(context.Context, ledger.ChargeFilter) ([]ledger.Charge, string, error)
}, f ledger.ChargeFilter) (all []ledger.Charge, parts int) {
	t.Helper()
	for {
		part, next, err := store.Charges(ctx, f)
		if err != nil {
			t.Fatalf("listing charges: %v", err)
		}
		all = append(all, part...)
		if parts++; next == "" {
			return all, parts
		}
		f.After = next
	}
}

// audits lists the whole audit log, newest first.
func (t *test) audits() []ledger.Audit {
	t.Helper()
	return t.audited(ledger.AuditFilter{})
}

// audited lists the records of the audit log that match the filter, newest first.
func (t *test) audited(f ledger.AuditFilter) []ledger.Audit {
	t.Helper()
	var all []ledger.Audit
	for {
		part, next, err := t.Store.AuditLog(t.ctx, f)
		t.ok(err)
		all = append(all, part...)
		if next == "" {
			return all
		}
		f.After = next
	}
}
