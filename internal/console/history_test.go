package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/top"
)

// TestHistory checks that the pages of an account, a key and a charge show the latest
// changes of that object, with the author as the visitor may know it. Operators read
// all names and the reasons. Members read only the names of members.
func TestHistory(t *testing.T) {
	w, visitors := newWalk(t)
	account, key, charge := "/accounts/"+w.alice.ID, "/keys/"+w.aliceThings[aKey], "/charges/"+w.aliceThings[aCharge]
	for path, form := range map[string]url.Values{
		account + "/credits": {"id": {newBooking()}, "amount": {"1"}, "reason": {"secret-note"}},
		charge + "/refunds":  {"id": {newBooking()}, "amount": {"0.004"}, "reason": {"secret-note"}},
	} {
		if resp, body := visitors["operator"].post(path, form); resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("%s: %s\n%s", path, resp.Status, body)
		}
	}
	visitors["owner"].post(key+"/disable", nil)
	visitors["owner"].post(key+"/enable", nil)
	for _, tt := range []struct{ who, path, shows, hides string }{
		{"operator", account, "account.credit|op@example.com|secret-note", "key.disable"},
		{"operator", key, "key.disable|key.enable|owner@example.com", "account.credit"},
		{"operator", charge, "charge.refund|op@example.com|secret-note", "account.credit"},
		{"owner", account, "account.credit|an operator", "op@example.com|secret-note|key.disable"},
		{"viewer", key, "key.disable|owner@example.com", "op@example.com"},
		{"viewer", charge, "charge.refund|an operator", "op@example.com|secret-note"},
	} {
		resp, body := visitors[tt.who].get(tt.path)
		for _, part := range strings.Split(tt.shows, "|") {
			if !strings.Contains(body, part) {
				t.Errorf("%s as %s: %s, without %q", tt.path, tt.who, resp.Status, part)
			}
		}
		for _, part := range strings.Split(tt.hides, "|") {
			if strings.Contains(body, part) {
				t.Errorf("%s as %s shows %q", tt.path, tt.who, part)
			}
		}
	}
}

// TestEntries checks that the page of a charge shows the entries of the charge and of
// each refund. A member reads the names of its own accounts only.
func TestEntries(t *testing.T) {
	w, visitors := newWalk(t)
	acme, err := w.admin.Account(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	visitors["provider"] = w.world.person("acme@example.com", people.NewInvitation{Account: acme.ID, Role: people.Viewer})
	path := "/charges/" + w.aliceThings[aCharge]
	visitors["operator"].post(path+"/refunds", url.Values{"id": {newBooking()}, "amount": {"0.004"}, "reason": {"late"}})
	for who, want := range map[string]string{
		"operator": ">alice</a>|>acme</a>|late|-0.01 |-0.004 |>refund<",
		"viewer":   ">alice</a>|the provider|-0.01 |0.004 |>refund<",
		"provider": "the customer|>acme</a>|-0.004 |>refund<",
	} {
		resp, body := visitors[who].get(path)
		_, entries, _ := strings.Cut(body, "<h2>Entries</h2>")
		entries, _, _ = strings.Cut(entries, "</section>")
		for _, part := range strings.Split(want, "|") {
			if !strings.Contains(entries, part) {
				t.Errorf("as %s: %s, without %q\n%s", who, resp.Status, part, entries)
			}
		}
		if who != "operator" && (strings.Contains(entries, "late") || who == "provider" && strings.Contains(entries, w.alice.ID)) {
			t.Errorf("%s sees too much:\n%s", who, entries)
		}
	}
}

// TestVerify checks that a form starts a verification, that the verification goes on
// after the response, and that the page shows its result. If another node answers the
// request, the page says so, with the name of the node that runs the verification.
func TestVerify(t *testing.T) {
	w, visitors := newWalk(t)
	operator := visitors["operator"]
	resp, body := operator.post("/ledger/verify", nil)
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/console/ledger?node=") {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	if _, err := w.admin.Verify(t.Context(), nil); err != nil { // waits for the verification that the form started
		t.Fatal(err)
	}
	if _, body := operator.get("/ledger"); !strings.Contains(body, "The books are right") {
		t.Errorf("the result is missing:\n%s", body)
	}
	if _, body := operator.get("/ledger?node=other-host/17"); !strings.Contains(body, "The node other-host/17 runs the verification") || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("another node:\n%s", body)
	}
	if _, body := operator.get("/ledger?node=call+a+stranger"); strings.Contains(body, "stranger") {
		t.Error("a text of the URL is shown as a node")
	}
}

// TestOtherNodes checks that the page of health lists the nodes at the store, marks other
// versions, and says where to find the figures of each node. If the nodes cannot be
// listed, the page still shows the figures of its own process.
func TestOtherNodes(t *testing.T) {
	w, visitors := newWalk(t)
	view := new(top.View)
	w.figures = func() (*top.View, error) { return view, nil }
	at := w.now()
	w.nodes.list = []ops.NodeView{
		{ID: "a", Host: "host", PID: 1, Version: "v1.1.0", Started: &at, Seen: at, State: ops.NodeLive, Self: true, Admin: "localhost:2019"},
		{ID: "b", Host: "<b>", PID: 2, Version: "v1.0.0", Started: &at, Seen: at, State: ops.NodeGone, Admin: "unix//run/farebox.sock"},
		{ID: "older-node", Seen: at, State: ops.NodeLive},
	}
	_, body := visitors["operator"].get("/health")
	for _, want := range []string{
		"<strong>host/1</strong> alone", "<td>host/1</td><td>v1.1.0</td>", "on this page", "&lt;b&gt;/2", `v1.0.0 <span class="state mismatch">other version</span>`,
		"<code>farebox top --address unix//run/farebox.sock</code>", `<span class="state gone">gone</span>`, "<td>older-node</td><td>not known", "address not known",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("with three nodes, %q is missing:\n%s", want, body)
		}
	}
	w.nodes.list = w.nodes.list[:1]
	if _, body := visitors["operator"].get("/health"); strings.Contains(body, "alone") || strings.Contains(body, "mismatch") || !strings.Contains(body, "<dd>host/1</dd>") {
		t.Errorf("with one node:\n%s", body)
	}
	w.nodes.err = ledger.ErrUnavailable
	if resp, body := visitors["operator"].get("/health"); resp.StatusCode != http.StatusOK || strings.Contains(body, "on this page") || !strings.Contains(body, "<dd>host/1</dd>") {
		t.Errorf("without a list: %s\n%s", resp.Status, body)
	}
}
