package sqlitestore

import (
	"github.com/fareboxhq/farebox/internal/ledger"
)

// countSpend counts a charge in the verifier's counters, by the rules of the
// store's counters.
func (v *verifier) countSpend(r *row) {
	s := spendOf(r, nil)
	for _, k := range counterKeys(r.debtor, r.lineage, r.server, r.test) {
		v.counterOf(k).add(s.day, s.captured, s.amount, s.free)
	}
}

func (v *verifier) counterOf(k counterKey) *spendCounter {
	m := v.counters[k]
	if m == nil {
		m = new(spendCounter)
		v.counters[k] = m
	}
	return m
}

// holdSpend counts an open reservation in the verifier's counters, by the rules of
// the store's counters.
func (v *verifier) holdSpend(h *hold) {
	for _, k := range counterKeys(h.payer.n, h.order.Lineage, h.order.Server, h.order.Test) {
		v.counterOf(k).hold(h.day, h.paid(), h.freeCalls())
	}
}

// compareCounters compares the store's spend counters with the journal and the open
// reservations.
func (v *verifier) compareCounters(b *books) {
	// whole reports whether the journal still has all charges of the counter's month.
	// The month of archived.LastDay may be archived in part, and earlier months are
	// archived in whole.
	whole := func(m *spendCounter) bool {
		return v.archived.Files == 0 || ledger.Month(m.day) > ledger.Month(v.archived.LastDay)
	}
	known, older := 0, 0
	for _, m := range b.loaded {
		if !whole(m) {
			older++
		}
	}
	for k, want := range v.counters {
		if m := b.loaded[k.subject()]; m != nil && whole(m) {
			known++
		}
		got := b.counters[k]
		if got == nil {
			got = b.loaded[k.subject()]
		}
		if got == nil {
			v.differ("the spending of %s is not in memory", k.subject())
			continue
		}
		if (whole(got) || whole(want)) && (got.day != want.day || got.spentDay != want.spentDay || got.spentMonth != want.spentMonth || got.freeDay != want.freeDay) {
			v.differ("%s: it spent %s and %d free calls on %s, and %s in that month, but the journal gives %s, %d, %s and %s",
				k.subject(), got.spentDay, got.freeDay, dayText(got.day), got.spentMonth,
				want.spentDay, want.freeDay, dayText(want.day), want.spentMonth)
		}
		v.compareHeld(k, got, want)
	}
	for k, got := range b.counters {
		if v.counters[k] == nil {
			v.compareHeld(k, got, new(spendCounter))
			if whole(got) && (got.spentMonth != 0 || got.freeDay != 0) {
				v.differ("%s: it spent %s in a month, but the journal has nothing of it", k.subject(), got.spentMonth)
			}
		}
	}
	if n := len(b.loaded) - known - older; n > 0 {
		v.differ("%d snapshots are of spending that is not in the journal", n)
	}
}

func (v *verifier) compareHeld(k counterKey, got, want *spendCounter) {
	sum := func(m *spendCounter) (h heldOn) {
		for _, one := range m.held {
			h.amount, h.free, h.calls = h.amount+one.amount, h.free+one.free, h.calls+one.calls
		}
		return h
	}
	if sum(got) != sum(want) {
		v.differ("%s: %+v is held, but its reservations hold %+v", k.subject(), sum(got), sum(want))
	}
}

func dayText(day int32) string { return ledger.DayStart(day).Format("2006-01-02") }
