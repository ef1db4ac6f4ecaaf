package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runCharges(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"charges are listed by each field of the filter", chargeFilters},
		named{"charges are listed in the order of the journal, too", chargeSorts},
		named{"a provider's earnings are all charges that it earned, from every payer at every server", chargeEarnings},
		named{"usage is the spending of an account and of a lineage in the day and the month", accountUsage},
	)
}

// charged makes a charge and returns it as listings do.
func (t *test) charged(o ledger.Order) ledger.Charge {
	t.Helper()
	c, _, err := t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil)
	t.ok(err)
	return t.made(c)
}

// listed checks that a listing with the filter f returns exactly those of the given
// charges for which admits returns true. It reads the listing in parts of several
// sizes.
func (t *test) listed(what string, f ledger.ChargeFilter, all []ledger.Charge, admits func(*ledger.Charge) bool) {
	t.Helper()
	var want []string
	for _, c := range all {
		if admits(&c) {
			want = append(want, c.ID)
		}
	}
	for _, f.Limit = range []int{0, 1, 3} {
		var got []string
		for _, c := range t.charges(f) {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s, in parts of %d: listed %d charges, want %d: %v, want %v", what, f.Size(), len(got), len(want), got, want)
		}
	}
}

// chargeFilters checks that each field of a filter works alone and together with the
// others.
func chargeFilters(t *test) {
	payers := []string{t.account("alice", ledger.Unit, 0), t.account("bob", ledger.Unit, 0)}
	earners := []string{t.account("acme", 0, 0), t.account("other", 0, 0)}
	var all []ledger.Charge // newest first
	for i := range 24 {
		o := order(payers[i%2], earners[i/2%2], price)
		o.Key, o.Server = fmt.Sprintf("key_%d", i%3), "weather"
		if i%4 == 3 {
			o.Server, o.Tool = "maps", "tool \"ö\""
		}
		all = append([]ledger.Charge{t.charged(o)}, all...)
		if i%6 == 0 { // make a refund, which listings of charges must skip
			refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: all[0].ID, Amount: 1}
			_, _, err := t.Store.PostTransaction(t.ctx, refund, t.audit("refund", all[0].ID))
			t.ok(err)
		}
		t.Advance(time.Second)
	}
	since, until := all[15].At, all[4].At
	for _, tt := range []struct {
		name   string
		f      ledger.ChargeFilter
		admits func(*ledger.Charge) bool
	}{
		{"all", ledger.ChargeFilter{}, func(*ledger.Charge) bool { return true }},
		{"of a payer", ledger.ChargeFilter{Account: payers[1]}, func(c *ledger.Charge) bool { return c.Account == payers[1] }},
		{"of a provider", ledger.ChargeFilter{Provider: earners[1]}, func(c *ledger.Charge) bool { return c.Provider == earners[1] }},
		{"of both", ledger.ChargeFilter{Account: payers[0], Provider: earners[1]}, func(c *ledger.Charge) bool { return c.Account == payers[0] && c.Provider == earners[1] }},
		{"of who earns only", ledger.ChargeFilter{Account: earners[0]}, func(*ledger.Charge) bool { return false }},
		{"of who pays only", ledger.ChargeFilter{Provider: payers[0]}, func(*ledger.Charge) bool { return false }},
		{"by a key", ledger.ChargeFilter{Key: "key_2"}, func(c *ledger.Charge) bool { return c.Key == "key_2" }},
		{"by a key that is not there", ledger.ChargeFilter{Key: "key_"}, func(*ledger.Charge) bool { return false }},
		{"at a server", ledger.ChargeFilter{Server: "maps"}, func(c *ledger.Charge) bool { return c.Server == "maps" }},
		{"of a tool", ledger.ChargeFilter{Tool: "tool \"ö\""}, func(c *ledger.Charge) bool { return c.Tool == "tool \"ö\"" }},
		{"of a pattern, which is none", ledger.ChargeFilter{Tool: "%"}, func(*ledger.Charge) bool { return false }},
		{"since", ledger.ChargeFilter{Since: since}, func(c *ledger.Charge) bool { return !c.At.Before(since) }},
		{"until", ledger.ChargeFilter{Until: until}, func(c *ledger.Charge) bool { return c.At.Before(until) }},
		{"in a time", ledger.ChargeFilter{Since: since, Until: until}, func(c *ledger.Charge) bool { return !c.At.Before(since) && c.At.Before(until) }},
		{"in no time", ledger.ChargeFilter{Since: until, Until: since}, func(*ledger.Charge) bool { return false }},
		{
			"of all", ledger.ChargeFilter{Account: payers[1], Provider: earners[1], Key: "key_0", Server: "maps", Tool: "tool \"ö\"", Since: since, Until: until},
			func(c *ledger.Charge) bool {
				return c.Account == payers[1] && c.Provider == earners[1] && c.Key == "key_0" && c.Server == "maps" && !c.At.Before(since) && c.At.Before(until)
			},
		},
	} {
		t.listed(tt.name, tt.f, all, tt.admits)
	}
	for _, f := range []ledger.ChargeFilter{{Provider: newID("acct_")}, {Account: newID("acct_"), Provider: earners[0]}} {
		_, _, err := t.Store.Charges(t.ctx, f)
		t.want(err, ledger.ErrNotFound)
	}
	for _, f := range []ledger.ChargeFilter{{Provider: earners[0]}, {Key: "key_1"}} {
		f.After = "x"
		_, _, err := t.Store.Charges(t.ctx, f)
		t.want(err, ledger.ErrInvalid)
	}
}

// chargeEarnings checks that all charges of a provider are listed, even with other
// transactions of the account between them, also after a crash. A charge of an account
// to itself is listed as paid and as earned.
func chargeEarnings(t *test) {
	payer, earner := t.account("payer", ledger.Unit, 0), t.account("earner", 0, 0)
	var all []ledger.Charge
	for i := range 12 {
		o := order(payer, earner, price)
		switch i % 4 {
		case 1: // the earner pays this charge and gets only the fee
			o.Provider, o.Fee, o.FeeTo = payer, 1, earner
			o.Account = earner
		case 2:
			o.Account = earner
		}
		all = append([]ledger.Charge{t.charged(o)}, all...)
		t.credit(earner, 2*price, false)
	}
	earned := func(c *ledger.Charge) bool { return c.Provider == earner }
	paid := func(c *ledger.Charge) bool { return c.Account == earner }
	for range 2 {
		t.listed("earned", ledger.ChargeFilter{Provider: earner}, all, earned)
		t.listed("paid", ledger.ChargeFilter{Account: earner}, all, paid)
		t.listed("both", ledger.ChargeFilter{Account: earner, Provider: earner}, all, func(c *ledger.Charge) bool { return earned(c) && paid(c) })
		t.Store = t.Crash()
	}
	t.balanced(-1)
}

// accountUsage checks the usage of an account and a lineage in one environment: the
// sums of their charges in the day and in the month, also after a crash.
func accountUsage(t *test) {
	payer, other := t.account("payer", ledger.Unit, 0), t.account("other", ledger.Unit, 0)
	t.credit(payer, ledger.Unit, true)
	of := func(account, lineage string, test bool, want ledger.Usage) {
		t.Helper()
		got, err := t.Store.Usage(t.ctx, account, lineage, test)
		t.ok(err)
		t.same(got, want)
	}
	spent := func(day, month ledger.Amount) ledger.Spent {
		return ledger.Spent{Day: day * price, Month: month * price}
	}
	of(payer, "key_0", false, ledger.Usage{})
	for i, lineage := range []string{"key_0", "key_0", "key_a"} {
		o := order(payer, other, price)
		o.Lineage, o.Server = lineage, []string{"weather", "maps", "bc"}[i]
		t.charged(o)
	}
	test := order(payer, other, 5*price)
	test.Lineage, test.Test = "key_t", true
	t.charged(test)
	theirs := order(other, payer, 7*price)
	theirs.Lineage = "key_o"
	t.charged(theirs)
	_, err := t.Store.Reserve(t.ctx, newID("chg_"), order(payer, other, price), ledger.Terms{}) // an open reservation must not count as spending
	t.ok(err)
	for range 2 {
		of(payer, "key_0", false, ledger.Usage{Account: spent(3, 3), Key: spent(2, 2)})
		of(payer, "key_a", false, ledger.Usage{Account: spent(3, 3), Key: spent(1, 1)})
		of(payer, "key_none", false, ledger.Usage{Account: spent(3, 3)})
		of(payer, "key_t", true, ledger.Usage{Account: spent(5, 5), Key: spent(5, 5)})
		of(other, "key_o", false, ledger.Usage{Account: spent(7, 7), Key: spent(7, 7)})
		t.Store = t.Crash()
	}
	for _, id := range []string{newID("acct_"), "payer", ledger.Funding} {
		_, err := t.Store.Usage(t.ctx, id, "key_0", false)
		t.want(err, ledger.ErrNotFound)
	}
	month := ledger.Month(ledger.Day(t.Now()))
	t.Advance(24 * time.Hour)
	if ledger.Month(ledger.Day(t.Now())) == month {
		of(payer, "key_0", false, ledger.Usage{Account: spent(0, 3), Key: spent(0, 2)})
		t.charged(order(payer, other, price))
		of(payer, "key_0", false, ledger.Usage{Account: spent(1, 4), Key: spent(1, 3)})
	}
	t.Advance(32 * 24 * time.Hour)
	of(payer, "key_0", false, ledger.Usage{})
}

// chargeSorts checks that the list of all charges has both orders, with and without
// filters, and that the list of one account's charges has only one order.
func chargeSorts(t *test) {
	payer, earner := t.account("alice", ledger.Unit, 0), t.account("acme", 0, 0)
	var oldest []ledger.Charge
	for i := range 7 {
		o := order(payer, earner, price)
		o.Tool = fmt.Sprintf("tool_%d", i%2)
		oldest = append(oldest, t.charged(o))
		t.Advance(time.Minute)
	}
	newest := slices.Clone(oldest)
	slices.Reverse(newest)
	any := func(*ledger.Charge) bool { return true }
	up, down := ledger.Page{Sort: ledger.ByTime}, ledger.Page{Sort: ledger.ByTimeDown}
	t.listed("oldest first", ledger.ChargeFilter{Page: up}, oldest, any)
	t.listed("newest first", ledger.ChargeFilter{Page: down}, newest, any)
	t.listed("newest first, of an account", ledger.ChargeFilter{Page: down, Account: payer}, newest, any)
	t.listed("oldest first, for a tool", ledger.ChargeFilter{Page: up, Tool: "tool_1"}, oldest, func(c *ledger.Charge) bool { return c.Tool == "tool_1" })
	until := oldest[4].At
	t.listed("oldest first, until a time", ledger.ChargeFilter{Page: up, Until: until}, oldest, func(c *ledger.Charge) bool { return c.At.Before(until) })
	for _, f := range []ledger.ChargeFilter{{Account: payer}, {Provider: earner}} {
		f.Sort = ledger.ByTime
		_, _, err := t.Store.Charges(t.ctx, f)
		t.want(err, ledger.ErrInvalid)
	}
	up.Limit = 1
	_, next, err := t.Store.Charges(t.ctx, ledger.ChargeFilter{Page: up})
	t.ok(err)
	_, _, err = t.Store.Charges(t.ctx, ledger.ChargeFilter{Page: ledger.Page{After: next}})
	t.want(err, ledger.ErrInvalid)
}
