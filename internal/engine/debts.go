package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// How debts are paid.
const (
	firstPayment = time.Second
	lastPayment  = time.Minute // the longest wait between two attempts
	// rescan is how often the directory is looked through when nothing is known
	// to be owed: another process that shared it may have died.
	rescan = 10 * time.Minute
	// notCharged is how old a debt is when a charge that the store does not know
	// is believed to have never happened: whatever was under way is over.
	notCharged = time.Hour
	// payTime bounds one attempt.
	payTime = 30 * time.Second
)

// debts are the refunds that payers are owed and the store did not take. Each is
// a file of its own in a directory, so that it outlives this process, and so that
// processes which share the directory need no lock: a refund has its id from the
// start, and whoever comes second finds it made.
type debts struct {
	dir    string
	by     string // see Options.DebtBy
	ledger gate.Ledger
	logger *slog.Logger
	wake   chan struct{}
	stop   chan struct{}
	ended  chan struct{}

	mu     sync.Mutex
	owed   int                  // as of the last look, with those that came since
	memory map[string]gate.Debt // those that could not be written, by charge
}

func newDebts(dir, by string, l gate.Ledger, logger *slog.Logger) *debts {
	d := &debts{
		dir: dir, by: by, ledger: l, logger: logger, memory: make(map[string]gate.Debt),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go d.run()
	return d
}

// Owe notes a debt. When it returns, the debt is durable if the disk takes it.
func (d *debts) Owe(debt gate.Debt) {
	debt.By = d.by
	err := d.write(debt)
	d.mu.Lock()
	d.owed++
	if err != nil {
		d.memory[debt.Charge] = debt
	}
	d.mu.Unlock()
	if err != nil {
		d.logger.Error("a refund that is owed could not be noted: it is lost if this process ends before it is made", "charge", debt.Charge, "error", err)
	}
	select {
	case d.wake <- struct{}{}:
	default: // it is to be looked at already
	}
}

// Owed counts the refunds that are to be made.
func (d *debts) Owed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.owed
}

const debtSuffix = ".json"

func (d *debts) write(debt gate.Debt) error {
	text, err := json.Marshal(debt)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(d.dir, debt.Charge+debtSuffix), append(text, '\n'), 0o600)
}

// run makes refunds until the runtime closes.
func (d *debts) run() {
	defer close(d.ended)
	wait := time.Duration(0) // first, what an earlier process has left
	pause := firstPayment
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-d.wake:
			timer.Stop()
		case <-d.stop:
			timer.Stop()
			return
		}
		if left := d.payAll(); left == 0 {
			wait, pause = rescan, firstPayment
			continue
		}
		wait, pause = pause, min(2*pause, lastPayment)
		if !d.rest(wait) {
			return
		}
		wait = 0
	}
}

// rest waits although new debts may come: the store is down, and each of them
// would have it asked anew. It reports false when the runtime closes.
func (d *debts) rest(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.stop:
		return false
	}
}

// payAll tries each debt once, and returns how many are left. A store that
// cannot be asked for one is not asked for the others.
func (d *debts) payAll() (left int) {
	all := d.all()
	for i, debt := range all {
		err := d.pay(debt)
		if err == nil {
			d.forget(debt)
			continue
		}
		left++
		if errors.Is(err, errNoSuchCharge) {
			continue
		}
		d.logger.Warn("a refund is owed and could not be made yet", "charge", debt.Charge, "since", debt.At, "owed", len(all), "error", err)
		if errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			left += len(all) - i - 1
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed = left
	return left
}

// all reads what is owed.
func (d *debts) all() (all []gate.Debt) {
	names, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Error("the refunds that are owed cannot be read", "dir", d.dir, "error", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name.Name(), "chg_") || !strings.HasSuffix(name.Name(), debtSuffix) {
			continue
		}
		var debt gate.Debt
		text, err := os.ReadFile(filepath.Join(d.dir, name.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has paid it
		}
		if err == nil {
			err = json.Unmarshal(text, &debt)
		}
		if err == nil && debt.Charge+debtSuffix != name.Name() {
			err = fmt.Errorf("it is of the charge %q", debt.Charge)
		}
		if err != nil {
			d.logger.Error("a refund that is owed cannot be read: make it by hand, and remove the file", "dir", d.dir, "file", name.Name(), "error", err)
			continue
		}
		all = append(all, debt)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, debt := range d.memory {
		all = append(all, debt)
	}
	return all
}

var (
	errNoSuchCharge = errors.New("the store knows no such charge")
	// The next two are kept: the payer is owed what this process cannot give back.
	errNotOurs = errors.New("it was noted by another key of the platform, which alone can tell whether it was charged: a gateway with that key makes it, or it is to be made by hand")
	errByHand  = errors.New("it is to be given back by hand: the store has the charge, or has archived it, and does not refund it for this gateway any more")
)

// pay gives a charge back, or finds that there is nothing to give back.
func (d *debts) pay(debt gate.Debt) error {
	ctx, cancel := context.WithTimeout(context.Background(), payTime)
	defer cancel()
	err := d.ledger.Release(ctx, debt.Charge)
	switch {
	case err == nil:
		return nil // it was reserved, and is not charged
	case !errors.Is(err, ledger.ErrSettled) && !errors.Is(err, ledger.ErrNotFound):
		return err
	}
	captured := errors.Is(err, ledger.ErrSettled)
	t, audit := debt.Posting()
	_, _, err = d.ledger.PostTransaction(ctx, t, audit)
	switch {
	case errors.Is(err, ledger.ErrArchived), captured && errors.Is(err, ledger.ErrNotFound): // not to be taken for a charge that never was
		return fmt.Errorf("%w: %w", errByHand, err)
	case err == nil:
		d.logger.Info("an undelivered call was refunded", "charge", debt.Charge, "owed_since", debt.At)
		return nil
	case errors.Is(err, ledger.ErrSettled): // by somebody else, or a free quota had paid it
		return nil
	case errors.Is(err, ledger.ErrNotFound) && debt.By != d.by:
		return fmt.Errorf("%w: %w", errNotOurs, err)
	case errors.Is(err, ledger.ErrNotFound) && clock.Since(debt.At) > notCharged:
		d.logger.Warn("a refund is not owed any more: the store knows no such charge, so it was never made", "charge", debt.Charge, "owed_since", debt.At)
		return nil
	case errors.Is(err, ledger.ErrNotFound):
		return errNoSuchCharge
	}
	return err
}

// forget drops a debt that is paid.
func (d *debts) forget(debt gate.Debt) {
	err := os.Remove(filepath.Join(d.dir, debt.Charge+debtSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("a refund was made and stays noted: it will not be made twice", "charge", debt.Charge, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.memory, debt.Charge)
}

// close ends the attempts. What is owed stays noted.
func (d *debts) close() {
	close(d.stop)
	<-d.ended
}
