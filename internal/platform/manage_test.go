package platform

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestManageKeys follows a key through the API. The secret is only in the response to
// the creation of the key. Each change takes effect at once. The audit log names the
// key that made the request.
func TestManageKeys(t *testing.T) {
	s := newSite(t)
	made := do[admin.KeyView](s, 201, "admin", "POST", "/keys", admin.NewKey{Account: "alice", Name: "laptop"})
	if _, err := keys.Parse(made.Secret); err != nil || made.Kind != "agent" || made.State != "active" {
		t.Fatalf("%+v", made)
	}
	s.secrets["laptop"], s.ids["laptop"] = made.Secret, made.ID
	path := "/keys/" + made.ID
	for _, at := range []string{path, "/keys", "/keys?account=alice", "/audit"} {
		if r := s.send("admin", "GET", at, nil); r.status != 200 || strings.Contains(string(r.body), made.Secret) || !strings.Contains(string(r.body), made.ID) {
			t.Errorf("%s: %d %s", at, r.status, r.body)
		}
	}
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("laptop"))
	do[admin.KeyView](s, 200, "admin", "POST", path+"/disable", nil)
	s.refused(401, wire.TokenInvalid, "provider", "POST", "/charge", s.request("laptop"))
	do[admin.KeyView](s, 200, "admin", "POST", path+"/enable", nil)
	name, servers := "notebook", []string{"weather"}
	if k := do[admin.KeyView](s, 200, "admin", "PATCH", path, admin.KeyChange{Name: &name, Servers: &servers}); k.Name != name || !slices.Equal(k.Servers, servers) {
		t.Errorf("%+v", k)
	}
	next := do[admin.KeyView](s, 201, "admin", "POST", path+"/rotate", admin.Rotation{Grace: "1h"})
	if next.Secret == "" || next.Secret == made.Secret || next.Lineage != made.ID {
		t.Errorf("%+v", next)
	}
	if k := do[admin.KeyView](s, 200, "admin", "DELETE", path, nil); k.State != "deleted" {
		t.Errorf("%+v", k)
	}
	s.refused(422, wire.Invalid, "admin", "POST", path+"/enable", nil)
	s.refused(404, wire.NotFound, "admin", "GET", "/keys/key_1", nil)
	s.refused(404, wire.NotFound, "admin", "POST", "/keys", admin.NewKey{Account: "nobody"})
	s.refused(422, wire.Invalid, "admin", "POST", "/keys", admin.NewKey{Account: "alice", Kind: "root"})
	audit := do[admin.List[admin.AuditView]](s, 200, "admin", "GET", "/audit?limit=1", nil)
	if len(audit.Items) != 1 || audit.Items[0].Actor != s.ids["admin"] || audit.Items[0].From != "192.0.2.1" || audit.Items[0].Action != "key.delete" || audit.Next == "" {
		t.Errorf("%+v", audit)
	}
}

// TestManageMoney checks accounts, credits, charges and the verification of the books
// through the API.
func TestManageMoney(t *testing.T) {
	s := newSite(t)
	bob := do[admin.AccountView](s, 201, "admin", "POST", "/accounts", `{"name":"bob","credit_limit":"1.00"}`)
	if bob.Name != "bob" || bob.CreditLimit != 1_000_000 {
		t.Errorf("%+v", bob)
	}
	s.refused(409, wire.Exists, "admin", "POST", "/accounts", admin.NewAccount{Name: "bob"})
	s.refused(422, wire.Invalid, "admin", "POST", "/accounts", admin.NewAccount{Name: "@bob"})
	credit := admin.Credit{ID: ids.New("txn_"), Amount: 5_000_000, Reason: "paid"}
	for range 2 {
		if a := do[admin.AccountView](s, 200, "admin", "POST", "/accounts/bob/credits", credit); a.Balance != 5_000_000 {
			t.Errorf("%+v", a)
		}
	}
	credit.Amount = 1
	s.refused(409, wire.Conflict, "admin", "POST", "/accounts/bob/credits", credit)
	s.refused(422, wire.Invalid, "admin", "POST", "/accounts/bob/credits", admin.Credit{Amount: -1, Reason: "r"})
	if a := do[admin.AccountView](s, 200, "admin", "POST", "/accounts/"+bob.ID+"/adjustments", admin.Credit{Amount: -1_000_000, Reason: "mistake"}); a.Balance != 4_000_000 {
		t.Errorf("%+v", a)
	}
	if a := do[admin.AccountView](s, 200, "admin", "PATCH", "/accounts/bob", `{"caps":{"day":"2.00"}}`); a.Caps == nil || *a.Caps.Day != 2_000_000 {
		t.Errorf("%+v", a)
	}
	charged := do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))
	if c := do[admin.ChargeView](s, 200, "admin", "GET", "/charges/"+charged.ID, nil); c.Amount != 100_000 || c.Server != "weather" || c.Fee != 2_500 {
		t.Errorf("%+v", c)
	}
	part := admin.Refund{Amount: amount("0.04"), Reason: "slow"}
	if r := do[admin.ChargeView](s, 200, "admin", "POST", "/charges/"+charged.ID+"/refunds", part); r.Refunded != 40_000 || r.ID != charged.ID {
		t.Errorf("%+v", r)
	}
	part.Amount = amount("0.060001")
	s.refused(422, wire.Invalid, "admin", "POST", "/charges/"+charged.ID+"/refunds", part)
	part.Amount = amount("-0.000001")
	s.refused(422, wire.Invalid, "admin", "POST", "/charges/"+charged.ID+"/refunds", part)
	s.refused(422, wire.Invalid, "admin", "POST", "/charges/"+charged.ID+"/refunds", admin.Refund{Reason: " "})
	s.refused(404, wire.NotFound, "admin", "POST", "/charges/"+ids.New("chg_")+"/refunds", admin.Refund{Reason: "r"})
	if l := do[admin.List[admin.ChargeView]](s, 200, "admin", "GET", "/charges?account=alice", nil); len(l.Items) != 1 || l.Items[0].Refunded != 40_000 {
		t.Errorf("%+v", l)
	}
	first := do[admin.JournalView](s, 200, "admin", "GET", "/journal?limit=2", nil)
	second := do[admin.JournalView](s, 200, "admin", "GET", "/journal?limit=2&after="+first.Next, nil)
	if len(first.Items) != 2 || first.Total < 5 || len(second.Items) != 2 || second.Total != 0 || second.Items[0].ID == first.Items[0].ID {
		t.Errorf("%+v, then %+v", first, second)
	}
	if v := do[admin.VerificationView](s, 200, "admin", "POST", "/ledger/verify", nil); len(v.Differences) != 0 || v.Transactions != first.Total {
		t.Errorf("%+v", v)
	}
}

// TestOddNames checks that an e-mail address, or an id from another system, works as
// an account name in paths and queries.
func TestOddNames(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"Jane.Doe+mcp@Example.com", "auth0|5f7c8ec7", "user:123", "o'brien@example.com", strings.Repeat("n", ledger.MaxName)} {
		a := do[admin.AccountView](s, 201, "admin", "POST", "/accounts", admin.NewAccount{Name: name})
		if got := do[admin.AccountView](s, 200, "admin", "GET", "/accounts/"+url.PathEscape(name), nil); got.ID != a.ID || got.Name != name {
			t.Errorf("%s: %+v", name, got)
		}
		k := do[admin.KeyView](s, 201, "admin", "POST", "/keys", admin.NewKey{Account: name})
		if got := do[admin.List[admin.KeyView]](s, 200, "admin", "GET", "/keys?account="+url.QueryEscape(name), nil); len(got.Items) != 1 || got.Items[0].ID != k.ID {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestStoreDown checks that every request is refused while the store is down, and
// that the log gives the reason.
func TestStoreDown(t *testing.T) {
	s := newSite(t)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.endpoints() {
		kind := strings.Fields(e.kinds)[0]
		p := s.refused(503, wire.Unavailable, kind, e.method, e.url(), e.body)
		if p.Detail != "" {
			t.Errorf("%+v", p)
		}
	}
	if !strings.Contains(s.logged.String(), "operation=authenticate") {
		t.Errorf("logged: %s", s.logged)
	}
}
