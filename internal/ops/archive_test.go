package ops

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// past creates a store with a charge that was made 500 days ago, and serves the store
// with a clock that shows the current time.
func past(t *testing.T, signer *ledger.Signer) (o *office, charge string) {
	t.Helper()
	options := sqlitestore.Options{Path: filepath.Join(t.TempDir(), "f.db"), Now: func() time.Time { return clock.Now().Add(-500 * 24 * time.Hour) }}
	old, err := sqlitestore.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	order := ledger.Order{Account: ids.New("acct_"), Provider: ids.New("acct_"), Key: "key_1", Lineage: "key_1", Server: "s", Tool: "t", Amount: 100}
	for name, id := range map[string]string{"payer": order.Account, "provider": order.Provider} {
		if err := old.CreateAccount(t.Context(), ledger.Account{ID: id, Name: name, CreditLimit: 1000}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	made := fmt.Sprintf("%012x", options.Now().UnixMilli()) // an id contains the time of its creation
	charge = "chg_" + made[:8] + "-" + made[8:] + strings.TrimPrefix(ids.New("chg_"), "chg_")[13:]
	if _, _, err := old.Charge(t.Context(), charge, order, ledger.Terms{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	options.Now = nil
	o = &office{t: t}
	if o.store, err = sqlitestore.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	service := admin.New(o.store, nil, func() *admin.Settings { return new(admin.Settings) }, clock.Now)
	if signer != nil {
		service.WithSigner(signer)
	}
	server := httptest.NewServer(endpoint(service))
	t.Cleanup(func() {
		server.Close()
		if err := o.store.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Client = &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
	return o, charge
}

// part fetches the next file of the archive.
func (o *office) part(ask admin.ArchiveAsk) (f admin.ArchiveFile, content []byte) {
	o.t.Helper()
	err := o.Fetch(context.Background(), "POST", "ledger/archive/part", ask, nil, func(head json.RawMessage, r io.Reader) error {
		err := json.Unmarshal(head, &f)
		if err == nil {
			content, err = io.ReadAll(io.LimitReader(r, f.Size))
		}
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return f, content
}

// TestArchive checks that the store removes archived transactions only if the caller
// sends the SHA-256 sum of the archive file that contains them. After that, lists must
// count the archived transactions. A repeated removal changes nothing and writes no
// second audit row.
func TestArchive(t *testing.T) {
	signer := ledger.NewSigner([ed25519.SeedSize]byte{1})
	o, charge := past(t, signer)
	o.refused(admin.Invalid, "35 days or more", "POST", "ledger/archive/part", admin.ArchiveAsk{OlderThan: "24h"})
	if f, _ := o.part(admin.ArchiveAsk{OlderThan: "14400h"}); f.Transactions != 0 || f.Name != "" {
		t.Errorf("%+v is of 600 days ago", f)
	}
	f, content := o.part(admin.ArchiveAsk{})
	seal, err := archive.Read(bytes.NewReader(content), ledger.ReceiptKeys{signer.Public()}, archive.Visitor{})
	if err != nil || seal.Sum != f.Sum || f.Transactions != 1 || f.Charges != 1 || f.Name != ledger.ArchiveName(1) {
		t.Fatalf("%+v, %+v: %v", f, seal, err)
	}
	for _, wrong := range []admin.ArchiveTake{{Number: 1, Last: f.Last, Sum: strings.Repeat("0", 64)}, {Number: 2, Last: f.Last, Sum: f.Sum}, {Number: 1, Last: f.Last + 1, Sum: f.Sum}} {
		o.refused(admin.Conflict, "nothing was taken out", "POST", "ledger/archive", wrong)
	}
	if got := do[admin.ChargeView](o, "GET", "charges/"+charge, nil); got.ID != charge {
		t.Errorf("%+v", got)
	}
	for range 2 {
		if got := do[admin.ArchivedView](o, "POST", "ledger/archive", admin.ArchiveTake{Number: 1, Last: f.Last, Sum: f.Sum}); got.Files != 1 || got.Transactions != 1 || got.Sum != f.Sum {
			t.Errorf("%+v", got)
		}
	}
	o.refused(admin.NotFound, ledger.ArchiveName(1), "GET", "charges/"+charge, nil)
	o.refused(admin.Invalid, "cannot be refunded any more", "POST", "charges/"+charge+"/refunds", map[string]string{"reason": "late"})
	if got := do[admin.List[admin.ChargeView]](o, "GET", "charges", nil); len(got.Items) != 0 || got.Archived != 1 {
		t.Errorf("%+v", got)
	}
	if got := do[admin.JournalView](o, "GET", "journal", nil); len(got.Items) != 0 || got.Archived != 1 {
		t.Errorf("%+v", got)
	}
	if got := do[admin.VerificationView](o, "POST", "ledger/verify", nil); len(got.Differences) != 0 || got.Archived == nil || got.Archived.Sum != f.Sum {
		t.Errorf("%+v", got)
	}
	rows := 0
	for _, a := range do[admin.List[admin.AuditView]](o, "GET", "audit", nil).Items {
		if a.Action == "ledger.archive" && a.Target == f.Name {
			rows++
		}
	}
	if rows != 1 {
		t.Errorf("%d audit rows, want 1", rows)
	}
}

// TestArchiveWithoutSigner checks that archiving is refused if the service has no
// signer.
func TestArchiveWithoutSigner(t *testing.T) {
	o, _ := past(t, nil)
	o.refused(admin.Unavailable, "key that signs receipts", "POST", "ledger/archive/part", admin.ArchiveAsk{})
	o.refused(admin.Unavailable, "key that signs receipts", "POST", "ledger/archive", admin.ArchiveTake{})
}
