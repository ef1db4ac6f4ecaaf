package ops

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
)

// TestKeyRate checks that the rate of a key can be set, changed and removed. These
// changes leave the key's caps alone. Other changes and rotations keep the rate.
func TestKeyRate(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	k := do[admin.KeyView](o, "POST", "keys", map[string]any{"account": "alice", "rate": "60/1m burst 100", "caps": map[string]string{"day": "20"}})
	want := keys.Limits{Day: 20_000_000, Rate: keys.Rate{Requests: 60, Per: time.Minute, Burst: 100}}
	path := "keys/" + k.ID
	stored := func(what string) *keys.Limits {
		t.Helper()
		key, err := o.store.Key(context.Background(), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		if key.Limits == nil && want != (keys.Limits{}) || key.Limits != nil && *key.Limits != want {
			t.Errorf("%s: stored %+v, want %+v", what, key.Limits, want)
		}
		return key.Limits
	}
	shows := func(what, rate string, got admin.KeyView) {
		t.Helper()
		if got.Rate != rate {
			t.Errorf("%s: shows %q, want %q", what, got.Rate, rate)
		}
		stored(what)
	}
	shows("made", "60/1m burst 100", k)
	told := len(*o.revoked)
	want.Rate = keys.Rate{Requests: 5, Per: time.Second, Burst: 5}
	shows("changed", "5/1s", do[admin.KeyView](o, "PATCH", path, map[string]any{"rate": "5/1s"}))
	if len(*o.revoked) != told+1 {
		t.Error("the cache was not told of the new rate")
	}
	want.Day, want.Month = 0, 1_000_000
	shows("with other caps", "5/1s", do[admin.KeyView](o, "PATCH", path, map[string]any{"caps": map[string]string{"day": "0", "month": "1"}}))
	shows("renamed", "5/1s", do[admin.KeyView](o, "PATCH", path, map[string]any{"name": "laptop"}))
	if next := do[admin.KeyView](o, "POST", path+"/rotate", admin.Rotation{Grace: "1h"}); next.Rate != "5/1s" || next.Caps == nil {
		t.Errorf("successor %+v", next)
	}
	want.Rate = keys.Rate{}
	shows("taken away", "", do[admin.KeyView](o, "PATCH", path, map[string]any{"rate": "none"}))
	want.Month, want.Rate = 0, keys.Rate{Requests: 1, Per: time.Hour, Burst: 1}
	shows("alone", "1/1h", do[admin.KeyView](o, "PATCH", path, map[string]any{"rate": "1/1h", "caps": map[string]string{"month": "0"}}))
	want = keys.Limits{}
	shows("none left", "", do[admin.KeyView](o, "PATCH", path, map[string]any{"rate": "none"}))
	if stored("none left") != nil {
		t.Error("limits without a limit are stored")
	}
	for _, rate := range []string{"", "fast", "0/1m", "1/1ms", "60/1m burst 0"} {
		o.refused(admin.Invalid, "none takes it away", "PATCH", path, map[string]any{"rate": rate})
		o.refused(admin.Invalid, "none takes it away", "POST", "keys", map[string]any{"account": "alice", "rate": rate})
	}
	if k := do[admin.KeyView](o, "POST", "keys", map[string]any{"account": "alice", "rate": "none"}); k.Rate != "" {
		t.Errorf("made with none, shows %q", k.Rate)
	}
}

// TestListKeys checks that keys can be listed by account, kind and expiry, alone and
// combined, and that invalid filters are refused.
func TestListKeys(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	bob := o.account("bob")
	for _, n := range []admin.NewKey{
		{Account: "alice", Name: "late", ExpiresIn: "480h"},
		{Account: "alice", Name: "soon", ExpiresIn: "24h"},
		{Account: "alice", Name: "personal", ExpiresIn: "48h", Kind: "personal", Scopes: []string{"billing.read"}},
		{Account: "alice", Name: "never"},
		{Account: "bob", Name: "bobs", ExpiresIn: "24h"},
		{Account: "bob", Name: "disabled", ExpiresIn: "24h"},
	} {
		k := do[admin.KeyView](o, "POST", "keys", n)
		if n.Name == "disabled" {
			do[admin.KeyView](o, "POST", "keys/"+k.ID+"/disable", nil)
		}
	}
	for query, want := range map[string][]string{
		"":                                 {"late", "soon", "personal", "never", "bobs", "disabled"},
		"?expiring=":                       {"late", "soon", "personal", "never", "bobs", "disabled"},
		"?expiring=336h":                   {"soon", "personal", "bobs"},
		"?expiring=14d":                    {"soon", "personal", "bobs"},
		"?expiring=25h":                    {"soon", "bobs"},
		"?expiring=1m":                     nil,
		"?kind=personal":                   {"personal"},
		"?kind=agent&expiring=336h":        {"soon", "bobs"},
		"?account=bob":                     {"bobs", "disabled"},
		"?expiring=336h&account=" + bob.ID: {"bobs"},
		"?account=bob&kind=personal":       nil,
	} {
		var got []string
		for _, k := range do[admin.List[admin.KeyView]](o, "GET", "keys"+query, nil).Items {
			got = append(got, k.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: listed %q, want %q", query, got, want)
		}
	}
	first := do[admin.List[admin.KeyView]](o, "GET", "keys?expiring=336h&limit=2", nil)
	rest := do[admin.List[admin.KeyView]](o, "GET", "keys?expiring=336h&limit=2&after="+first.Next, nil)
	if len(first.Items) != 2 || len(rest.Items) != 1 || rest.Items[0].Name != "bobs" || rest.Next != "" {
		t.Errorf("in parts: %+v, %+v", first, rest)
	}
	for query, words := range map[string]string{
		"expiring=14days": "not a time from now", "expiring=0s": "not a time from now", "expiring=-1h": "not a time from now",
		"kind=root": `unknown kind of key "root": want one of agent`,
	} {
		o.refused(admin.Invalid, words, "GET", "keys?"+query, nil)
	}
	o.refused(admin.NotFound, "nobody", "GET", "keys?account=nobody&expiring=1h", nil)
}
