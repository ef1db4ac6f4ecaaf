//go:build unix

package sqlitestore

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	stormCallers = 64
	stormFunds   = 1_000_000
)

// told is the last result that the caller of a charge received.
type told int

const (
	toldNothing  told = iota // no result yet
	toldCaptured             // the charge was captured
	toldReleased             // the reservation was released
)

// storm runs callers that reserve and capture without pause, and records their
// results.
type storm struct {
	store *Store
	order ledger.Order
	halt  atomic.Bool
	acked atomic.Int64
	// outage is the number of times that an outage has begun or ended. While this
	// number is odd, no capture is possible.
	outage  atomic.Int64
	refused atomic.Int64
	doubted atomic.Int64 // the number of captures that have returned an error

	callers sync.WaitGroup
	mu      sync.Mutex
	charges map[string]told
	wrong   []error

	cuts []powerCut // used by the test's goroutine only
}

func startStorm(s *Store, o ledger.Order, seed uint64) *storm {
	m := &storm{store: s, order: o, charges: map[string]told{}}
	for i := range stormCallers {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		m.callers.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for !m.halt.Load() {
				if err := m.call(random, tick.C); err != nil {
					m.mu.Lock()
					m.wrong = append(m.wrong, err)
					m.mu.Unlock()
				}
			}
		})
	}
	return m
}

func (m *storm) say(id string, what told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.charges[id] = what
}

func (m *storm) snapshot() map[string]told {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.charges)
}

// call makes one charge. When the capture fails, the caller captures again,
// releases the reservation, or leaves it alone.
func (m *storm) call(random *rand.Rand, tick <-chan time.Time) error {
	ctx := context.Background()
	charge := newID("chg_")
	m.say(charge, toldNothing)
	if _, err := m.store.Reserve(ctx, charge, m.order, ledger.Terms{}); err != nil {
		m.mu.Lock()
		delete(m.charges, charge)
		m.mu.Unlock()
		return m.refusal(err, tick)
	}
	for {
		outage := m.outage.Load()
		_, _, err := m.store.Capture(ctx, charge, nil)
		if err == nil {
			m.say(charge, toldCaptured)
			m.acked.Add(1)
			if outage%2 == 1 && m.outage.Load() == outage {
				return errors.New("captured while the disk could not")
			}
			return nil
		}
		m.doubted.Add(1)
		if err := m.refusal(err, tick); err != nil {
			return err
		}
		switch random.IntN(3) {
		case 0:
			return nil
		case 1:
			err := m.store.Release(ctx, charge)
			if err == nil || errors.Is(err, ledger.ErrUnavailable) { // after ErrUnavailable, the store releases or refunds the charge as soon as it knows whether the capture succeeded
				m.say(charge, toldReleased)
				return nil
			}
			if !errors.Is(err, ledger.ErrSettled) { // after ErrSettled, the charge is captured, and the next capture returns it
				return err
			}
		}
		if m.halt.Load() {
			return nil
		}
	}
}

// refusal counts err and waits a moment if err reports an outage. It returns any other
// error.
func (m *storm) refusal(err error, tick <-chan time.Time) error {
	if !errors.Is(err, ledger.ErrUnavailable) {
		return err
	}
	m.refused.Add(1)
	<-tick
	return nil
}

// await waits until the given number of further captures is acknowledged.
func (m *storm) await(t *testing.T, more int64) {
	t.Helper()
	want := m.acked.Load() + more
	until(t, "captures are made", func() bool { return m.acked.Load() >= want })
}

func (m *storm) stop(t *testing.T) {
	t.Helper()
	m.halt.Store(true)
	m.callers.Wait()
	for i, err := range m.wrong {
		if i < 5 {
			t.Error(err)
		}
	}
}

// booked returns a map of all charges of the account in the store. The value is true
// for a charge without refunds, and false for a refunded charge. booked also checks
// that the books balance.
func booked(t *testing.T, s *Store, account string) map[string]bool {
	t.Helper()
	clean(t, s)
	list := map[string]bool{}
	taken := ledger.Amount(0)
	for f := (ledger.ChargeFilter{Account: account}); ; {
		part, next, err := s.Charges(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range part {
			if _, twice := list[c.ID]; twice {
				t.Errorf("%s is booked twice", c.ID)
			}
			list[c.ID] = c.Refunded == 0
			taken += c.Amount - c.Refunded
		}
		if f.After = next; next == "" {
			break
		}
	}
	if p := balanceOf(t, s, account); p.Posted != stormFunds-taken {
		t.Errorf("balance is %s with charges of %s", p.Posted, taken)
	}
	return list
}

// agrees checks that the books have every charge that was acknowledged before they were
// read, and no charge that no caller had asked for by then. The callers' results are
// passed twice: as they were just before the reading, and just after it.
func agrees(t *testing.T, books map[string]bool, before, after map[string]told) {
	t.Helper()
	lost := 0
	for id, what := range before {
		if what == toldCaptured && !books[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged captures are lost", lost)
	}
	for id := range books {
		if _, asked := after[id]; !asked {
			t.Errorf("%s was captured, but nobody asked for it", id)
		}
	}
}

// powerCut is a copy of the durable state at one moment, with the callers' results
// just before and just after that moment.
type powerCut struct {
	image         string
	before, after map[string]told
}

// cut records the state that a power cut would leave now.
func (m *storm) cut(t *testing.T, d *disk, survive float64) {
	t.Helper()
	before := m.snapshot()
	image := d.powerCut(t, m.store.path, survive)
	m.cuts = append(m.cuts, powerCut{image, before, m.snapshot()})
}

// survived opens the state after each power cut, and checks that its books agree with
// the callers' results.
func (m *storm) survived(t *testing.T) {
	t.Helper()
	for _, cut := range m.cuts {
		s := opened(t, Options{Path: cut.image})
		agrees(t, booked(t, s, m.order.Account), cut.before, cut.after)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBrokenDisk checks promises 1, 4, 5 and 8 of docs/promises.md on a disk with
// failing syncs and writes, while 64 callers reserve and capture. The only error that
// callers get is ledger.ErrUnavailable. The store recovers with the disk. After a power
// cut before, during or after the failure, every acknowledged charge is in the books
// once, and the books balance. Released calls cost nothing.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	const (
		fsync = sqlite3.SQLITE_IOERR_FSYNC
		full  = sqlite3.SQLITE_FULL
		write = sqlite3.SQLITE_IOERR_WRITE
	)
	for name, fault := range map[string]diskFault{
		"a sync of the log loses its writes":           {on: logFile, after: 3, times: 1, code: fsync},
		"a sync of the log loses what was visible":     {on: logFile, after: 3, times: 1, code: fsync, evict: true},
		"a sync of the log fails, its writes stay":     {on: logFile, after: 3, times: 1, code: fsync, survive: 1},
		"syncs of the log lose some writes":            {on: logFile, after: 1, times: 5, code: fsync, survive: 0.5},
		"no sync of the log works for a while":         {on: logFile, after: 2, code: fsync, survive: 0.5},
		"a sync of the database loses its writes":      {on: mainFile, times: 1, code: fsync},
		"a sync of the database loses what is visible": {on: mainFile, times: 1, code: fsync, evict: true},
		"no sync of the database works for a while":    {on: mainFile, code: fsync, survive: 0.5, evict: true},
		"no sync works for a while":                    {on: logFile | mainFile, after: 4, code: fsync, survive: 0.7, evict: true},
		"a write to the log fails":                     {on: logFile, write: true, after: 7, times: 1, code: write},
		"no write to the log works for a while":        {on: logFile, write: true, after: 7, code: write},
		"a write to the database fails":                {on: mainFile, write: true, times: 1, code: write},
		"no write to the database works for a while":   {on: mainFile, write: true, code: write},
		"the disk is full for one write to the log":    {on: logFile, write: true, after: 4, times: 1, code: full},
		"the disk is full":                             {on: logFile | mainFile, write: true, after: 5, code: full},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			breakDisk(t, fault, seed)
		})
	}
}

func breakDisk(t *testing.T, fault diskFault, seed uint64) {
	d := newDisk(t, seed)
	c := &fakeClock{}
	o := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), Now: c.now, connect: d.connect}
	s := opened(t, o)
	m := startStorm(s, pair(t, s, stormFunds), seed)
	m.await(t, 100)
	failed := 0
	for _, survive := range []float64{0, 0.5} {
		f := fault
		d.inject(&f)
		until(t, "the disk fails", func() bool { return d.failed() > 0 })
		if f.times == 0 {
			m.outlast(t, d, f.on&logFile != 0, survive)
		}
		m.cut(t, d, survive)
		failed += d.inject(nil)
		until(t, "the store can write", healthy(s))
		m.await(t, 100)
	}
	m.cut(t, d, 0)
	m.stop(t)
	m.survived(t)
	m.settled(t, c)
	t.Logf("%d syncs or writes failed; %d calls, %d captured, %d captures failed, %d refusals",
		failed, len(m.charges), m.acked.Load(), m.doubted.Load(), m.refused.Load())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	m.store = opened(t, o)
	m.settled(t, c)
	if err := m.store.Close(); err != nil {
		t.Error(err)
	}
}

// outlast checks the store during a lasting outage. If log is true, writes to the
// write-ahead log fail, and the store can make no captures. Otherwise only writes to
// the database file fail, and the store can still make captures.
func (m *storm) outlast(t *testing.T, d *disk, log bool, survive float64) {
	t.Helper()
	if !log {
		m.await(t, 100)
		return
	}
	until(t, "the store is down", func() bool { return m.store.Healthy() != nil })
	m.outage.Add(1)
	refused, failed := m.refused.Load(), d.failed()
	until(t, "calls are refused", func() bool { return m.refused.Load() > refused+2*stormCallers && d.failed() > failed+3 })
	wantDown(t, m.store, m.order)
	m.outage.Add(1)
}

// settled waits until all reservations have ended and all owed refunds are made. Then
// it checks that the books agree with the callers' results, and that no released call
// is charged.
func (m *storm) settled(t *testing.T, c *fakeClock) {
	t.Helper()
	c.advance(2 * ledger.ReservationLife)
	until(t, "nothing is reserved", func() bool { return m.store.OpenReservations() == 0 })
	until(t, "what is owed is refunded", func() bool {
		pendingRefunds := 0
		if err := m.store.inspect(context.Background(), func(x *tx) error { pendingRefunds = len(x.w.pendingRefunds); return nil }); err != nil {
			t.Fatal(err)
		}
		return pendingRefunds == 0
	})
	books := booked(t, m.store, m.order.Account)
	agrees(t, books, m.charges, m.charges)
	for id, what := range m.charges {
		if what == toldReleased && books[id] {
			t.Errorf("%s was given back and is charged", id)
		}
	}
	if p := balanceOf(t, m.store, m.order.Account); p.Reserved != 0 {
		t.Errorf("%s are reserved", p.Reserved)
	}
}

// TestRefusalsOutlivePowerCuts checks promise 2 of docs/promises.md for captures with a
// failed sync. The rows of the failed transaction may be on the disk all the same. The
// test checks that the callers get their errors only when these rows can never
// reappear, not even if the power fails at the very next sync.
func TestRefusalsOutlivePowerCuts(t *testing.T) {
	t.Parallel()
	const fsync = sqlite3.SQLITE_IOERR_FSYNC
	d := newDisk(t, 1)
	s := opened(t, Options{Path: filepath.Join(memoryDir(t), "farebox.db"), connect: d.connect})
	o := pair(t, s, stormFunds)
	ids := reserveAll(t, s, o, 8)
	type cut struct {
		main, log []byte
		answered  bool
	}
	var cuts []cut
	look := func() {
		s.books.mu.Lock()
		u, err := parseID(chargePrefix, ids[0])
		answered := err == nil && s.books.holds[u].state == holdOpen
		s.books.mu.Unlock()
		cuts = append(cuts, cut{d.afterCut(s.path, 0), d.afterCut(s.path+"-wal", 0), answered})
	}
	results := captureAll(t, s, ids, func() {
		d.inject(&diskFault{on: logFile, times: 1, code: fsync, survive: 1})
		d.mu.Lock()
		defer d.mu.Unlock()
		d.onSync = func(fileKind) {
			if d.fault.failed > 0 {
				look()
			}
		}
	})
	for _, r := range results {
		if !errors.Is(r.err, ledger.ErrUnavailable) {
			t.Fatalf("error is %v, want %v", r.err, ledger.ErrUnavailable)
		}
	}
	until(t, "the store can write", healthy(s))
	d.mu.Lock()
	d.onSync = nil
	look()
	d.mu.Unlock()
	if last := cuts[len(cuts)-1]; !last.answered || len(cuts) < 2 {
		t.Fatalf("%d cuts, the last one after the answers: %v", len(cuts), last.answered)
	}
	for i, c := range cuts {
		image := opened(t, Options{Path: d.image(t, c.main, c.log)})
		if n := len(booked(t, image, o.Account)); n > 0 && c.answered {
			t.Errorf("cut %d of %d: %d charges whose callers were told that nothing was taken", i+1, len(cuts), n)
		}
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReappearingRowsAreMadeDurable checks promise 1 of docs/promises.md across a
// restart after a failed sync. After the restart, the rows of the failed transaction
// are visible, but not durable. The test checks that the store makes these rows durable
// before it acknowledges them or adds other rows.
func TestReappearingRowsAreMadeDurable(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 1)
	options := Options{Path: filepath.Join(memoryDir(t), "farebox.db"), connect: d.connect}
	s := opened(t, options)
	o := pair(t, s, stormFunds)
	ids := reserveAll(t, s, o, 8)
	results := captureAll(t, s, ids, func() { d.inject(&diskFault{on: logFile, code: sqlite3.SQLITE_IOERR_FSYNC}) })
	for _, r := range results {
		if !errors.Is(r.err, ledger.ErrUnavailable) {
			t.Fatalf("error is %v, want %v", r.err, ledger.ErrUnavailable)
		}
	}
	if err := s.Close(); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("closing a store that is down: %v", err)
	}
	d.inject(nil)

	s = opened(t, options)
	for _, id := range ids {
		if _, err := s.ChargeByID(t.Context(), id); err != nil {
			t.Fatalf("%s did not come back: %v", id, err)
		}
	}
	more, _, err := s.Charge(t.Context(), newID("chg_"), o, ledger.Terms{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	image := opened(t, Options{Path: d.powerCut(t, s.path, 0)})
	books := booked(t, image, o.Account)
	for _, id := range append(ids, more.ID) {
		if !books[id] {
			t.Errorf("%s was shown, and is lost", id)
		}
	}
}
