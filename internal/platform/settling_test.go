package platform

import (
	"net/http"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestSettlingKeepsToTheEnvironment checks that a charge without a reservation moves
// only credits that a reservation could hold. With a test key, a gateway moves only
// test credits. A key pays nothing at a server that does not admit the key's
// environment.
func TestSettlingKeepsToTheEnvironment(t *testing.T) {
	s := newSite(t)
	for name, k := range map[string]admin.NewKey{
		"test gateway": {Account: "operator", Kind: "gateway", Servers: []string{"weather"}, Test: true},
		"prod gateway": {Account: "operator", Kind: "gateway", Servers: []string{"prod"}},
	} {
		_, secret, err := s.service.CreateKey(t.Context(), admin.Actor{}, k)
		if err != nil {
			t.Fatal(err)
		}
		s.secrets[name] = secret
	}
	live, test := s.order("agent"), s.order("test agent")
	test.Server = "prod"
	for gateway, o := range map[string]wire.Order{"test gateway": live, "prod gateway": test} {
		p := s.refused(http.StatusUnauthorized, wire.TokenInvalid, gateway, "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o})
		if p.Field != "proof" { // the platform gave these gateways no proof of the keys in the orders
			t.Errorf("%s: refused for %q, want the proof of the paying key", gateway, p.Field)
		}
	}
	if l, st := s.available("alice", false), s.available("alice", true); l != "10.00" || st != "10.00" {
		t.Errorf("alice has %s live and %s test credits, want 10.00 of each", l, st)
	}
	o := s.orderBy("test gateway", "weather", "test agent")
	got := do[wire.Captured](s, http.StatusOK, "test gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o})
	if !got.Charge.Test {
		t.Errorf("a test agent paid by a test gateway: %+v", got.Charge)
	}
}

// TestRefundTakesNoDerivedID checks that no refund, credit or adjustment can take the
// id that a provider's charge will derive from its idempotency key.
func TestRefundTakesNoDerivedID(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	c := do[wire.Captured](s, http.StatusOK, "gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o})
	derived := derivedID(&keys.Key{Account: s.accounts["acme"], Environment: keys.Live}, "invoice-1")
	id := txnPrefix + derived[len(chargePrefix):]
	s.refused(http.StatusUnprocessableEntity, wire.Invalid, "gateway", "POST", "/reservations/"+c.Charge.ID+"/refund", OwnRefund{ID: id, Amount: new(ledger.Amount(1)), Reason: "r"})
	s.refused(http.StatusUnprocessableEntity, wire.Invalid, "admin", "POST", "/charges/"+c.Charge.ID+"/refunds", admin.Refund{ID: id, Reason: "r"})
	for _, path := range []string{"/accounts/acme/credits", "/accounts/acme/adjustments"} {
		s.refused(http.StatusUnprocessableEntity, wire.Invalid, "admin", "POST", path, admin.Credit{ID: id, Amount: 1, Reason: "r"})
	}
	got := do[Charged](s, http.StatusOK, "provider", "POST", "/charge",
		NewCharge{Token: s.secrets["agent"], Server: "weather", Tool: "t", Amount: 100_000, Key: "invoice-1"})
	if got.ID != derived || got.Amount != ledger.Amount(100_000) {
		t.Errorf("charged %+v, want %s", got, derived)
	}
}

// TestTestKeysTakeNoLiveIdempotencyKey checks that an idempotency key used by a
// provider's test key does not block a live charge with the same idempotency key.
func TestTestKeysTakeNoLiveIdempotencyKey(t *testing.T) {
	s := newSite(t)
	request := NewCharge{Token: s.secrets["test agent"], Server: "weather", Tool: "t", Amount: 100_000, Key: "invoice-1"}
	test := do[Charged](s, http.StatusOK, "test provider", "POST", "/charge", request)
	if again := do[Charged](s, http.StatusOK, "test provider", "POST", "/charge", request); again.ID != test.ID {
		t.Errorf("sent again it is %s, was %s", again.ID, test.ID)
	}
	request.Token = s.secrets["agent"]
	do[Charged](s, http.StatusOK, "provider", "POST", "/charge", request)
	if live, test := s.available("alice", false), s.available("alice", true); live != "9.90" || test != "9.90" {
		t.Errorf("alice has %s live and %s test credits, want 9.90 of each", live, test)
	}
}
