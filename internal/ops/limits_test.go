package ops

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func amountOf(a *ledger.Amount) ledger.Amount {
	if a == nil {
		return -1
	}
	return *a
}

// shows checks that the view has the given caps. An amount of -1 means no cap.
func (o *office) shows(what string, got *admin.Caps, call, day, month ledger.Amount) {
	o.t.Helper()
	if got == nil {
		got = &admin.Caps{}
	}
	if amountOf(got.Call) != call || amountOf(got.Day) != day || amountOf(got.Month) != month {
		o.t.Errorf("%s: caps %s, %s, %s; want %s, %s, %s", what, amountOf(got.Call), amountOf(got.Day), amountOf(got.Month), call, day, month)
	}
}

// pay reserves an order between the two accounts. It returns the error if the store
// refuses the order.
func (o *office) pay(payer, provider string, amount ledger.Amount, terms ledger.Terms) error {
	_, err := o.store.Reserve(context.Background(), ids.New("chg_"), ledger.Order{
		Account: payer, Provider: provider, Key: ids.New("key_"), Lineage: ids.New("key_"), Server: "weather", Tool: "t", Amount: amount,
	}, terms)
	return err
}

// TestAccountLimits checks that the limits of an account are set when it is created,
// and that each limit can be changed alone.
func TestAccountLimits(t *testing.T) {
	o := newOffice(t)
	a := do[admin.AccountView](o, "POST", "accounts", map[string]any{"name": "alice", "credit_limit": "10.00", "caps": map[string]string{"day": "20", "call": "0.05"}})
	if a.CreditLimit != 10_000_000 {
		t.Errorf("credit limit %s", a.CreditLimit)
	}
	o.shows("made", a.Caps, 50_000, 20_000_000, -1)
	acme := o.account("acme")
	o.shows("without any", acme.Caps, -1, -1, -1)

	var capped *ledger.CapError
	if err := o.pay(a.ID, acme.ID, 50_001, ledger.Terms{}); !errors.As(err, &capped) || capped.Holder != ledger.HolderAccount || capped.Period != ledger.PerCall {
		t.Errorf("above the cap for a call: %v", err)
	}
	for _, ref := range []string{"alice", a.ID} {
		got := do[admin.AccountView](o, "PATCH", "accounts/"+ref, map[string]any{"caps": map[string]string{"call": "0", "month": "15"}})
		o.shows("changed by "+ref, got.Caps, -1, 20_000_000, 15_000_000)
		if got.CreditLimit != 10_000_000 {
			t.Errorf("credit limit %s", got.CreditLimit)
		}
	}
	if err := o.pay(a.ID, acme.ID, 10_000_000, ledger.Terms{}); err != nil { // uses all of the credit
		t.Errorf("within the limits: %v", err)
	}
	if err := o.pay(a.ID, acme.ID, 5_000_001, ledger.Terms{}); !errors.As(err, &capped) || capped.Period != ledger.PerMonth || capped.Held != 10_000_000 {
		t.Errorf("above the cap for a month: %v", err)
	}
	if err := o.pay(a.ID, acme.ID, 1, ledger.Terms{}); !errors.Is(err, ledger.ErrInsufficient) {
		t.Errorf("beyond the credit: %v", err)
	}
	if got := do[admin.AccountView](o, "PATCH", "accounts/alice", map[string]any{"credit_limit": "11"}); got.CreditLimit != 11_000_000 || got.Reserved != 10_000_000 {
		t.Errorf("raised: %+v", got)
	}
	if err := o.pay(a.ID, acme.ID, 1, ledger.Terms{}); err != nil {
		t.Errorf("after the limit was raised: %v", err)
	}
	// A limit below the current use blocks further reservations and has no other
	// effect.
	do[admin.AccountView](o, "PATCH", "accounts/alice", map[string]any{"credit_limit": "0.00"})
	if err := o.pay(a.ID, acme.ID, 1, ledger.Terms{}); !errors.Is(err, ledger.ErrInsufficient) {
		t.Errorf("after the limit was lowered: %v", err)
	}
	got := do[admin.AccountView](o, "PATCH", "accounts/alice", map[string]any{"caps": map[string]string{"day": "0", "month": "0"}})
	o.shows("taken away", got.Caps, -1, -1, -1)
	o.shows("shown again", do[admin.AccountView](o, "GET", "accounts/alice", nil).Caps, -1, -1, -1)
}

// TestAccountLimitsRefuse checks that an invalid change is refused, changes nothing
// and leaves no row in the audit log.
func TestAccountLimitsRefuse(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	rows := o.audits()
	for words, change := range map[string]any{
		"nothing to change":                            map[string]any{},
		"nothing to change: give credit_limit or caps": map[string]any{"caps": map[string]any{}},
		"and not null":                                 map[string]any{"credit_limit": nil, "caps": nil},
		"credit limit cannot be below zero: -0.01":     map[string]any{"credit_limit": "-0.01"},
		"cap for a day cannot be below zero: -1.00":    map[string]any{"caps": map[string]string{"day": "-1"}},
		"cap for a month cannot be below zero":         map[string]any{"caps": map[string]string{"month": "-1"}, "credit_limit": "5"},
		"cap for a call cannot be below zero":          map[string]any{"caps": map[string]string{"call": "-0.000001"}},
		"at most six places":                           map[string]any{"caps": map[string]string{"day": "0.0000001"}},
		"unexpected property":                          map[string]any{"caps": map[string]string{"week": "1"}},
		`name: unexpected property`:                    map[string]any{"name": "bob", "credit_limit": "5"},
	} {
		o.refused(admin.Invalid, words, "PATCH", "accounts/alice", change)
	}
	o.refused(admin.NotFound, `no account "bob"`, "PATCH", "accounts/bob", map[string]any{"credit_limit": "5"})
	o.refused(admin.NotFound, "no account", "PATCH", "accounts/@funding", map[string]any{"credit_limit": "5"})
	o.refused(admin.Invalid, "below zero", "POST", "accounts", map[string]any{"name": "bob", "credit_limit": "-5"})
	o.refused(admin.Invalid, "below zero", "POST", "accounts", map[string]any{"name": "bob", "caps": map[string]string{"day": "-5"}})
	o.refused(admin.NotFound, `no account "bob"`, "GET", "accounts/bob", nil)
	if a := do[admin.AccountView](o, "GET", "accounts/alice", nil); a.CreditLimit != 0 || a.Caps != nil {
		t.Errorf("changed to %+v", a)
	}
	if got := o.audits(); len(got) != len(rows) {
		t.Errorf("audit rows %+v", got)
	}
}

func (o *office) audits() []ledger.Audit {
	o.t.Helper()
	rows, _, err := o.store.AuditLog(context.Background(), ledger.AuditFilter{})
	if err != nil {
		o.t.Fatal(err)
	}
	return rows
}

// TestLimitsAreAudited checks that each change of limits writes an audit row with the
// request.
func TestLimitsAreAudited(t *testing.T) {
	o := newOffice(t)
	a := o.account("alice")
	do[admin.AccountView](o, "PATCH", "accounts/alice", map[string]any{"credit_limit": "5", "caps": map[string]string{"day": "0"}})
	row := o.audits()[0]
	if row.Action != "account.update" || row.Target != a.ID || row.Actor != "test" || row.Detail != `{"credit_limit":"5.00","caps":{"day":"0.00"}}` {
		t.Errorf("audit row %+v", row)
	}
}

// TestKeyCaps checks that the caps of a key are set, changed one by one and removed
// like those of an account. A rotation passes the caps to the successor. A change of
// caps reaches the cache. Changes of other properties leave the caps as they are.
func TestKeyCaps(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", map[string]any{"account": "alice", "caps": map[string]string{"day": "20", "call": "0.05"}})
	o.shows("made", k.Caps, 50_000, 20_000_000, -1)
	digest, err := keys.Parse(k.Secret)
	if err != nil {
		t.Fatal(err)
	}
	stored := func() *keys.Limits {
		key, err := o.store.KeyByDigest(context.Background(), digest)
		if err != nil {
			t.Fatal(err)
		}
		return key.Limits
	}
	held := stored()
	if *held != (keys.Limits{Call: 50_000, Day: 20_000_000}) {
		t.Errorf("stored %+v", held)
	}
	path := "keys/" + k.ID
	told := len(*o.revoked)
	o.shows("changed", do[admin.KeyView](o, "PATCH", path, map[string]any{"caps": map[string]string{"call": "0", "month": "300"}}).Caps, -1, 20_000_000, 300_000_000)
	if len(*o.revoked) != told+1 || (*o.revoked)[told] != digest {
		t.Error("the cache was not told of the new caps")
	}
	if *held != (keys.Limits{Call: 50_000, Day: 20_000_000}) {
		t.Errorf("the limits that others hold were altered: %+v", held)
	}
	o.shows("renamed", do[admin.KeyView](o, "PATCH", path, map[string]any{"name": "laptop"}).Caps, -1, 20_000_000, 300_000_000)
	next := do[admin.KeyView](o, "POST", path+"/rotate", admin.Rotation{Grace: "1h"})
	o.shows("successor", next.Caps, -1, 20_000_000, 300_000_000)
	o.shows("taken away", do[admin.KeyView](o, "PATCH", path, map[string]any{"caps": map[string]string{"day": "0", "month": "0"}}).Caps, -1, -1, -1)
	if limits := stored(); limits != nil {
		t.Errorf("stored %+v", limits)
	}
	o.refused(admin.Invalid, "cap for a day cannot be below zero", "PATCH", path, map[string]any{"caps": map[string]string{"day": "-1"}})
	o.refused(admin.Invalid, "cap for a call cannot be below zero", "POST", "keys", map[string]any{"account": "alice", "caps": map[string]string{"call": "-1"}})
}

// TestChargeViews checks that a charge shows its amount, the operator's fee, and
// whether a free quota covered it, both in a list and alone.
func TestChargeViews(t *testing.T) {
	o := newOffice(t)
	alice, acme, operator := o.account("alice"), o.account("acme"), o.account("operator")
	do[admin.AccountView](o, "POST", "accounts/alice/credits", admin.Credit{Amount: 1_000_000, Reason: "x"})
	charge := func(free int64) string {
		t.Helper()
		id := ids.New("chg_")
		_, _, err := o.store.Charge(context.Background(), id, ledger.Order{
			Account: alice.ID, Provider: acme.ID, Key: ids.New("key_"), Lineage: ids.New("key_"), Server: "weather", Tool: "t",
			Amount: 10_000, Fee: 250, FeeTo: operator.ID,
		}, ledger.Terms{FreeCalls: free}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	free, paid := charge(1), charge(1)
	page := do[admin.List[admin.ChargeView]](o, "GET", "charges?account=alice", nil)
	if len(page.Items) != 2 || page.Items[0].ID != paid || page.Items[1].ID != free {
		t.Fatalf("listed %+v", page.Items)
	}
	for i, want := range []admin.ChargeView{{Amount: 10_000, Fee: 250}, {Free: true}} {
		got := page.Items[i]
		if got.Amount != want.Amount || got.Fee != want.Fee || got.Free != want.Free || got.State != "captured" {
			t.Errorf("listed %+v, want %+v", got, want)
		}
		raw, err := o.Do(context.Background(), "GET", "charges/"+got.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		var one admin.ChargeView
		if err := json.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		checkEntries(t, one.Entries, got.Amount, got.Fee)
		if one.Entries = nil; !reflect.DeepEqual(one, got) {
			t.Errorf("shown %s, listed %+v", raw, got)
		}
	}
	for name, want := range map[string]ledger.Amount{"alice": 990_000, "acme": 9_750, "operator": 250} {
		if a := do[admin.AccountView](o, "GET", "accounts/"+name, nil); a.Balance != want {
			t.Errorf("%s has %s, want %s", name, a.Balance, want)
		}
	}
	half := ledger.Amount(5_000)
	do[admin.ChargeView](o, "POST", "charges/"+paid+"/refunds", admin.Refund{Amount: &half, Reason: "late"})
	if a := do[admin.AccountView](o, "GET", "accounts/operator", nil); a.Balance != 125 {
		t.Errorf("after half was refunded the operator has %s", a.Balance)
	}
	o.refused(admin.Invalid, "nothing is left", "POST", "charges/"+free+"/refunds", admin.Refund{Reason: "x"})
	if v := do[admin.VerificationView](o, "POST", "ledger/verify", struct{}{}); len(v.Differences) != 0 {
		t.Errorf("differences %v", v.Differences)
	}
}

// checkEntries checks the entries of a charge: "alice" paid it, "acme" earned it, and
// "operator" got the fee.
func checkEntries(t *testing.T, entries []admin.EntryView, amount, fee ledger.Amount) {
	t.Helper()
	want := map[string]ledger.Amount{"alice": -amount, "acme": amount - fee}
	if fee > 0 {
		want["operator"] = fee
	}
	got := make(map[string]ledger.Amount)
	for _, e := range entries {
		got[e.AccountName] += e.Amount
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the entries are %+v, want %v", entries, want)
	}
}
