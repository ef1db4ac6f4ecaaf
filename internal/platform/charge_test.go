package platform

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

var pageOne = ledger.Page{Limit: 100}

// request returns a request to charge the given agent at the weather server.
func (s *site) request(agent string) NewCharge {
	return NewCharge{Token: s.secrets[agent], Server: "weather", Tool: "get_forecast", Amount: 100_000}
}

// TestCharge checks that a provider can charge an agent, and gets a receipt signed by
// the installation. Test keys pay from the test balance.
func TestCharge(t *testing.T) {
	s := newSite(t)
	c := do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))
	if c.Amount != 100_000 || c.Currency != "USD" || c.Balance != 9_900_000 || !strings.HasPrefix(c.ID, "chg_") {
		t.Errorf("%+v", c)
	}
	r, err := ledger.VerifyReceipt(c.Receipt, s.signer.Public())
	if err != nil || r.Charge != c.ID || r.Amount != 100_000 || r.Payer != s.accounts["alice"] || r.Server != "weather" || r.Tool != "get_forecast" || r.Environment != "live" {
		t.Errorf("%+v, %v", r, err)
	}
	if c := do[Charged](s, 200, "provider", "POST", "/charge", s.request("test agent")); c.Balance != 9_900_000 {
		t.Errorf("%+v", c)
	}
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("personal"))
	if live, test, acme := s.available("alice", false), s.available("alice", true), s.available("acme", false); live != "9.80" || test != "9.90" || acme != "0.195" {
		t.Errorf("alice has %s and %s, acme %s", live, test, acme)
	}
}

// TestChargeRefused checks that every reason not to charge has its own response, and
// that a refusal takes no credits.
func TestChargeRefused(t *testing.T) {
	s := newSite(t)
	deleted := s.request("agent")
	if _, err := s.service.DeleteKey(t.Context(), actorNobody, s.ids["agent"]); err != nil {
		t.Fatal(err)
	}
	change := func(agent string, change func(*NewCharge)) NewCharge {
		c := s.request(agent)
		change(&c)
		return c
	}
	at := func(agent, server string) NewCharge { return change(agent, func(c *NewCharge) { c.Server = server }) }
	for name, c := range map[string]struct {
		by     string
		body   any
		status int
		code   wire.Code
		title  string
		field  string
	}{
		"another provider's server": {"rival", s.request("personal"), 401, wire.TokenInvalid, "Invalid provider key", ""},
		"no such server":            {"provider", at("personal", "nowhere"), 401, wire.TokenInvalid, "Invalid provider key", ""},
		"no server":                 {"provider", at("personal", ""), 401, wire.TokenInvalid, "Invalid provider key", ""},
		"a deleted agent":           {"provider", deleted, 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"no token":                  {"provider", change("personal", func(c *NewCharge) { c.Token = "" }), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"junk":                      {"provider", change("personal", func(c *NewCharge) { c.Token += "0" }), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"not its server":            {"provider", s.request("bound agent"), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"not its environment":       {"provider", at("test agent", "prod"), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"a test provider":           {"test provider", s.request("personal"), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"a test provider, live":     {"test provider", at("test agent", "prod"), 401, wire.TokenInvalid, "Invalid agent token", "token"},
		"a provider's token":        {"provider", s.request("provider"), 403, wire.KindWrong, "The agent's key is of the wrong kind", "token"},
		"an admin's token":          {"provider", s.request("admin"), 403, wire.KindWrong, "The agent's key is of the wrong kind", "token"},
		"a personal token":          {"provider", s.request("weak personal"), 403, wire.KindWrong, "The agent's key is of the wrong kind", "token"},
		"no money":                  {"provider", s.request("poor agent"), 402, wire.InsufficientBalance, "Insufficient balance", ""},
		"a cap":                     {"provider", s.request("capped agent"), 402, wire.SpendingCap, "A spending cap is reached", ""},
		"nothing":                   {"provider", change("personal", func(c *NewCharge) { c.Amount = 0 }), 422, wire.Invalid, "The request is invalid", "body.amount"},
		"less than nothing":         {"provider", change("personal", func(c *NewCharge) { c.Amount = -1 }), 422, wire.Invalid, "The request is invalid", "body.amount"},
		"no tool":                   {"provider", change("personal", func(c *NewCharge) { c.Tool = "" }), 422, wire.Invalid, "The request is invalid", "body.tool"},
		"two lines":                 {"provider", change("personal", func(c *NewCharge) { c.Tool = "a\nb" }), 422, wire.Invalid, "The request is invalid", "body.tool"},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.refused(c.status, c.code, c.by, "POST", "/charge", c.body)
			if p.Title != c.title || p.Field != c.field {
				t.Errorf("%+v", p)
			}
		})
	}
	if list, err := s.service.Charges(t.Context(), admin.ChargeQuery{Page: pageOne}); err != nil || len(list.Items) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
	soon := "1ns"
	if _, err := s.service.UpdateKey(t.Context(), actorNobody, s.ids["personal"], keyChange{ExpiresIn: &soon}); err != nil {
		t.Fatal(err)
	}
	if p := s.refused(401, wire.TokenExpired, "provider", "POST", "/charge", s.request("personal")); p.Field != "token" || p.Title != "Agent token expired" {
		t.Errorf("%+v", p)
	}
}

// TestChargeOnce checks that a retry with the same idempotency key, in the header or in
// the body, gets the first outcome. A retry with other content is refused as a
// conflict. Two providers can use the same idempotency key.
func TestChargeOnce(t *testing.T) {
	s := newSite(t)
	c := s.request("agent")
	first := do[Charged](s, 200, "provider", "POST", "/charge", c, "Idempotency-Key", "order 1")
	c.Key = "order 1"
	for _, headers := range [][]string{nil, {"Idempotency-Key", "order 1"}} {
		if again := do[Charged](s, 200, "provider", "POST", "/charge", c, headers...); again != first {
			t.Errorf("%+v, then %+v", first, again)
		}
	}
	id, err := uuid.Parse(strings.TrimPrefix(first.ID, "chg_"))
	if err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s: %v", first.ID, err)
	}
	s.refused(422, wire.Invalid, "provider", "POST", "/charge", c, "Idempotency-Key", "order 2")
	s.refused(422, wire.Invalid, "provider", "POST", "/charge", s.request("agent"), "Idempotency-Key", "a", "Idempotency-Key", "b")
	s.refused(422, wire.Invalid, "provider", "POST", "/charge", s.request("agent"), "Idempotency-Key", strings.Repeat("é", 200))
	s.refused(422, wire.Invalid, "provider", "POST", "/charge", s.request("agent"), "Idempotency-Key", "")
	other := c
	other.Amount = 5
	s.refused(409, wire.Conflict, "provider", "POST", "/charge", other)
	other = c
	other.Token = s.secrets["personal"]
	s.refused(409, wire.Conflict, "provider", "POST", "/charge", other)
	theirs := c
	theirs.Server = "mail"
	if r := do[Charged](s, 200, "rival", "POST", "/charge", theirs); r.ID == first.ID {
		t.Error("two providers share a key")
	}
	// No other caller can take the id that a provider's charge will get.
	o := s.order("agent")
	o.ID = derivedID(&keys.Key{Account: s.accounts["acme"], Environment: keys.Live}, "order 3")
	s.refused(422, wire.Invalid, "gateway", "POST", "/reservations", o)

	plain := do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))
	if again := do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent")); again.ID == plain.ID {
		t.Error("two requests without a key are one charge")
	}
	if got := s.available("alice", false); got != "9.60" {
		t.Errorf("alice has %s", got)
	}
	// Even with an empty balance, a retry gets the first outcome.
	do[any](s, 200, "admin", "POST", "/accounts/alice/adjustments", admin.Credit{Amount: -9_600_000, Reason: "r"})
	if again := do[Charged](s, 200, "provider", "POST", "/charge", c); again.ID != first.ID || again.Receipt != first.Receipt || again.Balance != 0 {
		t.Errorf("%+v, then %+v", first, again)
	}
}

// TestChargeConcurrently checks that concurrent retries charge only once and all get
// the same outcome. If concurrent requests are for different charges, as many succeed
// as the balance allows.
func TestChargeConcurrently(t *testing.T) {
	s := newSite(t)
	c := s.request("agent")
	c.Key = "once"
	var mu sync.Mutex
	ids, paid, refused := map[string]bool{}, 0, 0
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			r := do[Charged](s, 200, "provider", "POST", "/charge", c)
			mu.Lock()
			defer mu.Unlock()
			ids[r.ID] = true
		})
	}
	all.Wait()
	if got := s.available("alice", false); len(ids) != 1 || got != "9.90" {
		t.Errorf("%d charges, alice has %s", len(ids), got)
	}
	counted := s.counted.Load()
	do[Charged](s, 200, "provider", "POST", "/charge", c)
	if s.counted.Load() != counted || counted == 0 {
		t.Errorf("counted %d times, then %d", counted, s.counted.Load())
	}
	dear := s.request("agent")
	dear.Amount = 990_000
	for range 16 {
		all.Go(func() {
			r := s.send("provider", "POST", "/charge", dear)
			mu.Lock()
			defer mu.Unlock()
			switch r.status {
			case 200:
				paid++
			case 402:
				refused++
			}
		})
	}
	all.Wait()
	if paid != 10 || refused != 6 || s.available("alice", false) != "0.00" {
		t.Errorf("%d paid, %d refused, alice has %s", paid, refused, s.available("alice", false))
	}
}

// TestProviderReserves checks that a provider reserves with the agent's token, and
// can settle only its own reservations.
func TestProviderReserves(t *testing.T) {
	s := newSite(t)
	o := wire.Order{ID: ids.New("chg_"), Token: s.secrets["agent"], Server: "weather", Tool: "t", Amount: 100_000}
	for range 2 {
		do[wire.Reserved](s, 201, "provider", "POST", "/reservations", o)
	}
	other := o
	other.Amount = 5
	s.refused(409, wire.Conflict, "provider", "POST", "/reservations", other)
	s.refused(403, wire.ServerForbidden, "rival", "POST", "/reservations", o)
	s.refused(404, wire.NotFound, "rival", "DELETE", "/reservations/"+o.ID, nil)
	do[ops.None](s, 204, "provider", "POST", "/reservations/"+o.ID+"/renew", nil)
	for range 2 {
		if c := do[wire.Captured](s, 200, "provider", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{}); c.Charge.Account != s.accounts["alice"] || c.Charge.FeeTo == "" {
			t.Errorf("%+v", c)
		}
	}
	lost := o
	lost.ID = ids.New("chg_")
	do[wire.Captured](s, 200, "provider", "POST", "/reservations/"+lost.ID+"/capture", wire.Capture{Order: &lost})
	for member, change := range map[string]func(*wire.Order){
		"body.key":   func(o *wire.Order) { o.Key = s.ids["agent"] },
		"body.token": func(o *wire.Order) { o.Token = "" },
		"body":       func(o *wire.Order) { o.FreeCalls = 1 },
		"body.id":    func(o *wire.Order) { o.ID = "chg_" + strings.Repeat("0", 36) },
	} {
		bad := o
		bad.ID = ids.New("chg_")
		change(&bad)
		if p := s.refused(422, wire.Invalid, "provider", "POST", "/reservations", bad); p.Field != member {
			t.Errorf("%s: %+v", member, p)
		}
	}
	if p := s.refused(401, wire.TokenInvalid, "provider", "POST", "/reservations", wire.Order{ID: ids.New("chg_"), Token: "junk", Server: "weather", Tool: "t", Amount: 1}); p.Field != "token" {
		t.Errorf("%+v", p)
	}
}

// TestRefusalsAreNoUse checks that a successful request counts as a use of two keys:
// the caller's key and the charged agent's key. A refused request does not count as
// a use of any key.
func TestRefusalsAreNoUse(t *testing.T) {
	s := newSite(t)
	s.refused(402, wire.InsufficientBalance, "provider", "POST", "/charge", s.request("poor agent"))
	s.refused(403, wire.KindWrong, "agent", "GET", "/keys", nil)
	s.refused(404, wire.NotFound, "admin", "GET", "/keys/key_1", nil)
	s.refused(401, wire.TokenInvalid, "rival", "POST", "/charge", s.request("agent"))
	s.used.Range(func(id, _ any) bool { t.Errorf("%s was used", id); return true })
	do[Charged](s, 200, "provider", "POST", "/charge", s.request("agent"))
	for name, id := range s.ids {
		_, used := s.used.Load(id)
		if want := name == "provider" || name == "agent"; used != want {
			t.Errorf("%s: used is %t", name, used)
		}
	}
}
