package storetest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runAccounts(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"an account is found by id and by name", accountRoundTrip},
		named{"a name and an id are used once", accountUnique},
		named{"a name may be an address or another system's id, and its case does not matter", accountNames},
		named{"an invalid account is refused", accountInvalid},
		named{"accounts are listed in parts, without the ledger's own", accountPages},
		named{"accounts are sorted by creation and by name, both ways", accountSorts},
		named{"accounts survive a crash", accountCrash},
	)
}

func accountRoundTrip(t *test) {
	want := ledger.Account{
		ID: newID("acct_"), Name: "acme", CreatedAt: t.Now().UTC().Truncate(time.Microsecond), CreditLimit: 7,
	}
	withMoney := want
	withMoney.Live.Posted, withMoney.Test.Reserved = 100, 5
	t.ok(t.Store.CreateAccount(t.ctx, withMoney, t.audit("account.create", want.ID)))
	for _, ref := range []string{want.ID, want.Name} {
		got, err := t.Store.Account(t.ctx, ref)
		t.ok(err)
		t.same(got, want) // the store ignored the balances in withMoney, because balances only come from transactions
	}
	_, err := t.Store.Account(t.ctx, "nobody")
	t.want(err, ledger.ErrNotFound)
	funding, err := t.Store.Account(t.ctx, ledger.Funding)
	t.ok(err)
	if funding.Name != ledger.Funding || funding.Live != (ledger.Balance{}) {
		t.Fatalf("the account of top-ups is %+v", funding)
	}
	if a := t.audits(); len(a) != 1 || a[0].Action != "account.create" || a[0].Target != want.ID {
		t.Fatalf("the audit log is %+v", a)
	}
}

func accountUnique(t *test) {
	id := t.account("acme", 0, 0)
	t.want(t.Store.CreateAccount(t.ctx, ledger.Account{ID: newID("acct_"), Name: "acme"}, t.audit("account.create", "")), ledger.ErrExists)
	t.want(t.Store.CreateAccount(t.ctx, ledger.Account{ID: id, Name: "other"}, t.audit("account.create", "")), ledger.ErrConflict)
	if n := len(t.audits()); n != 1 {
		t.Fatalf("%d audit rows, want the one of the account that was made", n)
	}
}

// accountNames checks that every valid name finds its account in upper and lower
// case, also after a crash. It also checks that no two accounts may have names that
// differ only in case.
func accountNames(t *test) {
	ids := make(map[string]string)
	for _, name := range []string{"Jane.Doe+mcp@Example.com", "o'brien@example.com", "auth0|5f7c8ec7", "user:123", "b64==", "x~y", strings.Repeat("N", ledger.MaxName)} {
		ids[name] = t.account(name, 0, 0)
	}
	for range 2 {
		for name, id := range ids {
			for _, ref := range []string{name, strings.ToLower(name), strings.ToUpper(name), id} {
				got, err := t.Store.Account(t.ctx, ref)
				t.ok(err)
				if got.ID != id || got.Name != name {
					t.Fatalf("%q is account %q, want %q", ref, got.Name, name)
				}
			}
			other := ledger.Account{ID: newID("acct_"), Name: swapCase(name)}
			t.want(t.Store.CreateAccount(t.ctx, other, t.audit("account.create", "")), ledger.ErrExists)
		}
		names, err := t.Store.AccountNames(t.ctx, append(slices.Collect(maps.Values(ids)), newID("acct_"), "user:123", "\x00"))
		t.ok(err)
		if len(names) != len(ids) {
			t.Fatalf("names of %d accounts, want %d: %q", len(names), len(ids), names)
		}
		for name, id := range ids {
			if names[id] != name {
				t.Fatalf("account %s is called %q, want %q", id, names[id], name)
			}
		}
		for _, ref := range []string{"ACCT_" + strings.TrimPrefix(ids["user:123"], "acct_"), "jane.doe mcp@example.com", "user%3A123", "user"} {
			_, err := t.Store.Account(t.ctx, ref)
			t.want(err, ledger.ErrNotFound)
		}
		t.Store = t.Crash()
	}
}

// swapCase returns the name with small letters in place of capital letters, and the
// other way round.
func swapCase(name string) string {
	return strings.Map(func(c rune) rune {
		if up := unicode.ToUpper(c); up != c {
			return up
		}
		return unicode.ToLower(c)
	}, name)
}

func accountInvalid(t *test) {
	for _, a := range []ledger.Account{
		{ID: newID("acct_"), Name: ledger.Funding},
		{ID: newID("acct_"), Name: "acct_x"},
		{ID: newID("acct_"), Name: "Acct_x"},
		{ID: newID("acct_"), Name: "a\u0430"},
		{ID: newID("acct_"), Name: ""},
		{ID: "", Name: "fine"},
		{ID: newID("acct_"), Name: "fine", CreditLimit: -1},
	} {
		t.refused(t.Store.CreateAccount(t.ctx, a, t.audit("account.create", a.ID)), fmt.Sprintf("account %+v", a))
	}
}

func accountPages(t *test) {
	var want, got []string
	for i := range 5 {
		want = append(want, t.account(fmt.Sprintf("a%d", i), 0, 0))
	}
	p := ledger.Page{Limit: 2}
	for {
		list, next, err := t.Store.Accounts(t.ctx, p)
		t.ok(err)
		if len(list) > 2 {
			t.Fatalf("a part has %d accounts, want at most 2", len(list))
		}
		for _, a := range list {
			got = append(got, a.ID)
		}
		if p.After = next; next == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("listed %v, want %v", got, want)
	}
	_, _, err := t.Store.Accounts(t.ctx, ledger.Page{After: "-1"})
	t.refused(err, "a cursor that is none")
}

// accountSorts checks each order of the list of accounts, in parts of several sizes,
// and that a list refuses a cursor that belongs to another order.
func accountSorts(t *test) {
	for _, name := range []string{"b", "D", "a1", "C", "A"} {
		t.account(name, 0, 0)
	}
	cursors := make(map[ledger.Sort]string)
	for by, want := range map[ledger.Sort]string{
		"": "b D a1 C A", ledger.ByCreation: "b D a1 C A", ledger.ByCreationDown: "A C a1 D b",
		ledger.ByName: "A a1 b C D", ledger.ByNameDown: "D C b a1 A",
	} {
		for _, size := range []int{0, 1, 2} {
			var got []string
			for p := (ledger.Page{Limit: size, Sort: by}); ; {
				list, next, err := t.Store.Accounts(t.ctx, p)
				t.ok(err)
				for _, a := range list {
					got = append(got, a.Name)
				}
				if p.After = next; next == "" {
					break
				}
				cursors[by] = next
			}
			if strings.Join(got, " ") != want {
				t.Errorf("by %q in parts of %d: %v, want %s", by, size, got, want)
			}
		}
	}
	for by := range cursors {
		for of, cursor := range cursors {
			if _, _, err := t.Store.Accounts(t.ctx, ledger.Page{Sort: by, After: cursor}); of != by {
				t.want(err, ledger.ErrInvalid)
			}
		}
	}
	for _, by := range []ledger.Sort{"balance", "time", "-"} {
		_, _, err := t.Store.Accounts(t.ctx, ledger.Page{Sort: by})
		t.want(err, ledger.ErrInvalid)
	}
}

func accountCrash(t *test) {
	id := t.account("acme", 12, math.MaxInt64)
	before, err := t.Store.Account(t.ctx, id)
	t.ok(err)
	t.Store = t.Crash()
	after, err := t.Store.Account(t.ctx, "acme")
	t.ok(err)
	t.same(after, before)
	t.want(t.Store.CreateAccount(t.ctx, ledger.Account{ID: newID("acct_"), Name: "acme"}, t.audit("account.create", "")), ledger.ErrExists)
	t.account("next", 0, 0)
	t.balanced(1)
}
