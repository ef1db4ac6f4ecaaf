package storetest

import (
	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// check runs after every step. It checks that the store matches the model and that the
// books balance (promises 3, 4 and 5 of docs/promises.md).
func (m *model) check(r *rapid.T) {
	open := 0
	for _, h := range m.held {
		if h.state == ledger.Reserved {
			open++
		}
	}
	if n := m.Store.OpenReservations(); n != open {
		r.Fatalf("%d reservations are open, want %d", n, open)
	}
	for _, id := range m.accounts {
		m.checkAccount(r, id)
	}
	m.checkJournal(r)
	if n := len(m.audits()); n != m.audited {
		r.Fatalf("%d audit rows, want %d", n, m.audited)
	}
	m.balanced(m.rows)
}

func (m *model) checkAccount(r *rapid.T, id string) {
	a, err := m.Store.Account(m.ctx, id)
	m.expect(r, "account", err, nil)
	if a.CreditLimit != m.limits[id] || a.Caps != m.caps[id] {
		r.Fatalf("account %s has the limits %s and %+v, want %s and %+v", id, a.CreditLimit, a.Caps, m.limits[id], m.caps[id])
	}
	for _, test := range []bool{false, true} {
		p, got := balance{id, test}, a.Balance(test)
		m.balanceIs(r, id, test, got)
		switch below := got.Available() < -m.limitOf(p); {
		case !below:
			m.excused[p] = false
		case !m.excused[p]:
			r.Fatalf("account %s is overdrawn: %+v with a limit of %s", id, got, m.limitOf(p))
		}
	}
	listed := 0
	for _, c := range m.charges(ledger.ChargeFilter{Account: id}) {
		if first := m.paid[c.ID]; first == nil || c != first.Charge || c.Account != id {
			r.Fatalf("listed %+v, want %+v", c, first)
		}
		listed++
	}
	for _, c := range m.paid {
		if c.Account == id {
			listed--
		}
	}
	if listed != 0 {
		r.Fatalf("the list of charges differs by %d", listed)
	}
}

// checkJournal adds up the journal. It checks the balances, the fees, and that the
// journal has each charge exactly once.
func (m *model) checkJournal(r *rapid.T) {
	sums, fees, times := map[balance]ledger.Amount{}, map[string]ledger.Amount{}, map[string]int{}
	var rows int64
	for after := ""; ; {
		part, next, err := m.Store.Journal(m.ctx, ledger.Page{After: after})
		m.expect(r, "journal", err, nil)
		for _, t := range part {
			rows++
			sums[balance{t.Debtor, t.Test}] -= t.Amount
			sums[balance{t.Creditor, t.Test}] += t.Amount
			switch t.Kind {
			case ledger.KindCharge:
				times[t.ID]++
				if c := m.paid[t.ID]; c == nil || t.Amount != c.Paid() || t.Debtor != c.Account || t.Creditor != c.Provider || t.Test != c.Test {
					r.Fatalf("the journal has %+v, want %+v", t, c)
				}
			case ledger.KindFee:
				m.countFee(r, fees, &t)
			}
		}
		if after = next; after == "" {
			break
		}
	}
	for _, test := range []bool{false, true} {
		var sum ledger.Amount
		for p, amount := range sums {
			if p.test == test {
				sum += amount
			}
		}
		if sum != 0 {
			r.Fatalf("all entries sum to %s", sum)
		}
	}
	for p, want := range m.balances {
		if sums[p] != want {
			r.Fatalf("the journal gives %+v %s, want %s", p, sums[p], want)
		}
	}
	for id, c := range m.paid {
		want := c.Fee - c.feeReturned()
		if c.Waived {
			want = 0
		}
		if times[id] != 1 || fees[id] != want {
			r.Fatalf("the journal has charge %s %d times, and the operator %s of its fee, want once and %s", id, times[id], fees[id], want)
		}
	}
	if rows != m.rows {
		r.Fatalf("the journal lists %d transactions, want %d", rows, m.rows)
	}
}

// countFee updates the sums in fees: it adds a fee that went to the operator, and
// subtracts a fee that came back.
func (m *model) countFee(r *rapid.T, fees map[string]ledger.Amount, t *ledger.Transaction) {
	c := m.paid[t.Charge]
	switch {
	case c != nil && t.Debtor == c.Provider && t.Creditor == c.FeeTo:
		fees[t.Charge] += t.Amount
	case c != nil && t.Debtor == c.FeeTo && t.Creditor == c.Provider:
		fees[t.Charge] -= t.Amount
	default:
		r.Fatalf("the journal has the fee %+v of %+v", t, c)
	}
}

// finish crashes the store after a run, and checks that the books still balance.
func (m *model) finish() {
	m.Store = m.Crash()
	m.balanced(m.rows)
}
