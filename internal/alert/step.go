package alert

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// step is one step of an evaluation.
type step struct {
	s   *Service
	ctx context.Context
	now time.Time

	cursor   Cursor
	moved    ledger.Moved
	sweptTo  string
	settings map[string]Settings
	balances map[string]ledger.Balance // balances of the accounts with a threshold
	keys     []movedKey
	spent    []ledger.Spent // the spending of each key in keys, at the same index
	day      int32          // the day to which spent applies

	put       []State
	alerts    []Alert
	overtaken bool  // another node has made the same step first
	learning  bool  // the known tools of some lineages are not stored yet, so the cursor must not move
	failed    error // the error of judgeTools
}

// movedKey is a key that has paid, with its lineage.
type movedKey struct {
	ledger.Lineage
	key      keys.Key
	settings Settings
}

// wanted returns the alert settings of an account.
func (r *step) wanted(account string) Settings {
	if s, ok := r.settings[account]; ok {
		return s
	}
	return Defaults
}

// read reads everything that the step needs, except the states.
func (r *step) read() error {
	var swept []string
	err := r.s.store.View(r.ctx, func(tx Tx) (err error) {
		if r.cursor, err = tx.Cursor(); err != nil {
			return err
		}
		swept, err = tx.WithBalance(r.s.sweptTo, sweepMost)
		return err
	})
	if err != nil {
		return err
	}
	if len(swept) == sweepMost {
		r.sweptTo = swept[len(swept)-1]
	}
	if r.moved, err = r.s.o.Books.Moved(r.ctx, r.cursor.Seq, r.s.reads()); err != nil {
		return err
	}
	accounts := slices.Concat(r.moved.Accounts, swept)
	for l := range r.moved.Keys {
		accounts = append(accounts, l.Account)
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	err = r.s.store.View(r.ctx, func(tx Tx) (err error) {
		r.settings, err = tx.Settings(accounts)
		return err
	})
	if err != nil {
		return err
	}
	accounts = slices.DeleteFunc(accounts, func(id string) bool { return r.wanted(id).Balance == 0 })
	if r.balances, err = r.s.o.Books.LiveBalances(r.ctx, accounts); err != nil {
		return err
	}
	return r.readKeys()
}

// readKeys reads the keys that have paid, and how much each has spent. It leaves out a
// key that cannot raise an alert: one without a cap, if its account wants neither
// alerts of kind Spend nor alerts of kind Tool.
func (r *step) readKeys() error {
	ids := make([]string, 0, len(r.moved.Keys))
	for l, id := range r.moved.Keys {
		if s := r.wanted(l.Account); s.Caps || s.Spend > 0 || s.Tools {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	found, err := r.s.o.Books.KeysByID(r.ctx, ids)
	if err != nil {
		return err
	}
	var lineages []ledger.Lineage
	for i := range found {
		k := movedKey{ledger.Lineage{Account: found[i].Account, Lineage: found[i].Lineage}, found[i], r.wanted(found[i].Account)}
		_, day, month := k.key.Limits.Spending()
		if k.key.Environment != keys.Test && (k.settings.Spend > 0 || k.settings.Tools || k.settings.Caps && (day > 0 || month > 0)) {
			r.keys, lineages = append(r.keys, k), append(lineages, k.Lineage)
		}
	}
	r.spent, r.day, err = r.s.o.Books.LiveSpent(r.ctx, lineages)
	if r.day == 0 {
		r.day = ledger.Day(r.now)
	}
	return err
}

// judge compares the data that the step has read with the stored states. It collects
// the alerts to raise in r.alerts, and the states to store in r.put. If judgeTools
// fails, the step still writes alerts about money. It does not move the cursor, so that
// the next step judges the tools again.
func (r *step) judge() error {
	for _, judge := range []func() error{r.judgeBalances, r.judgeCaps, r.judgeSpend} {
		if err := judge(); err != nil {
			return err
		}
	}
	whole := r.ctx
	ctx, cancel := context.WithTimeout(whole, toolsTime)
	defer cancel()
	r.ctx = ctx
	r.failed = r.judgeTools()
	r.ctx = whole
	if r.failed != nil || r.learning {
		r.moved.Last = r.cursor.Seq
	}
	return nil
}

// states reads the stored states of the subjects.
func (r *step) states(kind Kind, subjects []string) (found map[string]State, err error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	err = r.s.store.View(r.ctx, func(tx Tx) error {
		found, err = tx.States(kind, subjects)
		return err
	})
	return found, err
}

func (r *step) judgeBalances() error {
	accounts := slices.Sorted(maps.Keys(r.balances))
	states, err := r.states(Balance, accounts)
	if err != nil {
		return err
	}
	for _, id := range accounts {
		available, threshold := r.balances[id].Available(), r.wanted(id).Balance
		before, known := states[id]
		before.Kind, before.Subject = Balance, id
		after, raise := balanceState(before, known, available, threshold, r.now)
		if after != before {
			r.put = append(r.put, after)
		}
		if raise {
			r.raise(Alert{Kind: Balance, Account: id, Data: Data{Amount: &available, Limit: &threshold}})
		}
	}
	return nil
}

// capNow is a cap of a key with the spending that counts toward it.
type capNow struct {
	key    *movedKey
	period ledger.Period
	spent  ledger.Amount
	state  State
}

func (r *step) judgeCaps() error {
	var all []capNow
	var subjects []string
	for i := range r.keys {
		k := &r.keys[i]
		if !k.settings.Caps {
			continue
		}
		caps := ledger.CapsOf(k.key.Limits.Spending())
		for _, c := range []struct {
			period     ledger.Period
			cap, spent ledger.Amount
			number     int64
		}{{ledger.PerDay, caps.Day, r.spent[i].Day, int64(r.day)}, {ledger.PerMonth, caps.Month, r.spent[i].Month, int64(ledger.Month(r.day))}} {
			if c.cap == 0 {
				continue
			}
			state := State{Kind: Cap, Subject: subject(k.Lineage.Lineage, string(c.period)), Period: c.number, Level: levelOf(c.spent, c.cap), Amount: c.cap}
			all, subjects = append(all, capNow{k, c.period, c.spent, state}), append(subjects, state.Subject)
		}
	}
	before, err := r.states(Cap, subjects)
	if err != nil {
		return err
	}
	for _, c := range all {
		was, known := before[c.state.Subject]
		after, raise := capState(was, c.state)
		if after.At = was.At; after == was || !known && after.Level == 0 {
			continue
		}
		after.At = r.now
		r.put = append(r.put, after)
		if raise {
			r.raise(c.key.alert(Cap, Data{Amount: &c.spent, Limit: &c.state.Amount, Percent: int(after.Level), Period: c.period}))
		}
	}
	return nil
}

// alert returns an alert of the given kind about the key.
func (k *movedKey) alert(kind Kind, d Data) Alert {
	d.KeyName, d.KeyHint = k.key.Name, k.key.Hint
	return Alert{Kind: kind, Account: k.Account, Key: k.Lineage.Lineage, Data: d}
}

func (r *step) judgeSpend() error {
	today := int64(r.day)
	var subjects []string
	for i := range r.keys {
		if r.keys[i].settings.Spend > 0 && r.spent[i].Day >= minSpend {
			subjects = append(subjects, r.keys[i].Lineage.Lineage)
		}
	}
	states, err := r.states(Spend, subjects)
	if err != nil {
		return err
	}
	for i := range r.keys {
		k, spent := &r.keys[i], r.spent[i].Day
		if k.settings.Spend == 0 || spent < minSpend || states[k.Lineage.Lineage].Period >= today {
			continue
		}
		usual, err := r.s.usual.spending(r.ctx, r.s.o.Books, k.Lineage, ledger.DayStart(r.day))
		if err != nil {
			return err
		}
		if unusual(spent, usual, k.settings.Spend) {
			r.put = append(r.put, State{Kind: Spend, Subject: k.Lineage.Lineage, Period: today, At: r.now})
			r.raise(k.alert(Spend, Data{Amount: &spent, Limit: &usual}))
		}
	}
	return nil
}

// raise adds an alert to those that the step writes.
func (r *step) raise(a Alert) {
	a.ID, a.At = r.s.o.NewID("alr_"), r.now
	r.alerts = append(r.alerts, a)
}

// idle reports whether the step has nothing to write.
func (r *step) idle() bool {
	return r.moved.Last == r.cursor.Seq && len(r.alerts) == 0 && len(r.put) == 0
}

// write writes the results, unless another node has moved the cursor since the step
// read it. If the cursor has not moved, the states are as they were read, because only
// steps write them. The one exception is Set, which arms a balance when the alerts
// about it are turned off. Steps do not judge such a balance.
func (r *step) write() error {
	targets, err := r.s.targetsOf(r.ctx, r.alerts)
	if err != nil {
		return err
	}
	err = r.s.store.Change(r.ctx, func(tx Tx) error {
		moved, err := tx.MoveCursor(r.cursor, Cursor{Seq: r.moved.Last, At: r.now})
		if r.overtaken = err == nil && !moved; err != nil || r.overtaken {
			return err
		}
		for i := range r.put {
			if err := tx.PutState(r.put[i]); err != nil {
				return err
			}
		}
		return insert(tx, r.alerts, targets)
	})
	if err != nil || r.overtaken {
		return err
	}
	r.s.noteRaised(r.alerts)
	return nil
}
