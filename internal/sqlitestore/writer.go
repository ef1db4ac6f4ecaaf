package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of the writer.
const (
	maxQueue   = 4096 // the maximum number of queued jobs; further callers wait for room
	maxBatch   = 1024 // the maximum number of captures that share a commit
	flushEvery = time.Second
)

// job is a request to the writer: capture a hold, or run a change.
type job struct {
	hold   *hold
	change *changeJob
}

// changeJob is a change to run in its own transaction.
type changeJob struct {
	do   func(*tx) error
	bare bool // whether do() runs without a transaction; do() must then only read, and the writer writes nothing meanwhile
	done chan error
}

// writer owns the connection that writes, and the state that only its goroutine
// may touch.
type writer struct {
	path    string
	connect connect
	now     func() time.Time
	log     *slog.Logger
	books   *books

	queue  chan job
	gate   sync.RWMutex // read-locked to send to queue, locked to close it
	closed bool         // whether close was called; guarded by gate
	ending chan struct{}
	ended  chan struct{}
	err    error // the result of the last flush; readable as soon as ended is closed

	nearCap          func(ledger.Cap)
	report           func(rows int, took time.Duration, err error) // Options.Committed
	maxResponseBytes int64

	down     atomic.Pointer[downError]
	archived atomic.Pointer[archived] // never nil after the store is open
	commits  atomic.Int64
	opened   time.Time
	begun    atomic.Int64 // when the current work began, in nanoseconds after w.opened; 0 without work

	// Only the writer's goroutine uses the fields below.
	db             *sql.DB
	conn           *sql.Conn
	stmts          statements
	committed      int64        // the last transaction that is durable and in memory
	next           int64        // the number of the next transaction
	touched        []*account   // accounts that the open transaction changes
	dirty          []snapshot   // stale snapshots, the stalest first
	near           []ledger.Cap // caps to report to nearCap after the commit
	responseBytes  int64        // size of the stored responses
	evictedTo      int64        // all responses up to this transaction are evicted
	settlers       settlers     // the settlers that have a number in the table settler
	batch          []*hold
	rows           []row
	outcomes       []outcome
	stale          bool            // whether memory must be reconciled with the file, which was reopened
	inDoubt        []*hold         // captures with an unknown outcome
	pendingRefunds []pendingRefund // refunds of captures that turned out to be durable after the hold was released
	attempts       int             // attempts to repair the store since it went down
	file           fs.FileInfo     // the state of the store's file when the file was opened; nil if that is unknown
	retry          *time.Timer
}

// statements are the prepared statements of the writer's connection.
type statements struct {
	begin, commit, insert, byID, snapshot, spend, response, meta, void *sql.Stmt
}

func (s *statements) close() {
	for _, stmt := range []*sql.Stmt{s.begin, s.commit, s.insert, s.byID, s.snapshot, s.spend, s.response, s.meta, s.void} {
		if stmt != nil {
			_ = stmt.Close()
		}
	}
}

// downError is the reason why the store cannot write now.
type downError struct{ cause error }

func (e *downError) Error() string   { return "ledger unavailable: " + e.cause.Error() }
func (e *downError) Unwrap() []error { return []error{ledger.ErrUnavailable, e.cause} }

var (
	errClosed    = &downError{cause: errors.New("the store is closed")}
	errNotQueued = errors.New("the capture was not queued")
)

// submit queues a job. If it returns an error, the job was not queued.
func (w *writer) submit(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.gate.RLock()
	defer w.gate.RUnlock()
	if w.closed {
		return errClosed
	}
	select {
	case w.queue <- j:
		return nil
	default:
	}
	select {
	case w.queue <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ending:
		return errClosed
	}
}

// close finishes the queued jobs and stops the goroutine.
func (w *writer) close() {
	close(w.ending) // callers that wait for room in the queue give up
	w.gate.Lock()
	w.closed = true
	close(w.queue)
	w.gate.Unlock()
	<-w.ended
}

// run is the writer's goroutine.
func (w *writer) run() {
	defer close(w.ended)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	w.retry = time.NewTimer(time.Hour)
	w.retry.Stop()
	for {
		w.begun.Store(0)
		select {
		case j, open := <-w.queue:
			w.starts()
			if !open {
				w.finish()
				return
			}
			w.serve(j)
		case <-tick.C:
			w.starts()
			w.idle()
		case <-w.retry.C:
			w.starts()
			if w.down.Load() != nil {
				w.repair()
			}
		}
	}
}

// serve runs the job. If the job is a capture, serve also runs the captures that are
// queued behind it, and the first change after them.
func (w *writer) serve(j job) {
	if j.change != nil {
		w.change(j.change)
		return
	}
	// Callers woken by the last commit are about to queue their next job. Letting
	// them run first doubles the size of the batches.
	runtime.Gosched()
	w.batch = append(w.batch[:0], j.hold)
	var behind *changeJob
drain:
	for len(w.batch) < maxBatch && behind == nil {
		select {
		case j, open := <-w.queue:
			if !open {
				break drain // run will notice, too, that the queue is closed, and will stop
			}
			if j.change != nil {
				behind = j.change
				break
			}
			w.batch = append(w.batch, j.hold)
		default:
			break drain
		}
	}
	w.capture()
	if behind != nil {
		w.change(behind)
	}
}

// idle expires reservations, writes snapshots, posts pending refunds and deletes
// expired rows. The writer calls it when it is not busy.
func (w *writer) idle() {
	w.books.mu.Lock()
	w.books.expire(w.now())
	w.books.mu.Unlock()
	if w.down.Load() != nil {
		return
	}
	if err := w.checkPlace(); err != nil {
		w.markUnavailable(err)
		w.retry.Reset(firstRetry)
		return
	}
	// Errors are ignored, because the next tick tries again.
	if w.flushDue() {
		_ = w.transact(func(t *tx) error { return t.flush(idleFlush, false) })
	}
	if w.down.Load() == nil && len(w.pendingRefunds) > 0 {
		w.postPendingRefunds()
	}
	if w.down.Load() == nil && w.responsesDue() {
		_ = w.transact((*tx).sweepResponses)
	}
	if w.down.Load() == nil && w.bindingsDue() {
		_ = w.transact((*tx).sweepBindings)
	}
	if w.down.Load() == nil && w.voidsDue() {
		_ = w.transact((*tx).sweepVoids)
	}
}

// finish writes all snapshots. Close closes the connection afterwards.
func (w *writer) finish() {
	if w.down.Load() != nil {
		w.repair() // the last attempt to bring the store back
	}
	if d := w.down.Load(); d != nil {
		w.failInDoubt(d)
		w.err = d
	} else if len(w.dirty) > 0 {
		w.err = w.transact(func(t *tx) error { return t.flush(len(w.dirty), true) })
	}
	w.down.Store(errClosed)
}

// disconnect closes the connection, which rolls back an open transaction.
func (w *writer) disconnect() {
	if w.db == nil {
		return
	}
	// Errors of Close do not matter, because only the contents of the file count.
	// The statements are closed first, because an open statement keeps its
	// connection alive.
	w.stmts.close()
	_ = w.conn.Close()
	_ = w.db.Close()
	w.db, w.conn, w.stmts = nil, nil, statements{}
}

// attach takes a connection from db and prepares its statements.
func (w *writer) attach(db *sql.DB) error {
	ctx := background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("opening store %s: %w", w.path, err)
	}
	var s statements
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.insert, insertRow},
		{&s.byID, selectRow + `WHERE id = ?`},
		{&s.snapshot, `UPDATE account SET live = ?, test = ?, as_of = ?, debit_head = ?, credit_head = ? WHERE n = ?`},
		{&s.spend, upsertSpend},
		{&s.response, insertResponse},
		{&s.meta, `UPDATE meta SET replay_from = ?`},
		{&s.void, `SELECT until FROM void WHERE id = ?`},
	} {
		if *p.stmt, err = conn.PrepareContext(ctx, p.query); err != nil {
			s.close()
			return errors.Join(fmt.Errorf("preparing statements of store %s: %w", w.path, err), conn.Close())
		}
	}
	w.db, w.conn, w.stmts = db, conn, s
	return nil
}

func (w *writer) exec(query string) error {
	_, err := w.conn.ExecContext(background(), query)
	return err
}

// capture writes the batch in one transaction and wakes its callers.
func (w *writer) capture() {
	defer func() { clear(w.batch); clear(w.rows); clear(w.outcomes) }()
	w.rows, w.outcomes = w.rows[:0], w.outcomes[:0]
	if d := w.down.Load(); d != nil {
		w.refuse(w.batch, d)
		return
	}
	t, began := tx{w: w, first: w.committed + 1}, clock.Now()
	if err := w.captureRows(&t); err != nil {
		w.report(len(w.batch), clock.Since(began), err)
		w.refuse(w.batch, w.abort(err))
		return
	}
	err := w.commit(&t)
	w.report(len(w.batch), clock.Since(began), err)
	if err != nil {
		w.commitFailed(err)
		return
	}
	w.books.mu.Lock()
	w.publish(&t)
	for i, h := range w.batch {
		w.finishCapture(h, &w.rows[i], &w.outcomes[i])
	}
	w.books.mu.Unlock()
	w.warn()
}

// captureRows begins a transaction and writes the rows of the batch. It does not
// commit.
func (w *writer) captureRows(t *tx) error {
	if err := w.begin(); err != nil {
		return err
	}
	at := w.now().UnixMicro()
	for _, h := range w.batch {
		r, out, err := t.captureRow(h, at)
		if err != nil {
			return err
		}
		w.rows, w.outcomes = append(w.rows, r), append(w.outcomes, out)
	}
	if err := t.flush(len(w.batch)/16+4, false); err != nil {
		return err
	}
	return t.evictResponses(2*len(w.batch) + 16) // the limit is greater than the number of responses that this batch added
}

// captureRow inserts the row of a capture and returns the row. If the journal has an
// earlier capture with the same id, captureRow returns the row of that capture instead.
// If only this capture is refused, the outcome has the reason. An error ends the whole
// transaction.
func (t *tx) captureRow(h *hold, at int64) (row, outcome, error) {
	r, ownsKey, made := rowOf(h, at), true, true
	if err := t.refuseArchived(h.id); err != nil {
		if errors.Is(err, ledger.ErrArchived) {
			return row{}, outcome{err: err}, nil
		}
		return row{}, outcome{}, err
	}
	err := t.prepare(&r)
	if err == nil {
		err = t.insertCharge(h, &r)
	}
	switch {
	case errors.Is(err, ledger.ErrOverflow), errors.Is(err, ledger.ErrSettled):
		return row{}, outcome{err: err}, nil
	case errors.Is(err, errDuplicate):
		made = false
		if r, err = t.byID(h.id); err != nil {
			return row{}, outcome{}, err
		}
		if !r.sameOrder(h) {
			return row{}, outcome{err: ledger.ErrConflict}, nil
		}
		if ownsKey, err = t.ownsIdempotencyKey(r.seq, h); err != nil {
			return row{}, outcome{}, err
		}
	case err != nil:
		return row{}, outcome{}, err
	}
	return r, outcome{ownsKey: ownsKey, made: made}, nil
}

// prepare sets the number of the charge's settler, or returns ledger.ErrSettled if
// the id is voided. Only a charge made through a platform has a settler. prepare
// leaves any other charge as it is.
func (t *tx) prepare(r *row) (err error) {
	if r.settler == "" {
		return nil
	}
	if gone, err := t.voided(r.id); gone || err != nil {
		return cmp.Or(err, ledger.ErrSettled)
	}
	r.settlerN, err = t.settlerNumber(r.settler)
	return err
}

// rowOf returns the row that captures a hold.
func rowOf(h *hold, at int64) row {
	r := row{
		id: h.id, kind: rowCharge, debtor: h.payer.n, creditor: h.payee.n, amount: h.order.Amount, fee: h.order.Fee,
		test: h.order.Test, at: at, day: h.day, key: h.order.Key, lineage: h.order.Lineage,
		server: h.order.Server, tool: h.order.Tool, settler: h.order.Settler,
	}
	if h.feeTo != nil {
		r.feeTo = h.feeTo.n
	}
	if h.waived {
		r.amount, r.waived = 0, h.order.Amount
	}
	return r
}

// insertCharge writes the row of a capture together with the operator's fee and
// the stored response.
func (t *tx) insertCharge(h *hold, r *row) error {
	fee := h.feeTo != nil && !h.waived
	if fee && h.feeTo != h.payer { // a payer that earns the fee cannot overflow, because it pays more than the fee
		if err := t.canEarn(h.feeTo, r.fee, r.test); err != nil {
			return err
		}
	}
	if err := t.insert(r, h.payer, h.payee); err != nil {
		return err
	}
	t.spends = append(t.spends, spendOf(r, h))
	if fee {
		if err := t.insertFee(r.seq, r.fee, h.payee, h.feeTo, r); err != nil {
			return err
		}
	}
	return t.storeResponse(h, r)
}

// finishCapture ends the hold h according to the given outcome, and wakes the callers
// that wait for h. The mutex of the books must be locked, and memory must already
// include the row r.
func (w *writer) finishCapture(h *hold, r *row, out *outcome) {
	if out.err != nil {
		if (errors.Is(out.err, ledger.ErrConflict) || errors.Is(out.err, ledger.ErrSettled)) && h.onFailure == reopenHold {
			h.onFailure = releaseHold // an earlier charge has another order, or the id was voided, so the hold can never be captured
		}
		w.books.captureFailed(h)
	} else {
		if out.ownsKey {
			w.books.captureIdempotencyKey(h, r)
		} else {
			w.books.releaseIdempotencyKey(h)
		}
		w.books.finish(h, holdCaptured)
		out.charge = chargeOf(r, h.id, h.order)
		out.balance = h.payer.balances[balanceIndex(h.order.Test)]
	}
	wake(h, *out)
}

// wake sends the outcome to all callers that wait for h. The mutex of the books must be
// locked. The channels are buffered, so the writer never blocks.
func wake(h *hold, out outcome) {
	out.charge.Made = out.made
	for _, c := range h.waiters {
		c <- out
		out.charge.Made = false // Made is true for the first of the waiting callers only
	}
	h.waiters = h.waiters[:0]
}

// refuse ends captures that certainly did not happen, and sends err to their callers.
func (w *writer) refuse(holds []*hold, err error) {
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	for _, h := range holds {
		w.books.captureFailed(h)
		wake(h, outcome{err: err})
	}
}

func chargeOf(r *row, id uuid, o ledger.Order) ledger.Charge {
	return ledger.Charge{
		ID: id.text(chargePrefix), Order: o, State: ledger.Captured, At: fromMicros(r.at),
		Waived: r.waived > 0, Refunded: r.refunded,
	}
}

// begin opens a transaction. If it fails, the connection is lost.
func (w *writer) begin() error {
	if _, err := w.stmts.begin.ExecContext(background()); err != nil {
		return &storeError{cause: fmt.Errorf("begin: %w", err), lost: true}
	}
	return nil
}

// commit makes the open transaction durable.
func (w *writer) commit(t *tx) error {
	if _, err := w.stmts.commit.ExecContext(background()); err != nil {
		return &storeError{cause: fmt.Errorf("commit: %w", err), lost: !isFull(err)}
	}
	w.commits.Add(1)
	w.dirty = w.dirty[len(t.flushing):]
	for _, s := range t.flushing {
		s.behind().dirtySeq = 0
	}
	w.committed = w.next - 1
	return nil
}

// change runs a change and sends its result to the caller.
func (w *writer) change(c *changeJob) {
	switch d := w.down.Load(); {
	case d != nil:
		c.done <- d
	case c.bare:
		c.done <- guard(c.do, &tx{w: w})
	default:
		c.done <- w.transact(c.do)
	}
}

// transact runs do(t) in a transaction. After a failed COMMIT, the change may have been
// made; after any other error, it was not made.
func (w *writer) transact(do func(*tx) error) error {
	t, began := tx{w: w, first: w.committed + 1}, clock.Now()
	err := w.begin()
	if err == nil {
		err = guard(do, &t)
	}
	if err == nil {
		err = w.commit(&t)
	}
	if err == nil || errors.Is(err, ledger.ErrUnavailable) { // a change that was refused is not reported, because the store did not fail
		w.report(1, clock.Since(began), err)
	}
	if err != nil {
		return w.abort(err)
	}
	w.books.mu.Lock()
	w.publish(&t)
	w.books.mu.Unlock()
	w.warn()
	return nil
}

// guard turns a panic in a caller's function into an error, so that the panic fails
// only the request and does not end the process.
func guard(do func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a change: %v", p)
		}
	}()
	return do(t)
}

// publish applies the committed transaction to memory. The mutex of the books must be
// locked.
func (w *writer) publish(t *tx) {
	now := clock.Now()
	for _, a := range w.touched {
		a.publish()
		w.markDirty(a, t.first, now)
		a.draft.touched = 0
	}
	w.touched = w.touched[:0]
	for i := range t.spends {
		w.countSpend(&t.spends[i], t.first, now)
	}
	w.responseBytes += t.responseBytes
	for _, f := range t.after {
		f()
	}
}

// markDirty notes that a snapshot lacks the transactions from the number seq on. The
// list of stale snapshots stays sorted, because all snapshots touched by one commit
// get the commit's first seq.
func (w *writer) markDirty(s snapshot, seq int64, now time.Time) {
	if d := s.behind(); d.dirtySeq == 0 {
		d.dirtySeq, d.dirtyAt = seq, now
		w.dirty = append(w.dirty, s)
	}
}

// forget drops the drafts of the open transaction.
func (w *writer) forget() {
	for _, a := range w.touched {
		a.draft.touched = 0
	}
	w.touched = w.touched[:0]
	w.next = w.committed + 1
}
