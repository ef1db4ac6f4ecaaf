package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/connect"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/people"
)

// The letters of the routes that each kind of visitor may use. A route with "r" or "w"
// concerns one account; a viewer or owner may use it only for its own account.
//
//	a  anybody      p  any person      r  reader      w  owner      o  operator
const (
	anybodyMay  = "a"
	personMay   = "ap"
	viewerMay   = "apr"
	ownerMay    = "aprw"
	operatorMay = "aprwo"
)

// may has the letter of each route: the visitors that may use it. It repeats the
// table of routes on purpose, so that a mistake in that table fails the test.
var may = map[string]string{
	"GET /signin": "a", "POST /signin": "a", "POST /signin/passkey/begin": "a", "POST /signin/passkey/finish": "a",
	"GET /signin/provider": "a", "GET /signin/callback": "a", "GET /register": "a", "POST /register": "a", "POST /profile/provider/remove": "p",
	"GET /invite/{secret}": "a", "POST /invite/{secret}": "a", "POST /invite/{secret}/passkey/begin": "a", "POST /invite/{secret}/passkey/finish": "a",
	"POST /invite/{secret}/join": "p", "POST /signout": "p",
	"GET /{$}": "p", "GET /profile": "p", "POST /profile/password": "p", "POST /profile/passkey/begin": "p", "POST /profile/passkey/finish": "p",
	"POST /profile/passkeys/{passkey}/remove": "p", "POST /profile/sessions/{session}/end": "p", "POST /profile/sessions/end": "p",
	"GET /receipt": "p", "POST /receipt": "p",
	"GET /accounts": "o", "POST /accounts": "o", "GET /accounts/{id}": "r", "POST /accounts/{id}/credits": "o", "POST /accounts/{id}/adjustments": "o", "POST /accounts/{id}/limits": "o",
	"GET /accounts/{id}/people": "r", "POST /accounts/{id}/people": "w", "POST /accounts/{id}/people/{invitation}/withdraw": "w",
	"GET /keys": "o", "GET /accounts/{id}/keys": "r", "GET /accounts/{id}/keys/new": "w", "POST /accounts/{id}/keys": "w",
	"GET /keys/{id}": "r", "POST /keys/{id}": "w", "POST /keys/{id}/rotate": "w", "POST /keys/{id}/disable": "w", "POST /keys/{id}/enable": "w", "POST /keys/{id}/delete": "w",
	"GET /grants": "o", "GET /accounts/{id}/grants": "r", "GET /grants/{id}": "r", "POST /grants/{id}/revoke": "w",
	"GET /connect": "p", "POST /connect": "p",
	"GET /charges": "o", "GET /accounts/{id}/charges": "r", "GET /charges/{id}": "r", "POST /charges/{id}/refunds": "o", "GET /charges.csv": "o", "GET /accounts/{id}/charges.csv": "r",
	"GET /calls": "o", "GET /accounts/{id}/calls": "r", "GET /calls.csv": "o", "GET /accounts/{id}/calls.csv": "r",
	"GET /usage": "o", "GET /usage.csv": "o", "GET /usage.json": "o", "GET /accounts/{id}/usage": "r", "GET /accounts/{id}/usage.csv": "r", "GET /accounts/{id}/usage.json": "r", "GET /accounts/{id}/statement": "r",
	"GET /alerts": "o", "POST /alerts/test": "o", "GET /accounts/{id}/alerts": "r", "POST /accounts/{id}/alerts": "w",
	"GET /servers": "o", "GET /servers/{server}": "o", "POST /servers/{server}/check": "o",
	"GET /audit": "o", "GET /ledger": "o", "POST /ledger/verify": "o", "GET /health": "o",
	"GET /people": "o", "POST /people": "o", "GET /people/{person}": "o", "POST /people/{person}/accounts": "o", "POST /people/{person}/disable": "o", "POST /people/{person}/enable": "o",
	"POST /people/{person}/remove": "o", "POST /people/{person}/recover": "o", "POST /people/{person}/sessions/end": "o", "POST /invitations/{invitation}/withdraw": "o",
}

// walk is a world with two accounts, and visitors of all roles.
type walk struct {
	*world
	alice, bob           ledger.Account
	aliceThings, bobsOwn map[object]string
	invitation           people.Invitation // an invitation to the account "alice"
	person               people.Person     // the person that is the operator
	session              people.Session    // a session of the operator
}

func newWalk(t *testing.T) (*walk, map[string]*browser) {
	w := &walk{world: newWorld(t)}
	newIssuer(w.world)
	a, k, c := w.account("alice")
	w.alice, w.aliceThings = a, map[object]string{anAccount: a.ID, aKey: k.ID, aCharge: c, aGrant: w.grant("alice", k.ID)}
	b, k2, c2 := w.account("bob")
	w.bob, w.bobsOwn = b, map[object]string{anAccount: b.ID, aKey: k2.ID, aCharge: c2, aGrant: w.grant("bob", k2.ID)}
	visitors := map[string]*browser{
		"anonymous": w.browser(),
		"operator":  w.world.person("op@example.com", people.NewInvitation{Operator: true}),
		"owner":     w.world.person("owner@example.com", people.NewInvitation{Account: a.ID, Role: people.Owner}),
		"viewer":    w.world.person("viewer@example.com", people.NewInvitation{Account: a.ID, Role: people.Viewer}),
		"stranger":  w.world.person("stranger@example.com", people.NewInvitation{Account: b.ID, Role: people.Owner}),
	}
	var err error
	if w.invitation, _, err = w.people.Invite(t.Context(), admin.Actor{Name: "offline"}, people.NewInvitation{Account: a.ID}); err != nil {
		t.Fatal(err)
	}
	w.person = visitors["operator"].person
	sessions, err := w.people.Sessions(t.Context(), w.person.ID)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%d sessions, %v", len(sessions), err)
	}
	w.session = sessions[0]
	return w, visitors
}

// fill replaces the variables of a route's path by ids of the account "alice" and of
// the operator.
func (w *walk) fill(r *route) string {
	return strings.NewReplacer("{$}", "", "{id}", w.aliceThings[r.object], "{secret}", "fbi_unknown", "{passkey}", "pky_unknown", "{session}", w.session.ID,
		"{person}", w.person.ID, "{invitation}", w.invitation.ID, "{server}", "weather").Replace(r.path)
}

// state returns everything that visitors could change, as one text.
func (w *walk) state() string {
	w.Helper()
	ctx := w.Context()
	accounts, _, err1 := w.admin.Accounts(ctx, ledger.Page{})
	keys, err2 := w.admin.Keys(ctx, admin.KeyQuery{})
	charges, err3 := w.admin.Charges(ctx, admin.ChargeQuery{})
	persons, _, err4 := w.people.Persons(ctx, people.PersonQuery{})
	invitations, _, err5 := w.people.Invitations(ctx, people.InvitationQuery{})
	audit, _, err6 := w.admin.AuditLog(ctx, admin.AuditQuery{})
	grants, _, err7 := w.grants.Grants(ctx, oauth.GrantQuery{})
	for _, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if err != nil {
			w.Fatal(err)
		}
	}
	text, err := json.Marshal([]any{accounts, keys, charges, persons, invitations, audit, grants})
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// allowed reports whether the letter of the route is among the visitor's letters.
func allowed(letters, route string) bool { return strings.Contains(letters, route) }

// TestRoutes requests every route as every kind of visitor. Every route must be in the
// table may. A visitor that may not use a route must be refused and change nothing. A
// visitor that may use it must not be refused.
func TestRoutes(t *testing.T) {
	w, visitors := newWalk(t)
	letters := map[string]string{"anonymous": anybodyMay, "operator": operatorMay, "owner": ownerMay, "viewer": viewerMay, "stranger": personMay}
	if len(may) != len(routes) {
		t.Errorf("%d routes, and %d in the test", len(routes), len(may))
	}
	before := w.state()
	for i := range routes {
		r := &routes[i]
		name := r.method + " " + r.path
		letter, known := may[name]
		if !known {
			t.Errorf("%s: the test does not say who may use it", name)
			continue
		}
		for who, b := range visitors {
			ok := allowed(letters[who], letter)
			if ok && (r.method == http.MethodPost || letter == anybodyMay) {
				continue // left out, because it would change something; other tests cover these routes
			}
			var resp *http.Response
			var body string
			if r.method == http.MethodGet {
				resp, body = b.get(w.fill(r))
			} else {
				resp, body = b.post(w.fill(r), url.Values{"confirm": {"x"}, "amount": {"1"}, "reason": {"x"}, "name": {"x"}, "role": {"owner"}, "account": {w.alice.ID}})
			}
			refused := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound ||
				resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(resp.Header.Get("Location"), "/console/signin")
			if ok == refused {
				t.Errorf("%s as %s: %s, allowed is %t", name, who, resp.Status, ok)
			}
			if !ok && (strings.Contains(body, "tool-of-alice") || strings.Contains(body, w.alice.Name+"'s")) {
				t.Errorf("%s as %s shows something of alice", name, who)
			}
		}
	}
	if after := w.state(); after != before {
		t.Errorf("a refused visitor has changed something:\n%s\n%s", before, after)
	}
}

// TestMembersStayWithin checks that a member sees and changes nothing of another
// account, even with foreign ids and filters in URLs and forms.
func TestMembersStayWithin(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	before := w.state()
	foreign := []string{w.bob.ID, w.bobsOwn[aKey], w.bobsOwn[aCharge], "tool-of-bob", w.bobsOwn[aGrant], "app-of-bob", "bob"}
	var paths []string
	for _, page := range []string{"", "/keys", "/charges", "/charges.csv", "/people", "/alerts", "/usage", "/usage.csv", "/usage.json", "/statement", "/grants"} {
		own, other := "/accounts/"+w.alice.ID+page, "/accounts/"+w.bob.ID+page
		paths = append(paths, other, "/accounts/bob"+page)
		for _, filter := range []string{"account", "provider", "key", "tool", "server", "after", "group", "kind", "since", "client", "all"} {
			for _, value := range append(foreign, "acme", "%00", "../bob", "*") {
				paths = append(paths, own+"?"+filter+"="+url.QueryEscape(value), own+"?side=earned&"+filter+"="+url.QueryEscape(value))
			}
		}
	}
	paths = append(paths, "/keys/"+w.bobsOwn[aKey], "/charges/"+w.bobsOwn[aCharge], "/grants/"+w.bobsOwn[aGrant], "/accounts/"+w.alice.ID+"/../"+w.bob.ID, "/accounts/"+w.alice.ID+"%2f..%2f"+w.bob.ID)
	for _, path := range paths {
		_, body := owner.get(path)
		for _, part := range foreign[:6] {
			// A page may repeat the visitor's own input in a field.
			if shown := strings.Count(body, part); shown > strings.Count(path, part)*3 || shown > 0 && !strings.Contains(path, url.QueryEscape(part)) {
				t.Errorf("%s shows %s", path, part)
			}
		}
	}
	for path, form := range map[string]url.Values{
		"/accounts/" + w.alice.ID + "/keys":                                  {"kind": {"admin"}},
		"/accounts/" + w.alice.ID + "/keys?x":                                {"kind": {"gateway"}},
		"/accounts/" + w.bob.ID + "/keys":                                    {"kind": {"agent"}},
		"/accounts/" + w.bob.ID + "/people":                                  {"role": {"owner"}},
		"/accounts/" + w.bob.ID + "/alerts":                                  {"balance": {"5"}},
		"/alerts/test":                                                       {},
		"/keys/" + w.bobsOwn[aKey]:                                           {"name": {"mine"}},
		"/keys/" + w.bobsOwn[aKey] + "/rotate":                               {},
		"/keys/" + w.bobsOwn[aKey] + "/delete":                               {"confirm": {"x"}},
		"/grants/" + w.bobsOwn[aGrant] + "/revoke":                           {"confirm": {"yes"}},
		"/charges/" + w.aliceThings[aCharge] + "/refunds":                    {"reason": {"x"}},
		"/accounts/" + w.alice.ID + "/credits":                               {"amount": {"5"}, "reason": {"x"}},
		"/accounts/" + w.alice.ID + "/people":                                {"role": {"operator"}},
		"/accounts/" + w.bob.ID + "/people/" + w.invitation.ID + "/withdraw": {},
		"/people/" + owner.person.ID + "/accounts":                           {"account": {"bob"}, "role": {"owner"}},
		"/profile/sessions/" + w.session.ID + "/end":                         {},
	} {
		if resp, body := owner.post(path, form); resp.StatusCode < 400 {
			t.Errorf("POST %s: %s\n%s", path, resp.Status, body)
		}
	}
	if after := w.state(); after != before {
		t.Errorf("something has changed:\n%s\n%s", before, after)
	}
}

// TestOwnersGetNoScopes checks that an owner can neither create a key with scopes nor
// add scopes to a key. Scopes give access to tools, so the operator decides about them.
func TestOwnersGetNoScopes(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	resp, body := owner.post("/accounts/"+w.alice.ID+"/keys", url.Values{"kind": {"agent"}, "scopes": {"anything"}, "name": {"new"}})
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	if resp, _ := owner.post("/keys/"+w.aliceThings[aKey], url.Values{"name": {"renamed"}, "servers": {"other"}, "scopes": {"anything"}, "expires_in": {"1h"}}); resp.StatusCode != http.StatusSeeOther {
		t.Fatal(resp.Status)
	}
	list, err := w.admin.Keys(t.Context(), admin.KeyQuery{Account: w.alice.ID})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("%+v, %v", list.Items, err)
	}
	for _, k := range list.Items {
		if len(k.Scopes) != 0 || len(k.Servers) != 0 || k.ExpiresAt != nil {
			t.Errorf("%+v", k)
		}
	}
	if !slices.ContainsFunc(list.Items, func(k admin.KeyView) bool { return k.Name == "renamed" }) {
		t.Error("the owner could not rename the key")
	}
	log, _, err := w.admin.AuditLog(t.Context(), admin.AuditQuery{Action: "key.create", Actor: owner.person.ID})
	if err != nil || len(log) != 1 || log[0].From != "192.0.2.7" {
		t.Errorf("the audit log has %+v, %v", log, err)
	}
}

// TestDisabledKeys checks that an owner can enable a key that a member disabled, but
// not a key that an operator or a command disabled.
func TestDisabledKeys(t *testing.T) {
	w, visitors := newWalk(t)
	owner, operator := visitors["owner"], visitors["operator"]
	path := "/keys/" + w.aliceThings[aKey]
	enabled := func() bool {
		k, err := w.admin.Key(t.Context(), w.aliceThings[aKey])
		if err != nil {
			t.Fatal(err)
		}
		return k.DisabledAt.IsZero()
	}
	owner.post(path+"/disable", nil)
	if resp, _ := owner.post(path+"/enable", nil); resp.StatusCode != http.StatusSeeOther || !enabled() {
		t.Errorf("the owner's own: %s", resp.Status)
	}
	operator.post(path+"/disable", nil)
	if resp, body := owner.post(path+"/enable", nil); resp.StatusCode != http.StatusForbidden || enabled() || !strings.Contains(body, "Ask the operator") {
		t.Errorf("the operator's: %s", resp.Status)
	}
	operator.post(path+"/enable", nil)
	if _, err := w.admin.DisableKey(t.Context(), admin.Actor{Name: "offline"}, w.aliceThings[aKey]); err != nil {
		t.Fatal(err)
	}
	if resp, _ := owner.post(path+"/enable", nil); resp.StatusCode != http.StatusForbidden || enabled() {
		t.Errorf("a command's: %s", resp.Status)
	}
}

// TestProvidersSeeNoCustomers checks that a member of the account that earned a charge
// sees the charge, but neither the account nor the key that paid.
func TestProvidersSeeNoCustomers(t *testing.T) {
	w, _ := newWalk(t)
	acme, err := w.admin.Account(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	provider := w.world.person("acme@example.com", people.NewInvitation{Account: acme.ID, Role: people.Owner})
	for _, path := range []string{"/accounts/" + acme.ID, "/accounts/" + acme.ID + "/charges?side=earned", "/accounts/" + acme.ID + "/charges.csv?side=earned", "/charges/" + w.aliceThings[aCharge],
		"/accounts/" + acme.ID + "/usage?side=earned&group=tool", "/accounts/" + acme.ID + "/statement", "/accounts/" + acme.ID + "/usage.csv?side=earned&group=tool"} {
		resp, body := provider.get(path)
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, "tool-of-alice") {
			t.Errorf("%s: %s", path, resp.Status)
		}
		for _, hidden := range []string{w.alice.ID, w.aliceThings[aKey], ">alice<"} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s shows %s", path, hidden)
			}
		}
	}
}

// TestProvidersGroupNoCustomers checks that a report of earnings cannot be grouped by
// the paying accounts or keys.
func TestProvidersGroupNoCustomers(t *testing.T) {
	w, _ := newWalk(t)
	acme, err := w.admin.Account(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	provider := w.world.person("acme@example.com", people.NewInvitation{Account: acme.ID, Role: people.Owner})
	for _, form := range []string{"usage", "usage.csv", "usage.json"} {
		for _, group := range []string{"account", "key"} {
			resp, body := provider.get("/accounts/" + acme.ID + "/" + form + "?side=earned&group=" + group + "&key=" + w.aliceThings[aKey])
			shown := strings.ReplaceAll(body, "key="+w.aliceThings[aKey], "")
			if resp.StatusCode != http.StatusOK || strings.Contains(shown, w.alice.ID) || strings.Contains(shown, w.aliceThings[aKey]) || strings.Contains(shown, "alice") {
				t.Errorf("%s by %s: %s\n%s", form, group, resp.Status, body)
			}
		}
	}
}

// TestForgedRequests checks that a form is refused if it does not have the token of the
// session, or if it comes from another site.
func TestForgedRequests(t *testing.T) {
	w, visitors := newWalk(t)
	operator, owner := visitors["operator"], visitors["owner"]
	before := w.state()
	foreign := &visit{token: owner.cookies[secureCookie]}
	for name, form := range map[string]url.Values{"wrong": {formToken: {"wrong"}}, "another's": {formToken: {foreign.formToken()}}} {
		form.Set("name", "forged")
		if resp, _ := operator.post("/accounts", form); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a form with a token that is %s: %s", name, resp.Status)
		}
	}
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		v := &visit{token: operator.cookies[secureCookie]}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/accounts", strings.NewReader(url.Values{formToken: {v.formToken()}, "name": {"forged"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(name, value)
		if resp, _ := operator.send(r); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s: %s", name, value, resp.Status)
		}
	}
	if after := w.state(); after != before {
		t.Error("a forged form was accepted")
	}
}

// TestHeaders checks the headers of several responses: the Content-Security-Policy
// allows no inline scripts or styles and no frames, and no cache may keep a page.
func TestHeaders(t *testing.T) {
	w, visitors := newWalk(t)
	for _, path := range []string{"/signin", "/", "/nowhere", "/accounts", "/invite/fbi_x"} {
		resp, body := visitors["operator"].get(path)
		h := resp.Header
		if csp := h.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: %s", path, csp)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: %v", path, h)
		}
		for _, inline := range []string{"<style", " style=", "<script>", " onclick=", "javascript:"} {
			if strings.Contains(body, inline) {
				t.Errorf("%s has %q in it", path, inline)
			}
		}
	}
	if resp, _ := w.browser().get("/invite/fbi_x"); resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Error("the link of an invitation is sent as a referrer")
	}
}

// TestTextsOfStrangers checks that markup in texts from users and servers is escaped on
// the pages.
func TestTextsOfStrangers(t *testing.T) {
	w, visitors := newWalk(t)
	operator := visitors["operator"]
	const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	if resp, body := operator.post("/accounts/"+w.alice.ID+"/keys", url.Values{"kind": {"agent"}, "name": {hostile}}); resp.StatusCode != http.StatusOK || strings.Contains(body, "<img src=x") {
		t.Errorf("%s\n%s", resp.Status, body)
	}
	operator.post("/accounts/"+w.alice.ID+"/credits", url.Values{"amount": {"1"}, "reason": {hostile}})
	for _, path := range []string{"/keys", "/accounts/" + w.alice.ID, "/audit", "/charges?tool=" + url.QueryEscape(hostile), "/signin?to=" + url.QueryEscape(hostile)} {
		resp, body := operator.get(path)
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
			t.Errorf("%s: %s, with markup of a stranger", path, resp.Status)
		}
	}
	if _, body := operator.post("/servers/weather/check", nil); strings.Contains(body, "<script>the") || !strings.Contains(body, "does not answer") {
		t.Errorf("the error of a server: %s", body)
	}
}

// TestSessionsEnd checks that an idle session ends, and that the sign-in then redirects
// to the requested page. It must not redirect to another site or to another path of the
// host.
func TestSessionsEnd(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	target := "/accounts/" + w.alice.ID
	if resp, _ := owner.get(target); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	w.ahead.Add(int64(people.DefaultSessionIdle) + 1e9)
	resp, _ := owner.get(target)
	if want := "/console/signin?to=" + url.QueryEscape("/console"+target); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != want {
		t.Fatalf("%s to %s, want %s", resp.Status, resp.Header.Get("Location"), want)
	}
	for to, want := range map[string]string{
		"/console" + target: "/console" + target, "https://evil.example/": "/console/", "//evil.example": "/console/", "/elsewhere": "/console/", `/console\evil`: "/console/", "": "/console/",
		"/console/\t/evil.example": "/console/", "/console/../elsewhere": "/console/", "/console/%2e%2e/elsewhere": "/console/", "/console/x#y": "/console/x", "/console/": "/console/",
		"/console/signin/provider": "/console/", "/console/signin?to=/console/signin/provider": "/console/", "/console/charges?tool=a%26b": "/console/charges?tool=a%26b",
	} {
		b := w.browser()
		resp, body := b.post("/signin", url.Values{"email": {"owner@example.com"}, "password": {password}, "to": {to}})
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("to %q: %s, %q; want %q\n%s", to, resp.Status, got, want, body)
		}
	}
	if resp, body := w.browser().post("/signin", url.Values{"email": {"owner@example.com"}, "password": {"wrong"}}); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "is wrong") {
		t.Errorf("a wrong password: %s", resp.Status)
	}
}

// TestFormsBookOnce checks that a form that is sent twice moves credits once.
func TestFormsBookOnce(t *testing.T) {
	w, visitors := newWalk(t)
	operator := visitors["operator"]
	booking := newBooking()
	for range 2 {
		if resp, body := operator.post("/accounts/"+w.alice.ID+"/credits", url.Values{"id": {booking}, "amount": {"1.50"}, "reason": {"x"}}); resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("%s\n%s", resp.Status, body)
		}
	}
	if a, err := w.admin.Account(t.Context(), w.alice.ID); err != nil || a.Live.Posted != 5_000_000-10_000+1_500_000 {
		t.Errorf("the balance is %s, %v", a.Live.Posted, err)
	}
	for _, wrong := range []string{"", "1,5", "x", "1.1234567", "-"} {
		resp, body := operator.post("/accounts/"+w.alice.ID+"/credits", url.Values{"id": {newBooking()}, "amount": {wrong}, "reason": {"x"}})
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "The amount cannot be read") {
			t.Errorf("amount %q: %s", wrong, resp.Status)
		}
	}
}

// TestReceipts checks that a receipt of this installation is shown as genuine, and that
// an altered receipt is refused with a reason.
func TestReceipts(t *testing.T) {
	w, visitors := newWalk(t)
	owner := visitors["owner"]
	c, err := w.admin.Charge(t.Context(), w.aliceThings[aCharge])
	if err != nil {
		t.Fatal(err)
	}
	genuine := w.signer.Sign(ledger.NewReceipt(&c, "USD"))
	resp, body := owner.post("/receipt", url.Values{"receipt": {" " + genuine + "\n"}})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "is genuine") || !strings.Contains(body, c.ID) {
		t.Errorf("%s\n%s", resp.Status, body)
	}
	for _, wrong := range []string{"", "x", genuine[:len(genuine)-4] + "AAAA", strings.Replace(genuine, ".", ".e30", 1)} {
		resp, body := owner.post("/receipt", url.Values{"receipt": {wrong}})
		if resp.StatusCode != http.StatusBadRequest || strings.Contains(body, "is genuine") || !strings.Contains(body, "not a receipt") {
			t.Errorf("%.20q: %s", wrong, resp.Status)
		}
	}
}

// TestClientLines checks that the lines for each client contain the secret, and that
// the server's name and address are quoted where necessary.
func TestClientLines(t *testing.T) {
	c := connect.To("my.server", "https://x.example/mcp?a='b'", "sk_live_1")
	for _, l := range c.Clients {
		if !strings.Contains(l.Text, "sk_live_1") {
			t.Errorf("%s: %s", l.Client, l.Text)
		}
	}
	if fmt.Sprint(c.Clients[4].Text) == "" || !strings.Contains(c.Clients[4].Text, `[mcp_servers."my.server"]`) {
		t.Errorf("Codex: %s", c.Clients[4].Text)
	}
}
