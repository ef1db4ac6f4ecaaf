package ops

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
)

// TestAuditIsChosen checks the parameters of the audit log: each parameter selects
// exactly the records that match it, and several parameters together select the records
// that match all of them.
func TestAuditIsChosen(t *testing.T) {
	o := newOffice(t)
	alice := o.account("alice")
	o.account("bob")
	do[admin.AccountView](o, "POST", "accounts/ALICE/credits", admin.Credit{Amount: 1, Reason: "x"})
	key := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice"})
	next := do[admin.KeyView](o, "POST", "keys/"+key.ID+"/rotate", admin.Rotation{})
	do[admin.KeyView](o, "POST", "keys/"+next.ID+"/disable", nil)
	actor := o.audits()[0].Actor
	tomorrow := clock.Now().Add(24 * time.Hour).UTC().Format(time.DateOnly)
	for query, want := range map[string]string{
		"":                                  "key.disable key.rotate key.create account.credit account.create account.create",
		"account=alice":                     "account.credit account.create",
		"account=" + alice.ID:               "account.credit account.create",
		"action=account.create":             "account.create account.create",
		"account=bob&action=account.credit": "",
		"key=" + key.ID:                     "key.rotate key.create",
		"key=" + next.ID:                    "key.disable key.rotate",
		"key=key_none":                      "",
		"target=" + key.ID:                  "key.rotate key.create",
		"target=" + alice.ID + "&action=account.credit": "account.credit",
		"target=nothing":                       "",
		"actor=" + url.QueryEscape(actor):      "key.disable key.rotate key.create account.credit account.create account.create",
		"actor=gateway":                        "",
		"since=1h&until=" + tomorrow:           "key.disable key.rotate key.create account.credit account.create account.create",
		"until=1h":                             "",
		"since=" + tomorrow:                    "",
		"key=" + key.ID + "&action=key.create": "key.create",
	} {
		var actions []string
		for _, a := range do[admin.List[admin.AuditView]](o, "GET", "audit?"+query, nil).Items {
			actions = append(actions, a.Action)
		}
		if got := strings.Join(actions, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, words := range map[string]string{
		"since=yesterday": "neither a time before now", "until=40000d": "until", "key=sk_live_1": "begins with key_",
		"action=delete": "such as key.delete", "account=alice&key=" + key.ID: "a record has one target",
		"target=chg_1&key=" + key.ID: "a record has one target", "account=alice&target=chg_1": "a record has one target",
	} {
		o.refused(admin.Invalid, words, "GET", "audit?"+query, nil)
	}
	o.refused(admin.NotFound, "nobody", "GET", "audit?account=nobody", nil)
	if _, err := o.Do(t.Context(), "GET", "audit?key=sk_live_1", nil); err == nil || strings.Contains(err.Error(), "sk_live_1") {
		t.Errorf("the error repeats a secret: %v", err)
	}
}
