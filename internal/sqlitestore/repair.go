package sqlitestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// The pauses between attempts to repair a store that is down.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = time.Second
	// inDoubtAttempts is the number of failed attempts (0.6 s) after which the
	// callers of captures in doubt get an error instead of waiting longer.
	inDoubtAttempts = 6
)

// abort ends a failed transaction, and returns the error for the callers. If the
// transaction failed before its COMMIT, or at the COMMIT because the disk was full,
// no part of it can have become durable. If the COMMIT failed for another reason,
// abort reconnects to find out whether the transaction became durable.
func (w *writer) abort(err error) error {
	w.forget()
	var s *storeError
	failed := errors.As(err, &s)
	lost := failed && s.lost
	if !lost {
		// After some errors, SQLite has already rolled back, and ROLLBACK fails.
		if rollback := w.exec("ROLLBACK"); rollback != nil && isDisk(rollback) {
			lost = true
		}
	}
	switch {
	case lost:
		w.disconnect()
		w.markUnavailable(err)
		w.repair()
	case failed && isFull(s.cause):
		w.markUnavailable(err)
		w.retry.Reset(firstRetry)
	}
	return err
}

// commitFailed handles a batch with a failed COMMIT.
func (w *writer) commitFailed(err error) {
	if isFull(err) {
		w.refuse(w.batch, w.abort(err))
		return
	}
	w.inDoubt = append(w.inDoubt, w.batch...)
	_ = w.abort(err) // resolves the captures in doubt, if the repair succeeds
}

// markUnavailable makes the store refuse everything until repair succeeds.
func (w *writer) markUnavailable(err error) {
	var s *storeError
	if errors.As(err, &s) {
		err = s.cause
	}
	if w.down.Swap(&downError{cause: err}) == nil {
		w.attempts = 0
		w.log.Error("store cannot write", "path", w.path, "error", err)
	}
}

// repair tries to bring the store back. It opens a new connection if the old one is
// lost, writes a probe (a small change that shows whether writes succeed), and then
// resolves the captures in doubt. The probe comes first because it restarts the log.
// Until the log is restarted, a power cut could bring back the old log, and with it
// transactions that had a failed COMMIT.
func (w *writer) repair() {
	w.attempts++
	err := w.checkPlace()
	if err == nil {
		err = w.reconnect()
	}
	if err == nil {
		err = w.probe()
	}
	if err == nil {
		err = w.reconcile()
	}
	if err == nil {
		w.down.Store(nil)
		w.log.Info("store can write again", "path", w.path, "attempts", w.attempts)
		w.attempts = 0
		w.postPendingRefunds()
		return
	}
	d := &downError{cause: err}
	w.down.Store(d)
	if w.attempts >= inDoubtAttempts {
		w.failInDoubt(d)
	}
	w.retry.Reset(min(firstRetry<<min(w.attempts, 10), lastRetry))
}

// errMisplaced is the state of a store with a file that is no longer in its place.
// SQLite would go on writing to the file, but the next process would not find it.
var errMisplaced = errors.New("the file was removed, moved or replaced: put it back in its place, or restart the server to use the one that is there now")

// checkPlace returns errMisplaced unless the open file is the one at the store's path.
// If the file at the path cannot be examined, checkPlace returns nil, because that does
// not show that the file was moved.
func (w *writer) checkPlace() error {
	if w.file == nil {
		return nil
	}
	info, err := os.Stat(w.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, w.file) {
		return errMisplaced
	}
	return nil
}

// reconnect reopens the file if it is closed, and makes its contents durable. After
// that, memory is stale until reconcile has run.
func (w *writer) reconnect() error {
	if w.conn != nil {
		return nil
	}
	ctx := background()
	db, err := openWriter(ctx, w.path, w.connect)
	if err != nil {
		return err
	}
	if err := w.attach(db); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := w.checkpoint(); err != nil {
		w.disconnect()
		return err
	}
	w.stale = true
	return nil
}

// reconcile updates memory from the file, and resolves the captures in doubt.
func (w *writer) reconcile() error {
	if !w.stale {
		return nil
	}
	t := tx{w: w}
	for _, step := range []func() error{
		t.loadArchived, t.loadAccounts, t.loadLimits,
		func() error { return t.replay(w.committed + 1) },
		t.resolveInDoubt, t.loadIdempotencyKeys,
	} {
		if err := step(); err != nil {
			w.disconnect()
			return err
		}
	}
	w.stale = false
	w.warn()
	return nil
}

// checkpoint makes the visible transactions durable. After a failed fsync, the
// contents of the log may exist in the page cache only. After these contents are copied
// to the database file and synced there, they are durable. A transaction that is not
// visible now may still be in the old log on the disk. Such a transaction can reappear
// until the next commit, because the emptied log is not synced yet.
func (w *writer) checkpoint() error {
	var busy, frames, moved int
	row := w.conn.QueryRowContext(background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := row.Scan(&busy, &frames, &moved); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if busy != 0 {
		return errors.New("checkpoint: readers are in the way")
	}
	return nil
}

// resolveInDoubt finishes the captures in doubt according to the journal.
func (t *tx) resolveInDoubt() error {
	w := t.w
	rows := make([]row, len(w.inDoubt))
	outcomes := make([]outcome, len(w.inDoubt))
	for i, h := range w.inDoubt {
		r, err := t.byID(h.id)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			outcomes[i].err = fmt.Errorf("%w: the charge could not be written", ledger.ErrUnavailable)
		case err != nil:
			return err
		case !r.sameOrder(h):
			outcomes[i].err = ledger.ErrConflict
		default:
			if outcomes[i].ownsKey, err = t.ownsIdempotencyKey(r.seq, h); err != nil {
				return err
			}
		}
		rows[i] = r
	}
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	for i, h := range w.inDoubt {
		w.finishCapture(h, &rows[i], &outcomes[i])
		if h.onFailure == releaseHold && outcomes[i].err == nil {
			w.pendingRefunds = append(w.pendingRefunds, pendingRefund{charge: rows[i].id, refund: newUUID()})
		}
	}
	w.inDoubt = nil
	return nil
}

// failInDoubt sends err to the callers of captures in doubt, because the outcome is not
// known yet. The credits stay reserved until the outcome is known.
func (w *writer) failInDoubt(err error) {
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	for _, h := range w.inDoubt {
		h.state = holdInDoubt
		wake(h, outcome{err: err})
	}
}

// probe writes to the file to find out whether writes succeed.
func (w *writer) probe() error {
	err := w.begin()
	if err == nil {
		t := tx{w: w}
		if _, err = t.exec("UPDATE meta SET probes = probes + 1"); err == nil {
			err = w.commit(&t)
		}
	}
	if err == nil {
		return nil
	}
	var s *storeError
	if errors.As(err, &s) && !s.lost {
		_ = w.exec("ROLLBACK") // SQLite may have rolled back already; if no rollback worked, the next BEGIN fails
		return s.cause
	}
	w.disconnect()
	return err
}

// postPendingRefunds refunds charges that were released while their capture was in
// doubt, and turned out to be captured. A refund may be durable despite a failed
// COMMIT. Such a refund is not made twice, because its id was chosen in advance and
// is looked up first. The charge is read again as well, because it may have been
// refunded in another way meanwhile.
func (w *writer) postPendingRefunds() {
	pendingRefunds := w.pendingRefunds
	w.pendingRefunds = nil
	for _, o := range pendingRefunds {
		err := w.transact(func(t *tx) error {
			_, err := t.byID(o.refund)
			if !errors.Is(err, ledger.ErrNotFound) {
				return err // err is nil if the refund exists already
			}
			c, err := t.byID(o.charge)
			if err != nil {
				return err
			}
			_, err = t.refund(&c, ledger.Transaction{Reason: "released while its capture was in doubt"}, o.refund, w.now())
			if errors.Is(err, ledger.ErrSettled) {
				err = nil // the charge was refunded already, or a free quota paid it
			}
			if err != nil {
				return err
			}
			return t.deleteResponse(c.seq, ledger.MaxStoredResponse) // delete the response and free the key, because the caller got an error and may run the call again
		})
		if err != nil {
			w.pendingRefunds = append(w.pendingRefunds, o)
			w.log.Error("charge captured in doubt is not refunded yet", "charge", o.charge.text(chargePrefix), "error", err)
		}
	}
}

// pendingRefund is a charge to refund, and the id of its refund.
type pendingRefund struct{ charge, refund uuid }
