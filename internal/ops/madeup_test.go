package ops

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

type greet struct {
	Name string `path:"name" maxLength:"10" doc:"Whom to greet"`
	Body struct {
		Words string `json:"words" doc:"The greeting"`
	}
}

type greeting struct {
	Text string `json:"text"`
	By   string `json:"by"`
}

// madeUp is an operation that is declared in the same way as those of this package.
var madeUp = Define(Operation{
	ID: "made.up", Method: http.MethodPost, Path: "/made-up/{name}", Needs: identity.ManageKeys, Tag: "tests",
	Summary: "Greet", Command: "made up <name>",
}, func(_ context.Context, _ *admin.Service, by *identity.Principal, in *greet) (greeting, error) {
	return greeting{in.Body.Words + ", " + in.Name, by.Subject}, nil
})

// TestMadeUpOperation checks that an operation needs only one declaration. From this
// declaration, the admin endpoint and the API serve the operation, the OpenAPI document
// describes it, and there is a command. A caller without the right that the operation
// needs must be refused.
func TestMadeUpOperation(t *testing.T) {
	table := append(Store(), madeUp)
	caller := identity.As{Subject: "somebody", Rights: identity.ManageKeys}
	api := NewMount(MountOptions{Base: "/api/v1", Auth: caller, Logger: slog.New(slog.DiscardHandler), Title: "API"})
	Register(api, Always(new(admin.Service)), ForKeys(table))
	endpoint := NewAdminEndpoint(caller, slog.New(slog.DiscardHandler))
	Register(endpoint, Always(new(admin.Service)), table)
	for base, m := range map[string]*Mount{"/api/v1": api, AdminBase: endpoint} {
		w := ask(t, m, base+"/made-up/you", `{"words":"hello"}`)
		var got greeting
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got != (greeting{"hello, you", "somebody"}) {
			t.Errorf("%s: %d %s", base, w.Code, w.Body)
		}
		if w := ask(t, m, base+"/made-up/you", `{"word":"hello"}`); w.Code != http.StatusUnprocessableEntity || w.Header().Get("Content-Type") != problemType {
			t.Errorf("%s, with an unknown member: %d %s", base, w.Code, w.Body)
		}
		document, err := m.Document()
		if err != nil || !strings.Contains(string(document), `"/made-up/{name}"`) || !strings.Contains(string(document), `"operationId": "made.up"`) || !strings.Contains(string(document), "Whom to greet") {
			t.Errorf("%s: the document does not have it: %v", base, err)
		}
	}
	described := Describe(table)
	if last := described[len(described)-1]; last.Command != "made up <name>" || last.In.Name() != "greet" {
		t.Errorf("%+v", last)
	}
	stranger := NewMount(MountOptions{Base: "/api/v1", Auth: identity.As{Rights: identity.View}, Logger: slog.New(slog.DiscardHandler)})
	Register(stranger, Always(new(admin.Service)), table)
	if w := ask(t, stranger, "/api/v1/made-up/you", `{"words":"hello"}`); w.Code != http.StatusForbidden {
		t.Errorf("without the right: %d %s", w.Code, w.Body)
	}
}

func ask(t *testing.T, m *Mount, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w
}

// TestTableIsComplete checks that every operation is complete and has a unique id,
// route and command.
func TestTableIsComplete(t *testing.T) {
	seen := make(map[string]string)
	own := func(id, value string) {
		if before, twice := seen[value]; twice {
			t.Errorf("%s and %s both have %q", before, id, value)
		}
		seen[value] = id
	}
	for _, op := range All() {
		if op.ID == "" || op.Needs == 0 || op.Summary == "" || op.Tag == "" || !strings.HasPrefix(op.Path, "/") || !slices.Contains(methods, op.Method) {
			t.Errorf("%+v is not complete", op)
		}
		own(op.ID, op.ID)
		own(op.ID, op.Method+" "+op.Path)
		if op.Command != "" {
			own(op.ID, "farebox "+op.Command)
		}
		if op.Audited && op.Method == http.MethodGet {
			t.Errorf("%s only reads, and is audited", op.ID)
		}
	}
	if len(seen) < 60 {
		t.Errorf("only %d values", len(seen))
	}
}

// TestAuditedOperations checks that an audited operation writes one audit row, under
// its own id, and that other operations write no row.
func TestAuditedOperations(t *testing.T) {
	o := newOffice(t)
	o.account("payer")
	o.account("payee")
	key := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "payer"})
	bodies := map[string]any{
		"account.create": admin.NewAccount{Name: "new"}, "account.update": map[string]any{"credit_limit": "1"},
		"account.credit": admin.Credit{Amount: 1, Reason: "r"}, "account.adjust": admin.Credit{Amount: 1, Reason: "r"},
		"key.create": admin.NewKey{Account: "payer"}, "key.update": map[string]any{"name": "n"}, "key.rotate": admin.Rotation{Grace: "1h"},
		"charge.refund": admin.Refund{Reason: "r"}, "ledger.archive": admin.ArchiveTake{},
	}
	elsewhere := []string{"charge.refund", "ledger.archive", "ledger.archive.part", "ledger.archive.show", "charge.show", "receipt.keys", "backup"} // left out here, because they need more than this store has
	rows := func() []admin.AuditView { return do[admin.List[admin.AuditView]](o, "GET", "audit", nil).Items }
	table := slices.DeleteFunc(Describe(Store()), func(op Operation) bool { return slices.Contains(elsewhere, op.ID) })
	slices.SortStableFunc(table, func(a, b Operation) int { return rank(a.ID) - rank(b.ID) })
	for _, op := range table {
		before := rows()
		path := strings.NewReplacer("{id}", key.ID, "{ref}", "payer").Replace(op.Path)
		if _, err := o.Do(t.Context(), op.Method, path, bodies[op.ID]); err != nil {
			t.Errorf("%s: %v", op.ID, err)
			continue
		}
		after := rows()
		switch added := len(after) - len(before); {
		case op.Audited && (added != 1 || after[0].Action != op.ID):
			t.Errorf("%s wrote %d rows, the last %q", op.ID, added, after[0].Action)
		case !op.Audited && added != 0:
			t.Errorf("%s wrote %q and is not audited", op.ID, after[0].Action)
		}
	}
}

// rank returns the place of an operation in the order of the test. Operations that
// disable, rotate or delete the key come last, because the others need an active key.
func rank(id string) int {
	return max(slices.Index([]string{"key.disable", "key.enable", "key.rotate", "key.delete"}, id), -1)
}
