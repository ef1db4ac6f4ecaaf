package platform

import (
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestBalance checks that the holder of a key gets the balance, the caps and the
// usage of the key's own account, and only for the environment of the key.
func TestBalance(t *testing.T) {
	s := newSite(t)
	do[admin.AccountView](s, 200, "admin", "PATCH", "/accounts/alice", `{"credit_limit":"1.00","caps":{"day":"2.00"}}`)
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))           // a charge of 0.10
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("personal"))        // a charge of 0.10 for another key of alice
	do[Charged](s, 200, "test provider", "POST", "/charge", s.request("test agent")) // a test charge, which must not count as spending of live credits
	b := do[Balance](s, 200, "agent", "GET", "/balance", nil)
	if b.Account != s.accounts["alice"] || b.AccountName != "alice" || b.Environment != "live" || b.Currency != "USD" ||
		b.Balance != 9_800_000 || b.Reserved != 0 || b.Available != 9_800_000 || b.CreditLimit != 1_000_000 || b.Caps == nil || *b.Caps.Day != 2_000_000 || b.Caps.Month != nil ||
		b.Spent != (Spent{200_000, 200_000}) || b.Key.ID != s.ids["agent"] || b.Key.Name != "agent" || b.Key.Caps != nil || b.Key.Spent != (Spent{100_000, 100_000}) || b.Key.ExpiresAt != nil {
		t.Errorf("%+v", b)
	}
	if b := do[Balance](s, 200, "test agent", "GET", "/balance", nil); b.Environment != "test" || b.Balance != 9_900_000 || b.CreditLimit != 0 ||
		b.Spent != (Spent{100_000, 100_000}) || b.Key.Spent != b.Spent {
		t.Errorf("%+v", b)
	}
	if b := do[Balance](s, 200, "personal", "GET", "/balance", nil); b.Key.ID != s.ids["personal"] || b.Key.ExpiresAt == nil || b.Spent.Day != 200_000 {
		t.Errorf("%+v", b)
	}
	if b := do[Balance](s, 200, "capped agent", "GET", "/balance", nil); b.Key.Caps == nil || *b.Key.Caps.Call != 50_000 || b.Key.Spent != (Spent{}) {
		t.Errorf("%+v", b)
	}
}

// TestBalanceIsOnesOwn checks that the balance is always that of the key's own
// account, whatever else the request asks for. A client without a key that may spend
// gets no balance.
func TestBalanceIsOnesOwn(t *testing.T) {
	s := newSite(t)
	if b := do[Balance](s, 200, "poor agent", "GET", "/balance", nil); b.Account != s.accounts["poor"] || b.Balance != 0 || b.Spent != (Spent{}) {
		t.Errorf("%+v", b)
	}
	for _, query := range []string{"?account=alice", "?account=" + s.accounts["alice"], "?key=" + s.ids["agent"]} {
		p := s.refused(422, wire.Invalid, "poor agent", "GET", "/balance"+query, nil)
		if strings.Contains(p.Detail, "alice") {
			t.Errorf("%+v", p)
		}
	}
	for _, path := range []string{"/balance/alice", "/balance/" + s.accounts["alice"]} {
		s.refused(404, wire.NotFound, "poor agent", "GET", path, nil)
	}
	for _, path := range []string{"/accounts/alice", "/accounts/poor", "/charges", "/charges/sum", "/keys"} {
		s.refused(403, wire.KindWrong, "poor agent", "GET", path, nil)
	}
	s.refused(403, wire.KindWrong, "weak personal", "GET", "/balance", nil)
	for _, kind := range []string{"provider", "gateway", "admin"} {
		s.refused(403, wire.KindWrong, kind, "GET", "/balance", nil)
	}
	for _, bad := range []string{"", "nonsense", keys.Mint(keys.Agent, keys.Live)} {
		s.refused(401, wire.TokenInvalid, bad, "GET", "/balance", nil)
	}
	do[admin.KeyView](s, 200, "admin", "DELETE", "/keys/"+s.ids["agent"], nil)
	s.refused(401, wire.TokenInvalid, "agent", "GET", "/balance", nil)
}

// TestBalanceIsLimited checks that the keys of one lineage can ask for their balance
// at most 60 times a minute. Keys of other lineages are not affected.
func TestBalanceIsLimited(t *testing.T) {
	s := newSite(t)
	for range balanceRate.Burst {
		do[Balance](s, 200, "agent", "GET", "/balance", nil)
	}
	s.refused(429, wire.TooMany, "agent", "GET", "/balance", nil)
	do[Balance](s, 200, "personal", "GET", "/balance", nil)
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))
}
