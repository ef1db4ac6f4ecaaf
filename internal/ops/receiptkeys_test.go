package ops

import (
	"context"
	"crypto/ed25519"
	"net/http/httptest"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestReceiptKeysAreServed checks that a service serves its public receipt keys as a
// JWK set. A service without receipt keys refuses the request.
func TestReceiptKeysAreServed(t *testing.T) {
	o := newOffice(t)
	o.refused(admin.Unavailable, "no receipt keys", "GET", "receipt-keys", nil)

	known := ledger.ReceiptKeys{
		ledger.NewSigner([ed25519.SeedSize]byte{1}).Public(), ledger.NewSigner([ed25519.SeedSize]byte{2}).Public(),
	}
	service := admin.New(o.store, nil, func() *admin.Settings { return new(admin.Settings) }, clock.Now).WithReceiptKeys(known)
	server := httptest.NewServer(endpoint(service))
	defer server.Close()
	client := Client{HTTP: server.Client(), Host: server.Listener.Addr().String()}
	raw, err := client.Do(context.Background(), "GET", "receipt-keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	served, ignored, err := ledger.ParseReceiptKeys(raw)
	if err != nil || ignored != 0 || len(served) != 2 || !served[0].Equal(known[0]) || !served[1].Equal(known[1]) {
		t.Errorf("%s: %v", raw, err)
	}
}
