package sqlitestore

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// spendCounter counts the spending of one subject: a lineage of keys, an account, or an
// account at one server. It counts the spending on the subject's last day with charges,
// and in the month of that day. It also counts the subject's open reservations. The
// mutex of books guards the counter. Only the writer changes the spending and writes it
// to the file.
type spendCounter struct {
	dirt
	subject    string // the primary key in the table spend
	day        int32
	spentDay   ledger.Amount
	spentMonth ledger.Amount // the spending in the calendar month of day
	freeDay    int64         // number of the day's calls that a free quota paid
	held       []heldOn      // at most one entry per day; nearly always no entry or one entry
	asOf       int64         // the last transaction in the snapshot that the counter was loaded from
}

// heldOn sums up the open reservations of one day.
type heldOn struct {
	day    int32
	amount ledger.Amount
	free   int64
	calls  int
}

// The subjects of spend counters.
const (
	ofLineage = iota // a lineage of keys, at all servers
	ofAccount        // an account, at all servers
	ofServer         // an account at one server
	counterCount
)

// counterKey identifies a spendCounter.
type counterKey struct {
	of      uint8
	test    bool
	account int64  // the number (account.n) of the account; 0 for a lineage
	name    string // the name of the lineage or of the server; "" for a whole account
}

func (k counterKey) subject() string {
	balance := ":live"
	if k.test {
		balance = ":test"
	}
	switch k.of {
	case ofLineage:
		return "key:" + k.name
	case ofAccount:
		return "account:" + strconv.FormatInt(k.account, 10) + balance
	default:
		return "server:" + strconv.FormatInt(k.account, 10) + balance + ":" + k.name
	}
}

// counterKeys returns the keys of the counters that count a charge.
func counterKeys(payer int64, lineage, server string, test bool) [counterCount]counterKey {
	return [counterCount]counterKey{
		ofLineage: {of: ofLineage, name: lineage},
		ofAccount: {of: ofAccount, account: payer, test: test},
		ofServer:  {of: ofServer, account: payer, test: test, name: server},
	}
}

// countersOf returns the counters that count a charge. The mutex of books must be
// locked.
func (b *books) countersOf(payer int64, lineage, server string, test bool) (ms [counterCount]*spendCounter) {
	for i, k := range counterKeys(payer, lineage, server, test) {
		sc := b.counters[k]
		if sc == nil {
			subject := k.subject()
			if sc = b.loaded[subject]; sc == nil {
				sc = &spendCounter{subject: subject}
			}
			delete(b.loaded, subject)
			b.counters[k] = sc
		}
		ms[i] = sc
	}
	return ms
}

// today returns the day that new reservations count towards. If the clock is set
// back to the day before, that day does not begin again, because its caps would
// restart. If the clock is set back further, it must have been wrong before, and the
// day that it shows now applies.
func (b *books) today(now time.Time) int32 {
	day := ledger.Day(now)
	if day != b.day-1 {
		b.day = day
	}
	return b.day
}

// lastDay returns the latest day of any counter. After a restart, new reservations
// count towards this day even if the clock shows the day before.
func (b *books) lastDay() (day int32) {
	for _, sc := range b.loaded {
		day = max(day, sc.day)
	}
	for _, sc := range b.counters {
		day = max(day, sc.day)
	}
	return day
}

// dayOf returns the day that a reservation with these counters counts towards. That
// is today, unless a counter has already begun the next day because the clock was
// days ahead. Such a counter can no longer count today's spending.
func dayOf(ms *[counterCount]*spendCounter, today int32) int32 {
	for _, sc := range ms {
		if sc.day == today+1 {
			return sc.day
		}
	}
	return today
}

// spent returns the spending on the day and in its month.
func (sc *spendCounter) spent(day int32) (onDay, inMonth ledger.Amount) {
	if sc.day == day {
		onDay = sc.spentDay
	}
	if sameMonth(sc.day, day) {
		inMonth = sc.spentMonth
	}
	return onDay, inMonth
}

// holding returns the reserved amounts of the day and of its month.
func (sc *spendCounter) holding(day int32) (onDay, inMonth ledger.Amount) {
	for _, h := range sc.held {
		if h.day == day {
			onDay += h.amount
		}
		if sameMonth(h.day, day) {
			inMonth += h.amount
		}
	}
	return onDay, inMonth
}

// free counts the calls of the day that use a free quota, both captured and
// reserved.
func (sc *spendCounter) free(day int32) int64 {
	var n int64
	if sc.day == day {
		n = sc.freeDay
	}
	for _, h := range sc.held {
		if h.day == day {
			n += h.free
		}
	}
	return n
}

// hold adds a reservation to the counter. The reservation counts towards the given day.
func (sc *spendCounter) hold(day int32, amount ledger.Amount, free int64) {
	for i := range sc.held {
		if sc.held[i].day == day {
			sc.held[i].amount += amount
			sc.held[i].free += free
			sc.held[i].calls++
			return
		}
	}
	sc.held = append(sc.held, heldOn{day: day, amount: amount, free: free, calls: 1})
}

// unhold reverses hold.
func (sc *spendCounter) unhold(day int32, amount ledger.Amount, free int64) {
	for i := range sc.held {
		h := &sc.held[i]
		if h.day != day {
			continue
		}
		h.amount -= amount
		h.free -= free
		if h.calls--; h.calls == 0 {
			sc.held = append(sc.held[:i], sc.held[i+1:]...)
		}
		return
	}
}

func sameMonth(a, b int32) bool { return a == b || ledger.Month(a) == ledger.Month(b) }

// add counts a charge. The two days are those of the charge's reservation and of its
// capture. The result depends only on the charges and their order, so that a replay
// reproduces it.
func (sc *spendCounter) add(day, captured int32, amount ledger.Amount, free int64) {
	switch {
	case day == sc.day:
	case day == sc.day-1, day < sc.day && captured >= sc.day: // the charge was captured after charges of a later day
		if sameMonth(day, sc.day) {
			sc.spentMonth = saturate(sc.spentMonth, amount)
		}
		return
	default: // a new day; or an earlier day, if the clock was ahead and was set right
		if !sameMonth(day, sc.day) {
			sc.spentMonth = 0
		}
		sc.day, sc.spentDay, sc.freeDay = day, 0, 0
	}
	sc.spentDay = saturate(sc.spentDay, amount)
	sc.spentMonth = saturate(sc.spentMonth, amount)
	sc.freeDay += free
}

// saturate adds without overflow. Instead of overflowing, it returns the greatest
// Amount, which exceeds every cap.
func saturate(a, b ledger.Amount) ledger.Amount {
	sum, err := a.Add(b)
	if errors.Is(err, ledger.ErrOverflow) {
		return math.MaxInt64
	}
	return sum
}

// save writes a snapshot of the counter to the file.
func (sc *spendCounter) save(t *tx) error {
	_, err := t.w.stmts.spend.ExecContext(background(), sc.subject, sc.day, int64(sc.spentDay), int64(sc.spentMonth), sc.freeDay, t.w.committed)
	return failure(err)
}

const upsertSpend = `INSERT INTO spend (subject, day, spent_day, spent_month, free_day, as_of) VALUES (?,?,?,?,?,?)
	ON CONFLICT (subject) DO UPDATE SET day = excluded.day, spent_day = excluded.spent_day,
	spent_month = excluded.spent_month, free_day = excluded.free_day, as_of = excluded.as_of`

// loadSpend reads the snapshots of all spend counters.
func (t *tx) loadSpend() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT subject, day, spent_day, spent_month, free_day, as_of FROM spend`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		sc := new(spendCounter)
		if err := rows.Scan(&sc.subject, &sc.day, (*int64)(&sc.spentDay), (*int64)(&sc.spentMonth), &sc.freeDay, &sc.asOf); err != nil {
			return failure(err)
		}
		t.w.books.loaded[sc.subject] = sc
	}
	return failure(rows.Err())
}

// spend is a charge of the open transaction. It is counted after the transaction is
// committed.
type spend struct {
	seq      int64
	id       uuid
	day      int32 // day of the reservation
	captured int32 // day of the capture
	amount   ledger.Amount
	free     int64
	counters [counterCount]*spendCounter // nil in a replay, until countSpend looks the counters up
	payer    int64
	lineage  string
	server   string
	test     bool
	hold     *hold // the hold that was captured; nil in a replay
}

func spendOf(r *row, h *hold) spend {
	s := spend{
		seq: r.seq, id: r.id, day: r.day, captured: ledger.Day(fromMicros(r.at)), amount: r.amount,
		payer: r.debtor, lineage: r.lineage, server: r.server, test: r.test, hold: h,
	}
	if r.waived > 0 {
		s.free = 1
	}
	if h != nil {
		s.counters = h.counters
	}
	return s
}

// countSpend adds a committed charge to its counters. first is the number of the first
// transaction of the commit. The mutex of books must be locked.
func (w *writer) countSpend(s *spend, first int64, now time.Time) {
	if s.hold == nil {
		s.hold = w.books.holds[s.id] // the hold is still there if the capture was in doubt
	}
	if s.counters[ofAccount] == nil {
		s.counters = w.books.countersOf(s.payer, s.lineage, s.server, s.test)
	}
	for i, sc := range s.counters {
		if s.seq <= sc.asOf {
			continue // the snapshot that the counter was loaded from already includes the charge
		}
		before := *sc
		sc.add(s.day, s.captured, s.amount, s.free)
		w.markDirty(sc, first, now)
		if s.hold != nil && s.amount > 0 {
			w.nearCaps(s, i, &before, sc)
		}
	}
}

// nearCaps notes the caps for which this charge raises the spending to the warning
// threshold.
func (w *writer) nearCaps(s *spend, of int, before, after *spendCounter) {
	caps := s.hold.caps(of)
	if caps.Day == 0 && caps.Month == 0 {
		return
	}
	dayBefore, monthBefore := before.spent(s.day)
	dayAfter, monthAfter := after.spent(s.day)
	for _, c := range [...]struct {
		period             ledger.Period
		cap, before, after ledger.Amount
	}{{ledger.PerDay, caps.Day, dayBefore, dayAfter}, {ledger.PerMonth, caps.Month, monthBefore, monthAfter}} {
		if c.cap == 0 {
			continue
		}
		near := s.hold.capOf(of, c.period, c.cap)
		near.Spent, near.Resets = c.after, c.period.Resets(s.day)
		if c.before < near.Near() && near.Spent >= near.Near() {
			w.near = append(w.near, near)
		}
	}
}

// warn calls nearCap for each cap that nearCaps noted. The mutex of books must not be
// locked.
func (w *writer) warn() {
	for _, c := range w.near {
		w.nearCap(c)
	}
	w.near = w.near[:0]
}

// caps returns the caps on the spending of one subject of the hold.
func (h *hold) caps(of int) ledger.Caps {
	switch of {
	case ofLineage:
		return h.terms.Key
	case ofAccount:
		return h.payer.caps
	default:
		return h.terms.Server
	}
}

var holders = [counterCount]ledger.Holder{ofLineage: ledger.HolderKey, ofAccount: ledger.HolderAccount, ofServer: ledger.HolderServer}

// capOf describes a cap of the hold.
func (h *hold) capOf(of int, period ledger.Period, amount ledger.Amount) ledger.Cap {
	return ledger.Cap{
		Holder: holders[of], Period: period, Account: h.order.Account, Lineage: h.order.Lineage,
		Server: h.order.Server, Test: h.order.Test, Amount: amount,
	}
}

// checkCaps returns a *ledger.CapError if the hold's amount would exceed a cap.
func (h *hold) checkCaps() error {
	need := h.order.Amount
	for of := range counterCount {
		caps := h.caps(of)
		if caps == (ledger.Caps{}) {
			continue
		}
		sc := h.counters[of]
		spentDay, spentMonth := sc.spent(h.day)
		heldDay, heldMonth := sc.holding(h.day)
		for _, c := range [...]struct {
			period           ledger.Period
			cap, spent, held ledger.Amount
		}{{ledger.PerCall, caps.Call, 0, 0}, {ledger.PerDay, caps.Day, spentDay, heldDay}, {ledger.PerMonth, caps.Month, spentMonth, heldMonth}} {
			if c.cap == 0 || need <= c.cap-saturate(c.spent, c.held) {
				continue
			}
			e := &ledger.CapError{Cap: h.capOf(of, c.period, c.cap), Needed: need}
			e.Spent, e.Held, e.Resets = c.spent, c.held, c.period.Resets(h.day)
			return e
		}
	}
	return nil
}
