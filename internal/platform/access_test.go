package platform

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"

	"github.com/fareboxhq/farebox/internal/clock"
)

// endpoint is an operation with a valid request for it.
type endpoint struct {
	method, path string // path is the path template in the description
	at           string // the path of the request; "" means the value of path
	body         any
	kinds        string // the kinds of keys that may perform the operation
}

// endpoints returns every operation, with requests that are valid for a new site.
func (s *site) endpoints() []endpoint {
	o := s.order("agent")
	charge := ids.New("chg_")
	digest := keys.DigestOf("nobody's")
	mark := strings.Repeat("ab", 16)
	never := "never"
	return []endpoint{
		{"POST", "/charge", "", NewCharge{Token: s.secrets["agent"], Server: "weather", Tool: "t", Amount: 1}, "provider"},
		{"GET", "/balance", "", nil, "agent personal access"},
		{"POST", "/reservations", "", o, "gateway provider"},
		{"POST", "/reservations/{id}/renew", "/reservations/" + charge + "/renew", nil, "gateway provider"},
		{"POST", "/reservations/{id}/capture", "/reservations/" + charge + "/capture", wire.Capture{}, "gateway provider"},
		{"DELETE", "/reservations/{id}", "/reservations/" + charge, nil, "gateway provider"},
		{"POST", "/reservations/{id}/refund", "/reservations/" + charge + "/refund", OwnRefund{Reason: "r"}, "gateway"},
		{"POST", "/keys/lookup", "", wire.Lookup{Digest: hex.EncodeToString(digest[:])}, "gateway"},
		{"POST", "/keys/used", "", wire.Used{Keys: map[string]time.Time{}}, "gateway"},
		{"POST", "/keys/revocations/follow", "", wire.Follow{Node: "n", Seen: -1, LeaseMS: 1}, "gateway"},
		{"DELETE", "/keys/revocations/nodes/{node}", "/keys/revocations/nodes/n", nil, "gateway"},
		{"GET", "/keys/revocations", "", nil, "gateway"},
		{"PUT", "/bindings/{hash}", "/bindings/" + mark, wire.Binding{Server: "weather", HandleHash: mark, Account: "a", Until: clock.Now().Add(time.Hour), Payload: []byte{}}, "gateway"},
		{"GET", "/bindings/{hash}", "/bindings/" + mark + "?server=weather", nil, "gateway"},
		{"GET", "/keys", "", nil, "admin"},
		{"POST", "/keys", "", admin.NewKey{Account: "alice"}, "admin"},
		{"GET", "/keys/{id}", "/keys/key_1", nil, "admin"},
		{"PATCH", "/keys/{id}", "/keys/key_1", admin.KeyChange{ExpiresIn: &never}, "admin"},
		{"DELETE", "/keys/{id}", "/keys/key_1", nil, "admin"},
		{"POST", "/keys/{id}/disable", "/keys/key_1/disable", nil, "admin"},
		{"POST", "/keys/{id}/enable", "/keys/key_1/enable", nil, "admin"},
		{"POST", "/keys/{id}/rotate", "/keys/key_1/rotate", admin.Rotation{}, "admin"},
		{"GET", "/accounts", "", nil, "admin"},
		{"POST", "/accounts", "", admin.NewAccount{Name: "bob"}, "admin"},
		{"GET", "/accounts/{ref}", "/accounts/alice", nil, "admin"},
		{"PATCH", "/accounts/{ref}", "/accounts/alice", admin.AccountChange{CreditLimit: amount("1")}, "admin"},
		{"POST", "/accounts/{ref}/credits", "/accounts/alice/credits", admin.Credit{Amount: 1, Reason: "r"}, "admin"},
		{"POST", "/accounts/{ref}/adjustments", "/accounts/alice/adjustments", admin.Credit{Amount: -1, Reason: "r"}, "admin"},
		{"GET", "/alerts", "", nil, "admin"},
		{"GET", "/accounts/{ref}/alerts", "/accounts/alice/alerts", nil, "admin"},
		{"PATCH", "/accounts/{ref}/alerts", "/accounts/alice/alerts", alert.SettingsChange{Caps: new(false)}, "admin"},
		{"GET", "/grants", "", nil, "admin"},
		{"GET", "/grants/{id}", "/grants/" + s.ids["grant"], nil, "admin"},
		{"DELETE", "/grants/{id}", "/grants/" + s.ids["grant"], nil, "admin"},
		{"GET", "/charges", "", nil, "admin"},
		{"GET", "/calls", "/calls?outcome=refused", nil, "admin"},
		{"GET", "/charges/sum", "/charges/sum?provider=acme&since=30d", nil, "admin"},
		{"GET", "/usage", "/usage?provider=acme&since=30d", nil, "admin"},
		{"GET", "/charges/{id}", "/charges/" + charge, nil, "admin"},
		{"POST", "/charges/{id}/refunds", "/charges/" + charge + "/refunds", admin.Refund{Reason: "r"}, "admin"},
		{"GET", "/journal", "", nil, "admin"},
		{"GET", "/ledger/archive", "", nil, "admin"},
		{"GET", "/receipt-keys", "", nil, "admin"},
		{"GET", "/audit", "", nil, "admin"},
		{"POST", "/ledger/verify", "", nil, "admin"},
		{"POST", "/ledger/verification", "", nil, "admin"},
		{"GET", "/ledger/verification", "", nil, "admin"},
	}
}

func (e *endpoint) url() string {
	if e.at != "" {
		return e.at
	}
	return e.path
}

// TestWhoMayDoWhat checks that each operation accepts keys of its kinds and refuses all
// others. A missing, unknown, ended or malformed key is refused with a code of its own.
// A refusal changes nothing.
func TestWhoMayDoWhat(t *testing.T) {
	s := newSite(t)
	end := func(name, kind string, change func(id string) error) {
		key, secret, err := s.service.CreateKey(t.Context(), admin.Actor{}, admin.NewKey{Account: "operator", Kind: kind, Servers: []string{"weather"}})
		if err == nil {
			err = change(key.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.secrets[name] = secret
	}
	for _, kind := range []string{"provider", "gateway", "admin"} {
		end("deleted "+kind, kind, func(id string) error {
			_, err := s.service.DeleteKey(t.Context(), admin.Actor{}, id)
			return err
		})
		end("disabled "+kind, kind, func(id string) error {
			_, err := s.service.DisableKey(t.Context(), admin.Actor{}, id)
			return err
		})
		end("expired "+kind, kind, func(id string) error {
			soon := "1ns"
			_, err := s.service.UpdateKey(t.Context(), admin.Actor{}, id, admin.KeyChange{ExpiresIn: &soon})
			return err
		})
	}
	for _, e := range s.endpoints() {
		title := "Invalid key"
		if e.path == "/charge" {
			title = "Invalid provider key"
		}
		for _, bad := range []string{"", "nonsense", keys.Mint(keys.Provider, keys.Live), s.secrets["admin"] + "0", strings.Repeat("x", 600)} {
			p := s.refused(401, wire.TokenInvalid, bad, e.method, e.url(), e.body)
			if p.Title != title || p.Field != "" {
				t.Errorf("%s %s by %.10q: %+v", e.method, e.path, bad, p)
			}
		}
		for _, kind := range []string{"provider", "gateway", "admin"} {
			s.refused(401, wire.TokenInvalid, "deleted "+kind, e.method, e.url(), e.body)
			s.refused(401, wire.TokenInvalid, "disabled "+kind, e.method, e.url(), e.body)
			s.refused(401, wire.TokenExpired, "expired "+kind, e.method, e.url(), e.body)
		}
		for _, kind := range []string{"agent", "test agent", "personal", "weak personal", "access", "refresh", "provider", "gateway", "admin"} {
			if !slices.Contains(strings.Fields(e.kinds), strings.TrimPrefix(kind, "test ")) {
				if p := s.refused(403, wire.KindWrong, kind, e.method, e.url(), e.body); p.Field != "" {
					t.Errorf("%+v", p)
				}
			}
		}
	}
	if list, err := s.service.Charges(t.Context(), admin.ChargeQuery{Page: pageOne}); err != nil || len(list.Items) > 0 || s.store.OpenReservations() > 0 {
		t.Errorf("charges %v, %v, %d reservations", list, err, s.store.OpenReservations())
	}
	if accounts, _, err := s.service.Accounts(t.Context(), pageOne); err != nil || len(accounts) != 5 {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
}

// TestEveryOperationIsServed checks that each operation admits keys of its kinds, and
// responds with a status that the description contains.
func TestEveryOperationIsServed(t *testing.T) {
	s := newSite(t)
	d := s.document()
	served := make(map[string]bool)
	for _, e := range s.endpoints() {
		served[e.method+" "+e.path] = true
		documented := d.Paths[e.path][strings.ToLower(e.method)].Responses
		for _, kind := range strings.Fields(e.kinds) {
			if e.path == "/keys/revocations" {
				next(t, s.events(kind, ""))
				continue
			}
			body := e.body
			if o, ok := body.(wire.Order); ok && kind == "provider" {
				o.Key, o.Proof, o.Token, o.ID = "", "", s.secrets["agent"], ids.New("chg_")
				body = o
			}
			r := s.send(kind, e.method, e.url(), body)
			if r.status == 401 || r.status == 403 || r.status == 405 || r.status >= 500 || r.status == 422 || r.status == 400 {
				t.Errorf("%s %s by %s: %d %s", e.method, e.path, kind, r.status, r.body)
			}
			if _, ok := documented[fmt.Sprint(r.status)]; !ok {
				t.Errorf("%s %s: %d is not among %v", e.method, e.path, r.status, slices.Sorted(maps.Keys(documented)))
			}
			if r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s may be stored", e.method, e.path)
			}
		}
	}
	for path, item := range d.Paths {
		for method := range item {
			if !served[strings.ToUpper(method)+" "+path] {
				t.Errorf("%s %s is described, and this test does not know it", method, path)
			}
		}
	}
	for name := range s.platform.mount.Needs() {
		if !served[name] {
			t.Errorf("%s is served, and not described", name)
		}
	}
}

// document is the part of an OpenAPI document that the tests read.
type document struct {
	OpenAPI    string                                    `json:"openapi"`
	Info       struct{ Title, Version string }           `json:"info"`
	Servers    []struct{ URL string }                    `json:"servers"`
	Paths      map[string]map[string]documentedOperation `json:"paths"`
	Components struct {
		Schemas         map[string]json.RawMessage               `json:"schemas"`
		SecuritySchemes map[string]struct{ Type, Scheme string } `json:"securitySchemes"`
	} `json:"components"`
}

type documentedOperation struct {
	OperationID string                                  `json:"operationId"`
	Summary     string                                  `json:"summary"`
	Security    []map[string][]string                   `json:"security"`
	Responses   map[string]struct{ Description string } `json:"responses"`
	Parameters  []struct {
		Name, In string
		Required bool
	} `json:"parameters"`
}

func (s *site) document() document {
	s.t.Helper()
	return do[document](s, 200, "", "GET", "/openapi.json", nil)
}

// TestDescription checks that the description is an OpenAPI 3.1 document. Every
// operation must have a unique id, responses, a declared security requirement, and the
// parameters of its path. Every reference must have a target.
func TestDescription(t *testing.T) {
	s := newSite(t)
	d := s.document()
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version != "1.2.3" || len(d.Servers) != 1 || d.Servers[0].URL != wire.Base {
		t.Errorf("%s %+v %+v", d.OpenAPI, d.Info, d.Servers)
	}
	if scheme := d.Components.SecuritySchemes["key"]; scheme.Type != "http" || scheme.Scheme != "bearer" {
		t.Errorf("%+v", scheme)
	}
	ids := make(map[string]bool)
	for path, item := range d.Paths {
		for method, op := range item {
			name := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" {
				t.Errorf("%s: %q %q", name, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			if len(op.Security) != 1 || op.Security[0]["key"] == nil || len(op.Responses) < 3 {
				t.Errorf("%s: %+v", name, op)
			}
			for status, r := range op.Responses {
				if r.Description == "" {
					t.Errorf("%s: %s is not described", name, status)
				}
			}
			declared := make(map[string]bool)
			for _, p := range op.Parameters {
				if p.In == "path" && p.Required {
					declared["{"+p.Name+"}"] = true
				}
			}
			for _, part := range strings.Split(path, "/") {
				if strings.HasPrefix(part, "{") && !declared[part] {
					t.Errorf("%s does not declare %s", name, part)
				}
			}
		}
	}
	text := string(s.send("", "GET", "/openapi.json", nil).body)
	for _, rest := range strings.Split(text, `"$ref": "#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(rest, `"`)
		if d.Components.Schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
	if strings.Contains(text, "ErrorModel") {
		t.Error("errors are described as the library's own")
	}
	if yaml := string(s.send("", "GET", "/openapi.yaml", nil).body); !strings.Contains(yaml, "operationId: charge\n") {
		t.Errorf("%.200s", yaml)
	}
}

// TestPage checks that the HTML page shows every operation and every type, loads no
// resources, runs no scripts, and has no broken internal links.
func TestPage(t *testing.T) {
	s := newSite(t)
	r := s.send("", "GET", "/docs", nil)
	text := string(r.body)
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || !strings.HasPrefix(r.header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%d %v", r.status, r.header)
	}
	for _, banned := range []string{"<script", "<link", "<img", "<iframe", "@import", "url(", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(text, banned) {
			t.Errorf("the page has %s", banned)
		}
	}
	d := s.document()
	for path, item := range d.Paths {
		for _, op := range item {
			if !strings.Contains(text, `<section id="`+op.OperationID+`">`) || !strings.Contains(text, "<code>"+path+"</code>") {
				t.Errorf("%s is not there", op.OperationID)
			}
		}
	}
	for _, rest := range strings.Split(text, `href="#`)[1:] {
		anchor, _, _ := strings.Cut(rest, `"`)
		if !strings.Contains(text, `id="`+anchor+`"`) {
			t.Errorf("a link leads to %s, which is not there", anchor)
		}
	}
	if head := s.send("", http.MethodHead, "/docs", nil); head.status != 200 || len(head.body) > 0 {
		t.Errorf("HEAD: %d", head.status)
	}
}

// TestNowhere checks that a request to an unknown path gets a problem as its response,
// whatever the method. The response must not be a redirect, because a client that
// follows a redirect sends its key again.
func TestNowhere(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"", "/", "/nothing", "/keys/", "//keys", "/keys//x", "/./keys", "/keys/../keys", "/charge/x", "/openapi-3.0.json", "/schemas/Key"} {
		s.refused(404, wire.NotFound, "admin", "GET", path, nil)
	}
	for path, allow := range map[string]string{"/charge": "POST", "/keys": "GET, POST", "/keys/key_1": "GET, PATCH, DELETE", "/docs": "GET"} {
		for _, method := range []string{"PUT", "OPTIONS", "TRACE", "PROPFIND"} {
			s.refused(405, wire.MethodNotAllowed, "admin", method, path, nil)
			if r := s.send("admin", method, path, nil); r.header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, r.header.Get("Allow"), allow)
			}
		}
	}
	if r := s.send("gateway", http.MethodHead, "/keys/revocations", nil); r.status != 405 {
		t.Errorf("HEAD of a stream: %d", r.status)
	}
}
