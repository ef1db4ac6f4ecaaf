package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/durable"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	// firstPause is the pause after the first failed attempt. Every further failure
	// doubles the pause, up to maxPause. While the store is down, the pause grows only
	// up to downPause: attempts at such a store fail at once, and frequent attempts
	// notice its return soon.
	firstPause = time.Second
	maxPause   = time.Minute
	downPause  = 10 * time.Second
	// rescan is the pause between two scans of the directory while no debt is known.
	// Another process that shares the directory may have left debts there when it died.
	rescan = 10 * time.Minute
	// notCharged is the age at which a debt is dropped if the store does not know its
	// charge. By then every capture in flight has ended, so the charge was never made.
	notCharged = time.Hour
	// warnAgain is the pause between two warnings about one debt.
	warnAgain = time.Hour
	// payTime bounds one attempt to pay a debt.
	payTime = 30 * time.Second
)

// debts holds the refunds that payers are owed because the store could not book
// them. Each debt is a file in the directory dir, so the debt outlives this process.
// Processes that share the directory need no lock. Each refund has its id from the
// start, so a second process that tries to pay the refund finds it booked.
type debts struct {
	dir    string
	by     string // see Options.DebtBy
	ledger gate.Ledger
	booked func(server string, amount ledger.Amount, test bool) // called for each refund that was booked
	logger *slog.Logger
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	warned map[string]time.Time // last warning about a debt, by charge; only d.run uses this map

	mu     sync.Mutex
	owed   map[string]bool      // the known debts, by charge; the value is false while the store does not know the charge
	memory map[string]gate.Debt // debts that could not be written to disk, by charge
}

func newDebts(dir, by string, l gate.Ledger, booked func(string, ledger.Amount, bool), logger *slog.Logger) *debts {
	ctx, cancel := context.WithCancel(context.Background())
	d := &debts{
		dir: dir, by: by, ledger: l, booked: booked, logger: logger, memory: make(map[string]gate.Debt),
		warned: make(map[string]time.Time), owed: make(map[string]bool),
		wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	go d.run(ctx)
	return d
}

// Owe records a debt. When it returns, the debt is on disk, unless writing it failed.
func (d *debts) Owe(debt gate.Debt) {
	debt.By = d.by
	err := d.write(debt)
	d.mu.Lock()
	d.owed[debt.Charge] = true
	if err != nil {
		d.memory[debt.Charge] = debt
	}
	d.mu.Unlock()
	if err != nil {
		d.logger.Error("a refund that is owed could not be noted: it is lost if this process ends before it is made", "charge", debt.Charge, "error", err)
	}
	select {
	case d.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// Owed returns the number of debts. It does not count a debt while the store answers
// that the charge is unknown, because nobody has paid for the call then. PostgreSQL can
// lose a reservation, and with it the charge, when its machine crashes.
func (d *debts) Owed() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, owed := range d.owed {
		if owed {
			n++
		}
	}
	return n
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
	return durable.ReplaceFile(filepath.Join(d.dir, debt.Charge+debtSuffix), append(text, '\n'), 0o600)
}

// run pays debts until ctx ends. It begins with the debts of earlier processes.
func (d *debts) run(ctx context.Context) {
	defer close(d.done)
	pause := firstPause
	for {
		switch left, down := d.payAll(); {
		case down:
			// Ignore wake-ups: each new debt would cause another attempt at a store that is
			// down.
			pause = min(pause, downPause)
			if clock.Sleep(ctx, pause) != nil {
				return
			}
			pause *= 2
		case left > 0:
			if clock.SleepOr(ctx, pause, d.wake) != nil {
				return
			}
			pause = min(2*pause, maxPause)
		default:
			pause = firstPause
			if clock.SleepOr(ctx, rescan, d.wake) != nil {
				return
			}
		}
	}
}

// payAll tries to pay each debt once and returns the number of remaining debts. As soon
// as the store cannot be reached, it stops trying and reports that the store is down.
func (d *debts) payAll() (left int, down bool) {
	all := d.all()
	for i, debt := range all {
		err := d.pay(debt)
		if err == nil {
			d.forget(debt)
			continue
		}
		left++
		down = errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		unknown := errors.Is(err, errNoSuchCharge)
		if !down {
			d.classify(debt, !unknown)
		}
		if !unknown {
			d.warn(debt, len(all), err)
		}
		if down {
			return left + len(all) - i - 1, true
		}
	}
	return left, false
}

// classify records whether a debt counts as owed, after the store has refused or could
// not find its charge.
func (d *debts) classify(debt gate.Debt, owed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed[debt.Charge] = owed
}

// warn logs a debt that could not be paid, at most once per warnAgain.
func (d *debts) warn(debt gate.Debt, owed int, err error) {
	now := clock.Now()
	if now.Sub(d.warned[debt.Charge]) < warnAgain {
		return
	}
	d.warned[debt.Charge] = now
	d.logger.Warn("a refund is owed and could not be made yet", "charge", debt.Charge, "since", debt.At, "owed", owed, "error", err)
}

// all returns the debts on disk and in memory, and updates d.owed accordingly. A
// debt that Owe records during the call stays in d.owed.
func (d *debts) all() (all []gate.Debt) {
	d.mu.Lock()
	before := maps.Clone(d.owed)
	d.mu.Unlock()
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
			continue // another process has paid this debt
		}
		if err == nil {
			err = json.Unmarshal(text, &debt)
		}
		if err == nil && debt.Charge+debtSuffix != name.Name() {
			err = fmt.Errorf("it is for the charge %q", debt.Charge)
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
	known := make(map[string]bool, len(all))
	for _, debt := range all {
		known[debt.Charge] = true
		if _, found := d.owed[debt.Charge]; !found {
			d.owed[debt.Charge] = true
		}
	}
	for charge := range before {
		if !known[charge] {
			delete(d.owed, charge) // another process has paid this debt
		}
	}
	return all
}

var (
	errNoSuchCharge = errors.New("the store knows no such charge")
	// A debt with one of these two errors is kept: the payer is owed a refund that this
	// process cannot make.
	errNotOurs = errors.New("it was noted with another key of the platform, and only a gateway with that key can find out whether it was charged: run that gateway, or make the refund by hand")
	errByHand  = errors.New("make the refund by hand: the store has the charge, or has archived it, and no longer refunds it for this gateway")
)

// pay releases or refunds the charge of a debt. It returns nil if no refund is owed
// any longer.
func (d *debts) pay(debt gate.Debt) error {
	ctx, cancel := context.WithTimeout(context.Background(), payTime)
	defer cancel()
	err := d.ledger.Release(ctx, debt.Charge)
	switch {
	case err == nil:
		return nil // the call was only reserved, so no refund is owed
	case !errors.Is(err, ledger.ErrSettled) && !errors.Is(err, ledger.ErrNotFound):
		return err
	}
	captured := errors.Is(err, ledger.ErrSettled)
	t, audit := debt.Posting()
	posted, _, err := d.ledger.PostTransaction(ctx, t, audit)
	switch {
	case errors.Is(err, ledger.ErrArchived), captured && errors.Is(err, ledger.ErrNotFound): // the charge exists, so the debt must not be dropped
		return fmt.Errorf("%w: %w", errByHand, err)
	case err == nil:
		d.booked(debt.Server, posted.Amount, debt.Test)
		d.logger.Info("an undelivered call was refunded", "charge", debt.Charge, "owed_since", debt.At)
		return nil
	case errors.Is(err, ledger.ErrSettled): // the charge was already refunded by another process, or was covered by a free quota
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

// forget removes a debt that has been paid.
func (d *debts) forget(debt gate.Debt) {
	err := os.Remove(filepath.Join(d.dir, debt.Charge+debtSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("a refund was made and stays noted: it will not be made twice", "charge", debt.Charge, "error", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.memory, debt.Charge)
	delete(d.owed, debt.Charge)
	delete(d.warned, debt.Charge)
}

// close stops paying debts. Unpaid debts stay on disk.
func (d *debts) close() {
	d.cancel()
	<-d.done
}
