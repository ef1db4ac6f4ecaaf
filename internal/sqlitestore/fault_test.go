package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

var errDisk = errors.New("disk I/O error")

// faults injects failures between database/sql and the driver.
type faults struct {
	open   atomic.Bool  // true if opening a connection fails
	commit atomic.Int32 // how the next COMMIT fails
	pass   atomic.Int32 // the number of COMMITs that succeed before the next one fails
}

// The values of faults.commit: how the next COMMIT fails.
const (
	commitWorks    int32 = iota
	commitLost           // the transaction is rolled back
	commitBack           // the transaction is committed, but COMMIT returns an error
	commitOnceLost       // like commitLost, but only for one COMMIT
	commitOnceBack       // like commitBack, but only for one COMMIT
)

func (f *faults) connect(dsn string) (driver.Connector, error) {
	c, err := sqlite.NewConnector(dsn)
	return faultyConnector{c, f}, err
}

type faultyConnector struct {
	driver.Connector
	f *faults
}

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if c.f.open.Load() {
		return nil, errDisk
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return faultyConn{conn, c.f}, nil
}

type faultyConn struct {
	driver.Conn
	f *faults
}

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	exec := c.Conn.(driver.ExecerContext).ExecContext
	if query != "COMMIT" {
		return exec(ctx, query, args)
	}
	return c.commit(ctx, func() (driver.Result, error) { return exec(ctx, query, args) })
}

// commit calls do(), which executes the statement COMMIT. If c.f.commit asks for a
// failure, commit returns an error. c.f.commit then also decides whether the
// transaction is rolled back, or takes effect in spite of the error.
func (c faultyConn) commit(ctx context.Context, do func() (driver.Result, error)) (driver.Result, error) {
	mode := c.f.commit.Load()
	if mode != commitWorks && c.f.pass.Add(-1) >= 0 {
		mode = commitWorks
	}
	if mode >= commitOnceLost {
		c.f.commit.Store(commitWorks)
		mode -= commitOnceLost - commitLost
	}
	switch mode {
	case commitLost:
		_, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, "ROLLBACK", nil)
		return nil, errors.Join(errDisk, err)
	case commitBack:
		_, err := do()
		return nil, errors.Join(errDisk, err)
	}
	return do()
}

func (c faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err == nil && query == "COMMIT" {
		return faultyCommit{stmt, c}, nil
	}
	return stmt, err
}

// faultyCommit is a prepared COMMIT.
type faultyCommit struct {
	driver.Stmt
	c faultyConn
}

func (s faultyCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.commit(ctx, func() (driver.Result, error) { return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args) })
}

func (c faultyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func faulty(t *testing.T) (*Store, *faults) {
	t.Helper()
	f := &faults{}
	return opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), connect: f.connect}), f
}

// until polls, for a bounded time, a condition that another goroutine makes true.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := clock.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		if clock.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

func healthy(s *Store) func() bool { return func() bool { return s.Healthy() == nil } }

// paused blocks the writer until the returned function is called. Captures queued
// meanwhile form one batch.
func paused(t *testing.T, s *Store) (resume func()) {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.inspect(context.Background(), func(*tx) error { close(in); <-out; return nil })
	}()
	<-in
	return func() {
		close(out)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

type captureResult struct {
	id     string
	charge ledger.Charge
	err    error
}

// captureAll captures the reservations in one batch. After the captures are queued and
// before the writer takes them, it calls do(), which breaks something.
func captureAll(t *testing.T, s *Store, ids []string, do func()) []captureResult {
	t.Helper()
	resume := paused(t, s)
	results := make(chan captureResult, len(ids))
	for _, id := range ids {
		go func() {
			c, _, err := s.Capture(context.Background(), id, nil)
			results <- captureResult{id, c, err}
		}()
	}
	until(t, "all captures are queued", func() bool { return len(s.writer.queue) == len(ids) })
	do()
	resume()
	var all []captureResult
	for range ids {
		all = append(all, <-results)
	}
	return all
}

func reserveAll(t *testing.T, s *Store, o ledger.Order, n int) []string {
	t.Helper()
	var ids []string
	for range n {
		ids = append(ids, newID("chg_"))
		if _, err := s.Reserve(t.Context(), ids[len(ids)-1], o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// TestFailedCommitIsAnsweredFromTheFile checks that the file decides about captures
// after a failed COMMIT. A capture with a row in the file succeeds. For any other
// capture, the credits stay reserved and can be captured later.
func TestFailedCommitIsAnsweredFromTheFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode int32
		want error
	}{
		"came back": {commitOnceBack, nil},
		"lost":      {commitOnceLost, ledger.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := faulty(t)
			o := pair(t, s, 100)
			ids := reserveAll(t, s, o, 8)
			for _, r := range captureAll(t, s, ids, func() { f.commit.Store(c.mode) }) {
				if !errors.Is(r.err, c.want) {
					t.Fatalf("error is %v, want %v", r.err, c.want)
				}
			}
			until(t, "the store can write", healthy(s))
			wantBalance := ledger.Balance{Posted: 92}
			if c.want != nil {
				wantBalance = ledger.Balance{Posted: 100, Reserved: 8}
			}
			if p := balanceOf(t, s, o.Account); p != wantBalance {
				t.Errorf("balance is %+v, want %+v", p, wantBalance)
			}
			clean(t, s)
			for _, id := range ids {
				if _, _, err := s.Capture(t.Context(), id, nil); err != nil {
					t.Fatal(err)
				}
			}
			if v := clean(t, s); v.Transactions != 9 {
				t.Errorf("the journal has %d transactions, want 9", v.Transactions)
			}
			if p := balanceOf(t, s, o.Account); p != (ledger.Balance{Posted: 92}) {
				t.Errorf("balance is %+v after all were captured once", p)
			}
		})
	}
}

// TestOutage checks that the store refuses everything while the file cannot be
// reopened, and that no call waits forever. When the disk is back, captures in
// doubt are resolved. Calls that were released cost nothing, even if the rows of
// their captures reappeared.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode     int32
		captured bool
	}{
		"rows come back": {commitOnceBack, true},
		"rows are lost":  {commitOnceLost, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := faulty(t)
			o := pair(t, s, 100)
			ids := reserveAll(t, s, o, 4)
			kept, released := ids[:2], ids[2:]
			results := captureAll(t, s, ids, func() { f.open.Store(true); f.commit.Store(c.mode) })
			for _, r := range results {
				if !errors.Is(r.err, ledger.ErrUnavailable) || !strings.Contains(r.err.Error(), errDisk.Error()) {
					t.Fatalf("error is %v, want one that says why the store is down", r.err)
				}
			}
			wantDown(t, s, o)
			for _, id := range released {
				if err := s.Release(t.Context(), id); !errors.Is(err, ledger.ErrUnavailable) {
					t.Fatalf("release in doubt: %v, which would be taken for certain", err)
				}
			}
			for _, id := range ids {
				if _, _, err := s.Capture(t.Context(), id, nil); !errors.Is(err, ledger.ErrUnavailable) {
					t.Fatalf("capture in doubt: %v", err)
				}
			}
			f.open.Store(false)
			until(t, "the store can write", healthy(s))
			until(t, "what was released is given back", func() bool {
				p := balanceOf(t, s, o.Account)
				return p.Posted-p.Reserved == 98
			})
			charged := 0
			for _, id := range kept {
				if _, _, err := s.Capture(t.Context(), id, nil); err != nil {
					t.Fatal(err)
				}
				charged++
			}
			for _, id := range released {
				_, _, err := s.Capture(t.Context(), id, nil)
				if !c.captured && !errors.Is(err, ledger.ErrSettled) {
					t.Errorf("capture of what was released: %v", err)
				}
			}
			want := ledger.Balance{Posted: ledger.Amount(100 - charged)}
			if p := balanceOf(t, s, o.Account); p != want {
				t.Errorf("balance is %+v, want %+v", p, want)
			}
			if n := s.OpenReservations(); n != 0 {
				t.Errorf("%d reservations are open, want none", n)
			}
			clean(t, s)
		})
	}
}

// TestOwedRefundIsMadeOnce checks that a charge captured in doubt and then released is
// refunded once, even if the COMMIT of the refund fails and the refund still becomes
// durable.
func TestOwedRefundIsMadeOnce(t *testing.T) {
	t.Parallel()
	s, f := faulty(t)
	o := pair(t, s, 100)
	ids := reserveAll(t, s, o, 1)
	captureAll(t, s, ids, func() { f.open.Store(true); f.commit.Store(commitOnceBack) })
	if err := s.Release(t.Context(), ids[0]); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatal(err)
	}
	f.pass.Store(1) // the COMMIT of the writer's probe succeeds, and the next COMMIT, which is that of the refund, fails
	f.commit.Store(commitOnceBack)
	f.open.Store(false)
	until(t, "the refund's COMMIT has failed", func() bool { return f.commit.Load() == commitWorks })
	until(t, "what was released is given back", func() bool { return balanceOf(t, s, o.Account) == ledger.Balance{Posted: 100} })
	until(t, "the store can write", healthy(s))                                         // the row of the refund may be visible before the store can write again
	if _, err := s.Reserve(t.Context(), newID("chg_"), o, ledger.Terms{}); err != nil { // a refund that is still owed would be made before this reservation
		t.Error(err)
	}
	if err := s.CreateAccount(t.Context(), ledger.Account{ID: newID("acct_"), Name: "later"}, ledger.Audit{}); err != nil {
		t.Error(err)
	}
	if p := balanceOf(t, s, o.Account); p.Posted != 100 {
		t.Errorf("balance is %s, want 0.0001", p.Posted)
	}
	clean(t, s)
}

// TestVerifyInParallel checks that verifications started at the same time all end,
// although each must wait for the previous verification. The books have refunds,
// because the check of a refund needs a second connection to the file.
func TestVerifyInParallel(t *testing.T) {
	t.Parallel()
	s, _ := faulty(t)
	o := pair(t, s, 1000)
	for range 50 {
		c := newID("chg_")
		if _, _, err := s.Charge(t.Context(), c, o, ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.PostTransaction(t.Context(), ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c, Reason: "x"}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 16)
	for range cap(ended) {
		go func() {
			v, err := s.Verify(context.Background(), nil)
			if err == nil && len(v.Differences) > 0 {
				err = errors.New(v.Differences[0])
			}
			ended <- err
		}()
	}
	late := time.After(2 * time.Minute) // for a machine that is busy; it takes a second
	for range cap(ended) {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-late:
			t.Fatal("they wait for one another")
		}
	}
}

// wantDown checks that the store refuses everything that needs the disk.
func wantDown(t *testing.T, s *Store, o ledger.Order) {
	t.Helper()
	ctx := t.Context()
	_, reserve := s.Reserve(ctx, newID("chg_"), o, ledger.Terms{})
	_, _, charge := s.Charge(ctx, newID("chg_"), o, ledger.Terms{}, nil)
	_, _, post := s.PostTransaction(ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: o.Account, Amount: 1}, ledger.Audit{})
	_, byDigest := s.KeyByDigest(ctx, [32]byte{})
	account := s.CreateAccount(ctx, ledger.Account{ID: newID("acct_"), Name: "new"}, ledger.Audit{})
	for what, err := range map[string]error{
		"reserve": reserve, "charge": charge, "post": post, "key": byDigest, "account": account, "health": s.Healthy(),
	} {
		if !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s while the store is down: error is %v, want %v", what, err, ledger.ErrUnavailable)
		}
	}
}

// TestFailedChange checks that an operator's change with a failed COMMIT returns an
// error. Afterwards memory agrees with the file, whether the change happened or
// not.
func TestFailedChange(t *testing.T) {
	for name, mode := range map[string]int32{"came back": commitOnceBack, "lost": commitOnceLost} {
		t.Run(name, func(t *testing.T) {
			s, f := faulty(t)
			o := pair(t, s, 100)
			top := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: o.Account, Amount: 50, Reason: "r"}
			f.commit.Store(mode)
			if _, _, err := s.PostTransaction(t.Context(), top, ledger.Audit{}); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatalf("error is %v, want %v", err, ledger.ErrUnavailable)
			}
			f.commit.Store(mode)
			late := ledger.Account{ID: newID("acct_"), Name: "late"}
			if err := s.CreateAccount(t.Context(), late, ledger.Audit{}); !errors.Is(err, ledger.ErrUnavailable) {
				t.Fatalf("error is %v, want %v", err, ledger.ErrUnavailable)
			}
			until(t, "the store can write", healthy(s))
			_, found := s.Account(t.Context(), "late")
			if back := mode == commitOnceBack; back != (found == nil) {
				t.Errorf("the account is there: %v, want %v", found == nil, back)
			}
			if err := s.CreateAccount(t.Context(), late, ledger.Audit{}); err != nil && !errors.Is(err, ledger.ErrExists) {
				t.Error(err)
			}
			if _, balance, err := s.PostTransaction(t.Context(), top, ledger.Audit{}); err != nil || balance.Posted != 150 {
				t.Errorf("the retry gives %+v and %v, want one top-up", balance, err)
			}
			clean(t, s)
		})
	}
}

// TestFullDisk checks that the store charges nothing and returns an error while the
// disk is full. As soon as there is space, the same connection works again.
func TestFullDisk(t *testing.T) {
	s := fresh(t)
	o := pair(t, s, 1_000_000)
	o.Tool = strings.Repeat("x", 3000) // a long name fills the pages quickly
	connection := s.writer.conn
	write(t, s, "PRAGMA max_page_count = 1") // SQLite raises this limit to the present size of the file
	failed := ""
	charged := 0
	for failed == "" {
		charge := newID("chg_")
		if _, err := s.Reserve(t.Context(), charge, o, ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
		switch _, _, err := s.Capture(t.Context(), charge, nil); {
		case err == nil:
			charged++
		case errors.Is(err, ledger.ErrUnavailable) && strings.Contains(err.Error(), "full"):
			failed = charge
		default:
			t.Fatal(err)
		}
	}
	if p := balanceOf(t, s, o.Account); p != (ledger.Balance{Posted: 1_000_000 - ledger.Amount(charged), Reserved: 1}) {
		t.Errorf("balance is %+v after %d charges", p, charged)
	}
	until(t, "the store can write", healthy(s)) // the store can write although the file cannot grow, because the writer's probe needs no new page
	write(t, s, "PRAGMA max_page_count = 100000")
	if _, _, err := s.Capture(t.Context(), failed, nil); err != nil {
		t.Fatal(err)
	}
	if v := clean(t, s); v.Transactions != int64(charged)+2 {
		t.Errorf("the journal has %d transactions, want %d", v.Transactions, charged+2)
	}
	if s.writer.conn != connection {
		t.Error("a full disk cost the connection")
	}
}
