package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// TestOwnersLeaveOtherKinds checks that an owner cannot change or rotate a key of its
// account that acts for the operator or for a server. Rotating an admin key would give
// the owner a secret with access to all accounts.
func TestOwnersLeaveOtherKinds(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	for _, kind := range []string{"admin", "gateway", "provider"} {
		k, _, err := w.admin.CreateKey(t.Context(), admin.Actor{Name: "offline"}, admin.NewKey{Account: w.alice.ID, Kind: kind, Name: kind})
		if err != nil {
			t.Fatal(err)
		}
		before := w.state()
		for operation, form := range map[string]url.Values{
			"": {"name": {"mine"}}, "/rotate": {"grace": {"24h"}}, "/disable": nil, "/enable": nil, "/delete": {"confirm": {k.Hint[len(k.Hint)-4:]}},
		} {
			if resp, body := owner.post("/keys/"+k.ID+operation, form); resp.StatusCode != http.StatusForbidden || strings.Contains(body, "successor") {
				t.Errorf("%s of a key of the kind %s: %s", operation, kind, resp.Status)
			}
		}
		if w.state() != before {
			t.Errorf("the owner has changed a key of the kind %s", kind)
		}
		if resp, body := owner.get("/keys/" + k.ID); resp.StatusCode != http.StatusOK || strings.Contains(body, "/rotate") {
			t.Errorf("the page of a key of the kind %s: %s, with a form to rotate it", kind, resp.Status)
		}
	}
}

// TestProvidersChooseNoCustomers checks that a provider cannot filter its earnings by
// the key that paid. Such a filter would show which charges have the same payer.
func TestProvidersChooseNoCustomers(t *testing.T) {
	w, _ := newWalk(t)
	acme, err := w.admin.Account(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	provider := w.world.person("acme@example.com", people.NewInvitation{Account: acme.ID, Role: people.Viewer})
	for _, form := range []string{"charges", "charges.csv"} {
		resp, body := provider.get("/accounts/" + acme.ID + "/" + form + "?side=earned&key=" + w.aliceThings[aKey])
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "tool-of-bob") {
			t.Errorf("%s: %s, with the charges of one key only", form, resp.Status)
		}
	}
}

// TestEmptyExport checks that the JSON export of a report without rows is an empty
// list.
func TestEmptyExport(t *testing.T) {
	_, visitors := newWalk(t)
	if _, body := visitors["operator"].get("/usage.json?tool=nothing"); strings.TrimSpace(body) != "[]" {
		t.Errorf("the export is %q", body)
	}
}

// TestOperatorsKeepThemselves checks that an operator cannot disable or remove its own
// person, whether the URL has the id or the e-mail address.
func TestOperatorsKeepThemselves(t *testing.T) {
	w, visitors := newWalk(t)
	for _, ref := range []string{w.person.ID, w.person.Email, "OP@example.com"} {
		for _, operation := range []string{"disable", "remove"} {
			if resp, _ := visitors["operator"].post("/people/"+ref+"/"+operation, url.Values{"confirm": {w.person.Email}}); resp.StatusCode != http.StatusConflict {
				t.Errorf("%s %s: %s", operation, ref, resp.Status)
			}
		}
	}
}

// TestFiltersStartAnew checks that the form with the filters of a list requests the
// page's path without a query. Otherwise the script would append the new filters to the
// former ones, and the server uses the first value of each.
func TestFiltersStartAnew(t *testing.T) {
	w, visitors := newWalk(t)
	own := "/accounts/" + w.alice.ID
	for _, page := range []string{"/keys", "/charges", "/usage", "/audit", own + "/keys", own + "/charges", own + "/usage"} {
		if _, body := visitors["operator"].get(page + "?since=30d"); !strings.Contains(body, ` hx-get="/console`+page+`" `) {
			t.Errorf("%s: the filters ask for another page", page)
		}
	}
}

// TestScriptsLearnOfTheEnd checks that a script gets an error in JSON, or a header that
// redirects the whole page, when the session has ended. It must not get the sign-in
// page as its response.
func TestScriptsLearnOfTheEnd(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, base+"/profile/passkey/begin", strings.NewReader("{}"))
	r.Header.Set("Accept", "application/json")
	resp, body := w.browser().send(r)
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, `"error":"Your session has ended.`) {
		t.Errorf("a passkey: %s %s", resp.Status, body)
	}
	r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, base+"/charges?tool=x", nil)
	r.Header.Set("HX-Request", "true")
	resp, body = w.browser().send(r)
	if want := "/console/signin?to=" + url.QueryEscape("/console/charges?tool=x"); resp.StatusCode != http.StatusOK || body != "" || resp.Header.Get("HX-Redirect") != want {
		t.Errorf("a list: %s to %q", resp.Status, resp.Header.Get("HX-Redirect"))
	}
}

// TestRootLeadsNowhereElse checks that the sign-in of a console at the root of its host
// does not redirect to another site. Browsers drop a tab from a URL, so that a path
// with a tab could name another host.
func TestRootLeadsNowhereElse(t *testing.T) {
	v := &visit{c: &Console{}}
	for _, to := range []string{"//evil.example", "/\t/evil.example", "/\n/evil.example", `/\evil.example`, "/.//evil.example", "/..//evil.example", "\t//evil.example"} {
		if got := v.local(to); got != "/" {
			t.Errorf("%q leads to %q", to, got)
		}
	}
	if got := v.local("/accounts/x?y=z"); got != "/accounts/x?y=z" {
		t.Errorf("a page leads to %q", got)
	}
}

// TestFewExports checks that at most maxExports exports run at a time, and that another
// export can run as soon as one has ended.
func TestFewExports(t *testing.T) {
	w, visitors := newWalk(t)
	operator := visitors["operator"]
	for range maxExports + 1 {
		for _, page := range []string{"/charges.csv", "/usage.csv", "/usage.json", "/charges.csv?since=x"} {
			if resp, _ := operator.get(page); resp.StatusCode == http.StatusServiceUnavailable {
				t.Fatalf("%s: %s", page, resp.Status)
			}
		}
	}
	for range maxExports {
		w.console.exports <- struct{}{}
	}
	for _, page := range []string{"/charges.csv", "/usage.csv", "/usage.json"} {
		if resp, body := operator.get(page); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "Other exports are running") {
			t.Errorf("%s beside others: %s", page, resp.Status)
		}
	}
}

// TestAssets checks that each asset is served with the media type from kinds, which
// does not depend on the machine.
func TestAssets(t *testing.T) {
	w := newWorld(t)
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		resp, body := w.browser().get("/assets/" + f.Name())
		if resp.StatusCode != http.StatusOK || body == "" || resp.Header.Get("Content-Type") == "" || resp.Header.Get("Content-Type") != kinds[path.Ext(f.Name())] {
			t.Errorf("%s: %s, %q", f.Name(), resp.Status, resp.Header.Get("Content-Type"))
		}
	}
}

// TestManyKeys checks that an owner can create keys in an account with many deleted
// keys, but not in an account with maxMemberKeys usable keys.
func TestManyKeys(t *testing.T) {
	w, visitors := newWalk(t)
	create := func(n int, deleted bool) {
		for range n {
			k, _, err := w.admin.CreateKey(t.Context(), admin.Actor{Name: "offline"}, admin.NewKey{Account: w.alice.ID})
			if err == nil && deleted {
				_, err = w.admin.DeleteKey(t.Context(), admin.Actor{Name: "offline"}, k.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	create(ledger.MaxPage, true)
	form := url.Values{"kind": {"agent"}}
	if resp, body := visitors["owner"].post("/accounts/"+w.alice.ID+"/keys", form); resp.StatusCode != http.StatusOK {
		t.Errorf("beside deleted keys: %s\n%s", resp.Status, body)
	}
	create(maxMemberKeys-2, false)
	if resp, _ := visitors["owner"].post("/accounts/"+w.alice.ID+"/keys", form); resp.StatusCode != http.StatusConflict {
		t.Errorf("beside %d keys: %s", maxMemberKeys, resp.Status)
	}
}
