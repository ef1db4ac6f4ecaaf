package exchange

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/intercept"
)

// served returns a request in the form in which net/http passes it to a handler.
func served(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	u := *r.URL
	r.URL = &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	return r
}

// TestFollow checks that a redirect is followed only to another path of the same
// server. If the redirect names a server, the name must be one by which the client or
// the proxy has called the server.
func TestFollow(t *testing.T) {
	const dialled = "10.0.0.7:3001"
	for _, c := range []struct {
		status   int
		asked    string
		location string
		secure   bool // the server is called over TLS
		front    bool // the client called the gateway over TLS
		want     string
	}{
		{307, "/mcp", "/mcp/", false, false, "/mcp/"},
		{308, "/mcp/?a=b", "/mcp?a=b", false, false, "/mcp?a=b"},
		{308, "/mcp", "v2/mcp", false, false, "/v2/mcp"},
		{307, "/mcp", "?a=b", false, false, "/mcp?a=b"},
		{307, "/a%2Fb", "/a%2Fb/", false, false, "/a%2Fb/"},
		{307, "/mcp", "http://mcp.example.com/mcp/", false, false, "/mcp/"},
		{307, "/mcp", "http://MCP.example.com:80/mcp/#x", false, false, "/mcp/"},
		{307, "/mcp", "http://mcp.example.com", false, false, "/"},
		{307, "/mcp", "http://10.0.0.7:3001/mcp/", false, false, "/mcp/"},
		{307, "/mcp", "//10.0.0.7:3001/mcp/", false, false, "/mcp/"},
		{307, "/mcp", "https://mcp.example.com/mcp/", false, true, "/mcp/"}, // the server redirects to the scheme of the client's request
		{307, "/mcp", "http://mcp.example.com/mcp/", false, true, "/mcp/"},  // the server redirects to the scheme of the proxy's request
		{307, "/mcp", "https://10.0.0.7:3001/mcp/", true, false, "/mcp/"},

		{307, "/mcp", "https://mcp.example.com/mcp/", false, false, ""},
		{307, "/mcp", "http://mcp.example.com/mcp/", true, true, ""},
		{307, "/mcp", "https://10.0.0.7:3001/mcp/", false, true, ""},
		{307, "/mcp", "http://10.0.0.7:3002/mcp/", false, false, ""},
		{307, "/mcp", "http://10.0.0.7/mcp/", false, false, ""},
		{307, "/mcp", "http://mcp.example.com:8080/mcp/", false, false, ""},
		{307, "/mcp", "http://mcp.example.com.evil.example/mcp/", false, false, ""},
		{307, "/mcp", "//evil.example/mcp/", false, false, ""},
		{307, "/mcp", "http://a@mcp.example.com/mcp/", false, false, ""},
		{307, "/mcp", "http:/mcp/", false, false, ""},
		{307, "/mcp", "mailto:mcp", false, false, ""},
		{307, "/mcp", "http://[::1/", false, false, ""},
		{307, "/mcp", "", false, false, ""},
		{307, "/mcp", "/mcp#x", false, false, ""},
		{307, "/mcp", "http://mcp.example.com/mcp", false, false, ""},
		{307, "/mcp/../admin", "/admin", false, false, ""}, // refused, because the client's path decided where the redirect leads
		{307, "/mcp//admin", "/mcp/admin", false, false, ""},
		{307, "/mcp/%2e%2e/admin", "/admin", false, false, ""},
		{301, "/mcp", "/mcp/", false, false, ""},
		{302, "/mcp", "/mcp/", false, false, ""},
		{303, "/mcp", "/mcp/", false, false, ""},
	} {
		r := served("POST", "http://mcp.example.com"+c.asked)
		if r.TLS = nil; c.front {
			r.TLS = new(tls.ConnectionState)
		}
		x := &Exchange{host: &fakeHost{dialled: dialled}, r: r}
		asked := *r.URL
		target, err := x.follow(r, &asked, &intercept.Moved{Status: c.status, Location: []string{c.location}}, c.secure)
		got := ""
		if err == nil {
			got = target.RequestURI()
		}
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%d from %s to %q: %q, %v; want %q", c.status, c.asked, c.location, got, err, c.want)
		}
		if err != nil {
			refusal := notFollowed(&intercept.Moved{Status: c.status, Location: []string{c.location}}, err)
			if !strings.Contains(refusal.Cause.Error(), fmt.Sprintf("%q", c.location)) || strings.Contains(refusal.Reason, "10.0.0.7") {
				t.Errorf("to %q: the log says %v, the client is told %q", c.location, refusal.Cause, refusal.Reason)
			}
		}
	}
}

// moving is a next handler with an answer for each path. It records its requests.
type moving struct {
	host    *fakeHost
	answers map[string]func(http.ResponseWriter, *http.Request)
	asked   []string
	groups  []int
}

func (m *moving) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	body, _ := io.ReadAll(r.Body)
	m.asked = append(m.asked, r.Method+" "+r.URL.RequestURI()+" "+r.RequestURI+" "+string(body))
	groups := m.host.groups
	m.groups = append(m.groups, len(groups))
	groups["behind"] = struct{}{}
	m.answers[r.URL.Path](w, r)
	return nil
}

// TestRedirectIsFollowedOnce checks that one redirect is followed, by calling the next
// handler again with the same body. All routes behind the gateway may then match again.
// The final response has no header fields of the redirect. A second redirect is not
// followed. A redirect with an endless body is treated like any other.
func TestRedirectIsFollowedOnce(t *testing.T) {
	to := func(location string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.Header().Set("Set-Cookie", "of=redirect")
			w.WriteHeader(http.StatusTemporaryRedirect)
			if _, err := io.Copy(w, io.LimitReader(lastless{}, 1<<30)); err != nil {
				panic(http.ErrAbortHandler) // Caddy's proxy panics in this way if it cannot copy the body
			}
		}
	}
	ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }
	for name, c := range map[string]struct {
		method  string
		answers map[string]func(http.ResponseWriter, *http.Request)
		asked   string
		failed  bool
	}{
		"once":   {"POST", map[string]func(http.ResponseWriter, *http.Request){"/mcp": to("/mcp/"), "/mcp/": ok}, "POST /mcp /mcp {}, POST /mcp/ /mcp/ {}", false},
		"end":    {"DELETE", map[string]func(http.ResponseWriter, *http.Request){"/mcp": to("/mcp/"), "/mcp/": ok}, "DELETE /mcp /mcp , DELETE /mcp/ /mcp/ ", false},
		"twice":  {"POST", map[string]func(http.ResponseWriter, *http.Request){"/mcp": to("/mcp/"), "/mcp/": to("/mcp")}, "POST /mcp /mcp {}, POST /mcp/ /mcp/ {}", true},
		"inside": {"POST", map[string]func(http.ResponseWriter, *http.Request){"/mcp": func(w http.ResponseWriter, r *http.Request) { r.URL.Path = "/x"; to("/mcp/")(w, r) }}, "POST /mcp /mcp {}", true},
	} {
		r := served(c.method, "http://mcp.example.com/mcp")
		r.RequestURI = "/mcp"
		w := httptest.NewRecorder()
		host := &fakeHost{groups: map[string]struct{}{"before": {}}}
		next := &moving{host: host, answers: c.answers}
		x := New(newSite(), host, next, w, r)
		if c.method == "POST" {
			x.body = []byte("{}")
			x.setBody()
		}
		relay := intercept.NewRelay(w, nil)
		failure := x.runNext(relay, r)
		if relay.Finish(); (failure != nil) != c.failed || relay.SentHead() == c.failed {
			t.Errorf("%s: %v, head sent: %t", name, failure, relay.SentHead())
		}
		if got := strings.Join(next.asked, ", "); got != c.asked {
			t.Errorf("%s: asked %q, want %q", name, got, c.asked)
		}
		if h := w.Header(); !c.failed && (h.Get("Set-Cookie") != "" || h.Get("Location") != "") {
			t.Errorf("%s: the redirect left its header: %v", name, h)
		}
		for i, n := range next.groups {
			if n != 1 {
				t.Errorf("%s: at call %d, %d groups of routes are taken for satisfied; want the one from before", name, i, n)
			}
		}
	}
}

type lastless struct{}

func (lastless) Read(p []byte) (int, error) { return len(p), nil }
