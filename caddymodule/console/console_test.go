package console

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// read sets a handler up from a directive.
func read(text string) (*Handler, error) {
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

// TestUnmarshalCaddyfile checks the settings that result from a directive with all
// options, after its handler was encoded as JSON and read again. Secrets that are given
// as placeholders must not be in that JSON.
func TestUnmarshalCaddyfile(t *testing.T) {
	t.Setenv("FAREBOX_TEST_CODE", "open sesame, and do it")
	t.Setenv("FAREBOX_TEST_SECRET", "the client's secret")
	h, err := read(`farebox_console https://Gateway.example.com:443/console/ {
		invitation_life 1h
		session_idle 2h
		session_life 3d
		signup {
			code {env.FAREBOX_TEST_CODE}
			domains Example.com example.org
			credit 0.50
		}
		oidc https://login.example.com farebox {env.FAREBOX_TEST_SECRET} {
			domains Example.com
			scopes groups
			groups_claim roles
			member domain Example.com acme viewer
			member group admins acme owner
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(h)
	if err != nil || strings.Contains(string(text), "open sesame") || strings.Contains(string(text), "the client's") {
		t.Fatalf("%s, %v", text, err)
	}
	s, err := Settings(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Link("fbi_x"); got != "https://gateway.example.com/console/invite/fbi_x" {
		t.Errorf("the link is %s", got)
	}
	s.Link = nil
	want := people.Settings{
		Origin: "https://gateway.example.com", InvitationLife: time.Hour, SessionIdle: 2 * time.Hour, SessionLife: 72 * time.Hour,
		Registration: &people.Registration{Code: "open sesame, and do it", Domains: []string{"example.com", "example.org"}, Credit: ledger.Unit / 2},
		Provider: &people.Provider{
			Issuer: "https://login.example.com", ClientID: "farebox", ClientSecret: "the client's secret", Name: "login.example.com",
			Callback: "https://gateway.example.com/console/signin/callback", Domains: []string{"example.com"}, Scopes: []string{"groups"}, GroupsClaim: "roles",
			Accounts: []people.ProviderAccount{{Domain: "example.com", Account: "acme", Role: people.Viewer}, {Group: "admins", Account: "acme", Role: people.Owner}},
		},
	}
	if !reflect.DeepEqual(*s, want) {
		t.Errorf("got %+v\nwant %+v", *s, want)
	}
}

// TestRefusedDirectives checks that an unsafe or unusable directive is refused with the
// reason.
func TestRefusedDirectives(t *testing.T) {
	for words, text := range map[string]string{
		"want the URL at which people open": "farebox_console",
		`"/console": want the URL`:          "farebox_console /console",
		"without TLS":                       "farebox_console http://gateway.example.com/console",
		"and no more":                       "farebox_console https://user@gateway.example.com/",
		"plain letters":                     "farebox_console https://gateway.example.com/a//b",
		"want a time, such as 60s":          "farebox_console https://gateway.example.com {\nsession_idle -1h\n}",
		"at most 30 days":                   "farebox_console https://gateway.example.com {\ninvitation_life 31d\n}",
		"signup needs a code":               "farebox_console https://gateway.example.com {\nsignup {\ncredit 1\n}\n}",
		"takes a block and no arguments":    "farebox_console https://gateway.example.com {\nsignup open\n}",
		"is not an amount":                  "farebox_console https://gateway.example.com {\nsignup {\ncode x\ncredit much\n}\n}",
		"credit of signup cannot be below":  "farebox_console https://gateway.example.com {\nsignup {\ncode x\ncredit -1\n}\n}",
		"want the issuer":                   "farebox_console https://gateway.example.com {\noidc https://login.example.com\n}",
		"an account and a role":             "farebox_console https://gateway.example.com {\noidc https://login.example.com farebox {\nmember team x acme owner\n}\n}",
		`did you mean "session_life"?`:      "farebox_console https://gateway.example.com {\nsession_lif 1h\n}",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v; want %q", text, err, words)
		}
	}
	if _, err := (&Handler{Address: "https://x.example", Signup: &Signup{Code: "{env.FAREBOX_TEST_MISSING}"}}).resolved(); err == nil {
		t.Error("a placeholder without a value became the code")
	}
}

// resolved returns the settings of a handler as Provision would find them.
func (h *Handler) resolved() (people.Settings, error) {
	var err error
	if h.address, err = parseAddress(h.Address); err != nil {
		return people.Settings{}, err
	}
	return h.settings()
}

// TestSameHost checks that the console answers for its own host only, however the host
// is written.
func TestSameHost(t *testing.T) {
	for address, hosts := range map[string]map[string]bool{
		"https://gateway.example.com/console": {"gateway.example.com": true, "GATEWAY.example.com:443": true, "gateway.example.com:8443": false, "evil.example": false, "": false},
		"http://localhost:8080":               {"localhost:8080": true, "localhost": false, "127.0.0.1:8080": false},
		"http://[::1]:8080":                   {"[::1]:8080": true, "[::1]": false},
	} {
		u, err := parseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		h := &Handler{address: u}
		for host, want := range hosts {
			if h.sameHost(host) != want {
				t.Errorf("%s for %s: %t", host, address, !want)
			}
		}
	}
}

// TestModule checks that the handler is registered under the name of the directive.
func TestModule(t *testing.T) {
	if info, err := caddy.GetModule("http.handlers.farebox_console"); err != nil || info.New == nil {
		t.Errorf("%+v, %v", info, err)
	}
}
