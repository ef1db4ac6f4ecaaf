package ops

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestUsage checks the sums of charges and refunds in reports with every group and
// filter. A filter by a key must match all keys of its lineage. The pages of a report
// must join without gaps, and each invalid filter must get an error that explains it.
func TestUsage(t *testing.T) {
	today := func() time.Time { return clock.Now().UTC().Truncate(24 * time.Hour) }
	for {
		day := today()
		wrong := usageOf(t, day)
		if today() != day {
			continue // the day ended during the test, so a sum may be that of two days
		}
		for _, text := range wrong {
			t.Error(text)
		}
		return
	}
}

// usageOf makes charges and refunds on the given day and asks for reports. It returns a
// line for each wrong report.
func usageOf(t *testing.T, day time.Time) (wrong []string) {
	t.Helper()
	o := newOffice(t)
	alice, acme := o.account("alice"), o.account("acme")
	for _, test := range []bool{false, true} {
		do[admin.AccountView](o, "POST", "accounts/alice/credits", admin.Credit{Amount: 1_000_000, Reason: "x", Test: test})
	}
	key := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"})
	next := do[admin.KeyView](o, "POST", "keys/"+key.ID+"/rotate", admin.Rotation{})
	var first string
	for i, test := range []bool{false, false, false, true} {
		id := ids.New("chg_")
		order := ledger.Order{
			Account: alice.ID, Provider: acme.ID, Key: next.ID, Lineage: key.Lineage, Server: "weather", Tool: fmt.Sprint("tool_", i%2),
			Amount: 10_000, Fee: 250, FeeTo: alice.ID, Test: test,
		}
		if _, _, err := o.store.Charge(context.Background(), id, order, ledger.Terms{}, nil); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = id
		}
	}
	do[admin.ChargeView](o, "POST", "charges/"+first+"/refunds", admin.Refund{Amount: ptr(ledger.Amount(4_000)), Reason: "slow"})

	all := admin.UsageRowView{At: day, Environment: "live", Calls: 3, Charged: 30_000, Refunds: 1, Refunded: 4_000, Fee: 750, FeeReturned: 100, Earned: 25_350}
	for query, want := range map[string]admin.UsageRowView{
		"":                               all,
		"account=alice":                  all,
		"key=" + key.ID:                  all,
		"key=" + next.ID:                 all,
		"provider=ACME&since=7d":         all,
		"group=server":                   with(all, func(r *admin.UsageRowView) { r.Server = "weather" }),
		"group=account&server=weather":   with(all, func(r *admin.UsageRowView) { r.Account, r.AccountName = alice.ID, "alice" }),
		"group=key":                      with(all, func(r *admin.UsageRowView) { r.Account, r.AccountName, r.Key = alice.ID, "alice", key.Lineage }),
		"by=month":                       with(all, func(r *admin.UsageRowView) { r.At = day.AddDate(0, 0, 1-day.Day()) }),
		"environment=test":               {At: day, Environment: "test", Calls: 1, Charged: 10_000, Fee: 250, Earned: 9_750},
		"tool=tool_1&since=" + date(day): {At: day, Environment: "live", Calls: 1, Charged: 10_000, Fee: 250, Earned: 9_750},
		"group=tool&tool=tool_1&limit=1": {At: day, Environment: "live", Server: "weather", Tool: "tool_1", Calls: 1, Charged: 10_000, Fee: 250, Earned: 9_750},
		"group=none&by=day&until=" + url.QueryEscape(clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)): all,
	} {
		got := do[admin.UsageView](o, "GET", "usage?"+query, nil)
		if len(got.Items) != 1 || got.Items[0] != want || !got.Complete || got.AsOf == nil || got.Next != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %+v, want %+v", query, got, want))
		}
	}
	for _, query := range []string{"provider=alice", "key=key_none", "server=maps", "until=" + date(day), "since=" + date(day.Add(24*time.Hour))} {
		if got := do[admin.UsageView](o, "GET", "usage?"+query, nil); len(got.Items) != 0 || got.Items == nil {
			wrong = append(wrong, fmt.Sprintf("%s: %+v, want no rows", query, got))
		}
	}
	var tools []string
	for after := ""; ; {
		page := do[admin.UsageView](o, "GET", "usage?group=tool&limit=1&after="+after, nil)
		for _, r := range page.Items {
			tools = append(tools, r.Tool)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if !slices.Equal(tools, []string{"tool_0", "tool_1"}) {
		wrong = append(wrong, fmt.Sprintf("the pages have %q", tools))
	}
	for query, words := range map[string]string{"since=yesterday": "neither a time before now", "key=sk_live_1": "begins with key_", "after=x": "cursor"} {
		o.refused(admin.Invalid, words, "GET", "usage?"+query, nil)
	}
	for _, query := range []string{"by=week", "group=provider", "environment=both", "limit=501"} {
		if _, err := o.Do(t.Context(), "GET", "usage?"+query, nil); err == nil {
			t.Errorf("%s is accepted", query)
		}
	}
	o.refused(admin.NotFound, "nobody", "GET", "usage?account=nobody", nil)
	if _, err := o.Do(t.Context(), "GET", "usage?key=sk_live_1", nil); err == nil || strings.Contains(err.Error(), "sk_live_1") {
		t.Errorf("a possible secret is repeated: %v", err)
	}
	return wrong
}

func with(r admin.UsageRowView, change func(*admin.UsageRowView)) admin.UsageRowView {
	change(&r)
	return r
}

func date(t time.Time) string { return t.Format(time.DateOnly) }
