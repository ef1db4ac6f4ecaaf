package sqlitestore

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// meter counts what one subject has spent in the last day and month in which
// it spent anything, and what its reservations hold. The mutex of books guards
// it; only the writer moves what is spent, and writes it to the file.
type spendCounter struct {
	dirt
	subject    string // as the file has it
	day        int32
	spentDay   ledger.Amount
	spentMonth ledger.Amount // in the month of day
	freeDay    int64         // calls that a free quota has paid
	held       []heldOn      // at most one for each day, nearly always none or one
	asOf       int64         // the last transaction in the snapshot that it was loaded from
}

// heldOn is what reservations that were made on one day hold.
type heldOn struct {
	day    int32
	amount ledger.Amount
	free   int64
	calls  int
}

// The subjects of meters.
const (
	ofLineage = iota // of keys, at all servers
	ofAccount        // at all servers
	ofServer         // an account at one server
	counterCount
)

// meterKey names a meter.
type counterKey struct {
	of      uint8
	test    bool
	account int64  // account.n; 0 for a lineage
	name    string // of the lineage or the server
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

// meterKeys names the meters that a charge moves.
func counterKeys(payer int64, lineage, server string, test bool) [counterCount]counterKey {
	return [counterCount]counterKey{
		ofLineage: {of: ofLineage, name: lineage},
		ofAccount: {of: ofAccount, account: payer, test: test},
		ofServer:  {of: ofServer, account: payer, test: test, name: server},
	}
}

// metersOf returns the meters that a charge moves. The caller holds the mutex.
func (b *books) countersOf(payer int64, lineage, server string, test bool) (ms [counterCount]*spendCounter) {
	for i, k := range counterKeys(payer, lineage, server, test) {
		m := b.counters[k]
		if m == nil {
			subject := k.subject()
			if m = b.loaded[subject]; m == nil {
				m = &spendCounter{subject: subject}
			}
			delete(b.loaded, subject)
			b.counters[k] = m
		}
		ms[i] = m
	}
	return ms
}

// today returns the day by which reservations are counted. A clock that is set
// back over midnight by less than a day does not begin the old day again: its
// caps would start anew. One that was a day or more ahead is believed again.
func (b *books) today(now time.Time) int32 {
	day := ledger.Day(now)
	if day != b.day-1 {
		b.day = day
	}
	return b.day
}

// lastDay is the last day of which a meter knows, so that a restart does not
// forget which day has begun.
func (b *books) lastDay() (day int32) {
	for _, m := range b.loaded {
		day = max(day, m.day)
	}
	for _, m := range b.counters {
		day = max(day, m.day)
	}
	return day
}

// dayOf returns the day by which a reservation with these meters is counted. A
// meter that has begun the next day, because the clock was ahead for days,
// does not count the day before it any more.
func dayOf(ms *[counterCount]*spendCounter, today int32) int32 {
	for _, m := range ms {
		if m.day == today+1 {
			return m.day
		}
	}
	return today
}

// spent is what was spent on the day and in its month.
func (m *spendCounter) spent(day int32) (onDay, inMonth ledger.Amount) {
	if m.day == day {
		onDay = m.spentDay
	}
	if sameMonth(m.day, day) {
		inMonth = m.spentMonth
	}
	return onDay, inMonth
}

// holding is what reservations of the day and of its month hold.
func (m *spendCounter) holding(day int32) (onDay, inMonth ledger.Amount) {
	for _, h := range m.held {
		if h.day == day {
			onDay += h.amount
		}
		if sameMonth(h.day, day) {
			inMonth += h.amount
		}
	}
	return onDay, inMonth
}

// free counts the calls of the day that a free quota has paid or is to pay.
func (m *spendCounter) free(day int32) int64 {
	var n int64
	if m.day == day {
		n = m.freeDay
	}
	for _, h := range m.held {
		if h.day == day {
			n += h.free
		}
	}
	return n
}

// hold counts a reservation.
func (m *spendCounter) hold(day int32, amount ledger.Amount, free int64) {
	for i := range m.held {
		if m.held[i].day == day {
			m.held[i].amount += amount
			m.held[i].free += free
			m.held[i].calls++
			return
		}
	}
	m.held = append(m.held, heldOn{day: day, amount: amount, free: free, calls: 1})
}

// unhold takes a reservation back that hold has counted.
func (m *spendCounter) unhold(day int32, amount ledger.Amount, free int64) {
	for i := range m.held {
		h := &m.held[i]
		if h.day != day {
			continue
		}
		h.amount -= amount
		h.free -= free
		if h.calls--; h.calls == 0 {
			m.held = append(m.held[:i], m.held[i+1:]...)
		}
		return
	}
}

func sameMonth(a, b int32) bool { return a == b || ledger.Month(a) == ledger.Month(b) }

// add counts a charge that was reserved on the day, and captured on another. It
// depends on nothing but the charges in their order, so that replaying them
// gives the same.
func (m *spendCounter) add(day, captured int32, amount ledger.Amount, free int64) {
	switch {
	case day == m.day:
	case day == m.day-1, day < m.day && captured >= m.day: // captured after others of a later day
		if sameMonth(day, m.day) {
			m.spentMonth = saturate(m.spentMonth, amount)
		}
		return
	default: // a new day, or the old one because the clock was ahead
		if !sameMonth(day, m.day) {
			m.spentMonth = 0
		}
		m.day, m.spentDay, m.freeDay = day, 0, 0
	}
	m.spentDay = saturate(m.spentDay, amount)
	m.spentMonth = saturate(m.spentMonth, amount)
	m.freeDay += free
}

// saturate adds without overflow: more than an Amount can hold is beyond every
// cap.
func saturate(a, b ledger.Amount) ledger.Amount {
	sum, err := a.Add(b)
	if errors.Is(err, ledger.ErrOverflow) {
		return math.MaxInt64
	}
	return sum
}

// save writes the snapshot.
func (m *spendCounter) save(t *tx) error {
	_, err := t.w.stmts.spend.ExecContext(background(), m.subject, m.day, int64(m.spentDay), int64(m.spentMonth), m.freeDay, t.w.committed)
	return failure(err)
}

const upsertSpend = `INSERT INTO spend (subject, day, spent_day, spent_month, free_day, as_of) VALUES (?,?,?,?,?,?)
	ON CONFLICT (subject) DO UPDATE SET day = excluded.day, spent_day = excluded.spent_day,
	spent_month = excluded.spent_month, free_day = excluded.free_day, as_of = excluded.as_of`

// loadSpend reads all snapshots of meters.
func (t *tx) loadSpend() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT subject, day, spent_day, spent_month, free_day, as_of FROM spend`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		m := new(spendCounter)
		if err := rows.Scan(&m.subject, &m.day, (*int64)(&m.spentDay), (*int64)(&m.spentMonth), &m.freeDay, &m.asOf); err != nil {
			return failure(err)
		}
		t.w.books.loaded[m.subject] = m
	}
	return failure(rows.Err())
}

// spend is a charge of the open transaction that its meters are to count.
type spend struct {
	seq      int64
	id       uuid
	day      int32 // of the reservation
	captured int32 // day
	amount   ledger.Amount
	free     int64
	counters [counterCount]*spendCounter // none in a replay
	payer    int64
	lineage  string
	server   string
	test     bool
	hold     *hold // nil in a replay
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

// count lets the meters count what is committed now, in a commit that began
// with that transaction. The caller holds the mutex.
func (w *writer) countSpend(s *spend, first int64, now time.Time) {
	if s.hold == nil {
		s.hold = w.books.holds[s.id] // its capture was in doubt
	}
	if s.counters[ofAccount] == nil {
		s.counters = w.books.countersOf(s.payer, s.lineage, s.server, s.test)
	}
	for i, m := range s.counters {
		if s.seq <= m.asOf {
			continue // in the snapshot that a replay began with
		}
		before := *m
		m.add(s.day, s.captured, s.amount, s.free)
		w.markDirty(m, first, now)
		if s.hold != nil && s.amount > 0 {
			w.nearCaps(s, i, &before, m)
		}
	}
}

// nearCaps notes the caps of which the charge has now taken so much that a
// warning is due, and had not before.
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

// warn tells of caps that are nearly reached. The caller does not hold the
// mutex.
func (w *writer) warn() {
	for _, c := range w.near {
		w.nearCap(c)
	}
	w.near = w.near[:0]
}

// caps returns the caps that bind what the meter counts.
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

// within reports, as a *ledger.CapError, whether the hold's amount would take
// one of its meters beyond a cap.
func (h *hold) checkCaps() error {
	need := h.order.Amount
	for of := range counterCount {
		caps := h.caps(of)
		if caps == (ledger.Caps{}) {
			continue
		}
		m := h.counters[of]
		spentDay, spentMonth := m.spent(h.day)
		heldDay, heldMonth := m.holding(h.day)
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
