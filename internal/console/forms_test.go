package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/fareboxhq/farebox/internal/console/formfill"
	"github.com/fareboxhq/farebox/internal/people"
)

// attribute returns an attribute of a node, or "".
func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// has reports whether a node has an attribute.
func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

// parse parses a page.
func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// byID returns the node with the id, or nil.
func byID(doc *html.Node, id string) *html.Node {
	for n := range doc.Descendants() {
		if attribute(n, "id") == id {
			return n
		}
	}
	return nil
}

// TestRefusedFormsKeepInput checks that a form that is refused comes back with all of its
// input, with the problem at the top of the page and beside its field, and without
// secrets.
func TestRefusedFormsKeepInput(t *testing.T) {
	w, visitors := newWalk(t)
	w.configure(people.Settings{Registration: &people.Registration{Code: "the code of the operator"}})
	account, key, charge := "/accounts/"+w.alice.ID, "/keys/"+w.aliceThings[aKey], "/charges/"+w.aliceThings[aCharge]
	for _, tt := range []struct {
		who, path string
		form      url.Values
		status    int
		field     string // the field beside which the problem must stand; "" for no field
		secrets   string // names of fields that stay empty
	}{
		{"operator", "/accounts", url.Values{"name": {"ALICE"}}, http.StatusConflict, "name", ""},
		{"operator", account + "/credits", url.Values{"amount": {"1,5"}, "reason": {"why <b>"}, "test": {"on"}}, http.StatusBadRequest, "amount", ""},
		{"operator", account + "/adjustments", url.Values{"amount": {"0"}, "reason": {"why"}}, http.StatusBadRequest, "amount", ""},
		{"operator", account + "/adjustments", url.Values{"amount": {"1"}, "reason": {" "}}, http.StatusBadRequest, "reason", ""},
		{"operator", account + "/limits", url.Values{"credit_limit": {"2"}, "cap_call": {"-1"}, "cap_day": {"3"}, "cap_month": {""}}, http.StatusBadRequest, "cap_call", ""},
		{"operator", account + "/keys", url.Values{"name": {""}, "kind": {"personal"}, "scopes": {"connect"}, "expires_in": {"9d"}, "rate": {"60/1m"}, "server": {"weather"}, "test": {"on"}}, http.StatusBadRequest, "name", ""},
		{"owner", account + "/keys", url.Values{"name": {"n"}, "kind": {"agent"}, "expires_in": {"soon"}, "cap_day": {"5"}}, http.StatusBadRequest, "expires_in", ""},
		{"owner", key, url.Values{"name": {"n"}, "rate": {"many"}, "cap_call": {"1"}}, http.StatusBadRequest, "rate", ""},
		{"owner", key + "/delete", url.Values{"confirm": {"wrong"}}, http.StatusBadRequest, "confirm", ""},
		{"operator", charge + "/refunds", url.Values{"amount": {"9"}, "reason": {"late"}}, http.StatusBadRequest, "amount", ""},
		{"operator", "/people", url.Values{"role": {"viewer"}, "account": {"nobody"}, "email": {"x@example.com"}}, http.StatusNotFound, "account", ""},
		{"operator", "/people/" + visitors["viewer"].person.ID + "/accounts", url.Values{"account": {"nobody"}, "role": {"owner"}}, http.StatusNotFound, "account", ""},
		{"operator", "/people/" + visitors["viewer"].person.ID + "/remove", url.Values{"confirm": {"x"}}, http.StatusBadRequest, "confirm", ""},
		{"owner", account + "/people", url.Values{"email": {"x@example.com"}, "role": {"boss"}}, http.StatusBadRequest, "role", "role"},
		{"owner", "/receipt", url.Values{"receipt": {"no\nreceipt"}}, http.StatusBadRequest, "receipt", ""},
		{"owner", "/profile/password", url.Values{"old": {password}, "password": {"short-one"}}, http.StatusBadRequest, "password", "old password"},
		{"anonymous", "/signin", url.Values{"email": {"owner@example.com"}, "password": {"a wrong one"}, "to": {"/console/keys"}}, http.StatusUnauthorized, "", "password"},
		{"anonymous", "/register", url.Values{"email": {"new@example.com"}, "code": {"not the code"}}, http.StatusForbidden, "", "code"},
	} {
		resp, body := visitors[tt.who].post(tt.path, tt.form)
		doc := parse(t, body)
		if problem := byID(doc, formfill.ProblemID); resp.StatusCode != tt.status || problem == nil || !has(problem, "autofocus") {
			t.Errorf("%s: %s, and the problem is %v", tt.path, resp.Status, problem)
			continue
		}
		if tt.field != "" {
			control := byID(doc, "field-"+tt.field)
			if control == nil || attribute(control, "aria-invalid") != "true" || byID(doc, attribute(control, "aria-describedby")) == nil || !strings.Contains(body, `href="#field-`+tt.field+`"`) {
				t.Errorf("%s: the problem is not beside %s\n%s", tt.path, tt.field, body)
			}
		}
		for _, name := range strings.Fields(tt.secrets) {
			for _, secret := range tt.form[name] {
				if strings.Contains(body, secret) {
					t.Errorf("%s shows the %s again", tt.path, name)
				}
				delete(tt.form, name)
			}
		}
		kept := sentBy(doc, "/console"+tt.path)
		for name, values := range tt.form {
			if kept.Get(name) != values[0] {
				t.Errorf("%s: %s is %q, was sent as %q", tt.path, name, kept.Get(name), values[0])
			}
		}
	}
}

// sentBy returns the fields that a browser would send for the last form with the action.
func sentBy(doc *html.Node, action string) (sent url.Values) {
	for form := range doc.Descendants() {
		if form.DataAtom != atom.Form || attribute(form, "action") != action {
			continue
		}
		sent = url.Values{}
		for c := range form.Descendants() {
			name := attribute(c, "name")
			if name == "" {
				continue
			}
			switch kind := attribute(c, "type"); {
			case c.DataAtom == atom.Select:
				for o := range c.Descendants() {
					if o.DataAtom == atom.Option && (has(o, "selected") || !sent.Has(name)) {
						sent.Set(name, attribute(o, "value"))
						if !has(o, "value") {
							sent.Set(name, o.FirstChild.Data)
						}
					}
				}
			case c.DataAtom == atom.Textarea:
				sent.Set(name, c.FirstChild.Data)
			case kind == "checkbox":
				if has(c, "checked") {
					sent.Add(name, attribute(c, "value"))
					if !has(c, "value") {
						sent.Set(name, "on")
					}
				}
			default:
				sent.Set(name, attribute(c, "value"))
			}
		}
	}
	return sent
}

// TestFormsHaveAPage checks that each form on any page is sent to a route that shows the
// form again when it is refused.
func TestFormsHaveAPage(t *testing.T) {
	w, visitors := newWalk(t)
	seen := 0
	for _, who := range []string{"operator", "owner", "anonymous"} {
		for i := range routes {
			if r := &routes[i]; r.method == http.MethodGet {
				_, body := visitors[who].get(w.fill(r))
				for form := range parse(t, body).Descendants() {
					if form.DataAtom != atom.Form || attribute(form, "method") != "post" {
						continue
					}
					seen++
					action := attribute(form, "action")
					if to := w.receiver(action); to == nil || to.form == nil && to.path != "/signout" {
						t.Errorf("%s: what is sent to %s is not shown again", r.path, action)
					}
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d forms were found", seen)
	}
}

// receiver returns the route that receives a form.
func (w *walk) receiver(action string) *route {
	_, pattern := w.console.mux.Handler(httptest.NewRequest(http.MethodPost, action, nil))
	for i := range routes {
		if pattern == routes[i].method+" /console"+routes[i].path {
			return &routes[i]
		}
	}
	return nil
}

// TestRefusedBookings checks that a form that was refused keeps the id of its booking,
// so that an attempt with an unknown outcome is not booked twice. Only if the id
// belongs to another booking, the form gets a new id.
func TestRefusedBookings(t *testing.T) {
	w, visitors := newWalk(t)
	path, booking := "/accounts/"+w.alice.ID+"/credits", newBooking()
	form := url.Values{"id": {booking}, "amount": {"x"}, "reason": {"y"}}
	_, body := visitors["operator"].post(path, form)
	if got := sentBy(parse(t, body), "/console"+path).Get("id"); got != booking {
		t.Errorf("the booking is %s, want %s", got, booking)
	}
	form.Set("amount", "1")
	visitors["operator"].post(path, form)
	form.Set("amount", "2")
	resp, body := visitors["operator"].post(path, form)
	if got := sentBy(parse(t, body), "/console"+path).Get("id"); resp.StatusCode != http.StatusConflict || got == booking || got == "" {
		t.Errorf("%s, with the booking %q", resp.Status, got)
	}
}

// TestSortedLists checks that the heads of columns sort a list, both ways, without the
// cursor of the former order, and that a cursor of another order is refused.
func TestSortedLists(t *testing.T) {
	_, visitors := newWalk(t)
	for path, want := range map[string]string{
		"/accounts":                   `<th scope="col"><a href="?sort=name">Account`,
		"/accounts?sort=name":         `<th scope="col" aria-sort="ascending"><a href="?sort=-name">Account`,
		"/keys?kind=agent&sort=-name": `<th scope="col" aria-sort="descending"><a href="?kind=agent&amp;sort=name">Name`,
		"/charges":                    `<th scope="col" aria-sort="descending"><a href="?sort=time">Time`,
		"/charges?account=alice":      `<th scope="col">Time</th>`,
	} {
		if resp, body := visitors["operator"].get(path); resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %s, without %s", path, resp.Status, want)
		}
	}
	resp, body := visitors["operator"].get("/accounts?sort=name&after=1")
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "begin without a cursor") {
		t.Errorf("the cursor of another order: %s\n%s", resp.Status, body)
	}
}

// TestPriceBook checks that the page of a server has each price of the config, with the
// items and the sums that belong to the price. It also checks that the page marks an
// item that has no price, or that has another definition than before.
func TestPriceBook(t *testing.T) {
	_, visitors := newWalk(t)
	resp, body := visitors["operator"].get("/servers/weather")
	book, _, _ := strings.Cut(body, "<h2>Tools in the last")
	for _, part := range []string{"tool-*", "&lt;b&gt;result", "Caddyfile:7", "tool-of-alice", ">changed ", "size(args.text)", "at most ", "matches nothing", "forgotten", "no price names it", "weather.read", `<td class="number">1</td>`, "0.01 "} {
		if !strings.Contains(book, part) {
			t.Errorf("%s, without %q\n%s", resp.Status, part, book)
		}
	}
	if resp, _ := visitors["operator"].get("/servers/other"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown server: %s", resp.Status)
	}
}
