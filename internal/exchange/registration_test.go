package exchange

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/registration"
)

const registering = `{"redirect_uris":["http://localhost:1/callback"],"token_endpoint_auth_method":"none"}`

// toldToSend checks that a response has the form that clients read (RFC 7591,
// 3.2.2). Its description names the header and a contact, and has allowed
// characters only (RFC 6749, 5.2).
func toldToSend(t *testing.T, w *httptest.ResponseRecorder, header string) {
	t.Helper()
	var refused struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil || w.Code != http.StatusBadRequest || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s: %v", w.Code, w.Header(), w.Body, err)
	}
	allowed := regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`)
	if refused.Code != "access_denied" || !allowed.MatchString(refused.Description) || !strings.Contains(refused.Description, header) || !strings.Contains(refused.Description, "whoever runs this gateway") {
		t.Errorf("%+v", refused)
	}
}

// TestRegistrationAtAServer checks a client that registers at a server's path. The
// client gets the refusal of registrations, with that server's header for keys. MCP
// messages, other refusals and servers with OAuth are not affected.
func TestRegistrationAtAServer(t *testing.T) {
	missing, invalid := &gate.Refusal{Code: gate.TokenMissing}, &gate.Refusal{Code: gate.TokenInvalid}
	for name, c := range map[string]struct {
		path, body string
		oauth      bool
		refusal    *gate.Refusal
		told       bool
	}{
		"no key":          {"/mcp/register", registering, false, missing, true},
		"a bad key":       {"/register", registering, false, invalid, true},
		"a message":       {"/mcp/register", paidCall, false, missing, false},
		"elsewhere":       {"/mcp", registering, false, missing, false},
		"oauth":           {"/mcp/register", registering, true, missing, false},
		"another refusal": {"/mcp/register", registering, false, &gate.Refusal{Code: gate.OriginForbidden}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x, w := exchangeFor(t, paidCall)
			if x.site.KeyHeader = NewKeyHeader("X-API-Key"); c.oauth {
				x.site.Resource = &Resource{MetadataURL: func(*http.Request) string { return "https://a.example" }}
			}
			x.r = httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(c.body)).WithContext(x.r.Context())
			x.r.Header.Set("Content-Type", "application/json")
			x.stage, x.message = unread, mcp.Message{}
			defer x.memory.Close()
			x.refuse(c.refusal)
			if c.told {
				toldToSend(t, w, "Authorization: Bearer sk_live_..., or as the header X-API-Key")
			} else if strings.Contains(w.Body.String(), "error_description") || !strings.Contains(w.Body.String(), string(c.refusal.Code)) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestRegistrationNamesTheContact checks that the description names the operator's
// contact, unless the contact has characters that a description must not have.
func TestRegistrationNamesTheContact(t *testing.T) {
	for contact, want := range map[string]string{
		"keys@example.com": "; ask keys@example.com for one", "": "; ask whoever runs this gateway for one",
		`a "desk"`: "; ask whoever runs this gateway for one", "clé@example.com": "; ask whoever runs this gateway for one",
	} {
		w := httptest.NewRecorder()
		registration.Refuse(w, &keys.DefaultFormat, "", contact)
		var refused struct {
			Code        string `json:"error"`
			Description string `json:"error_description"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil || !strings.HasSuffix(refused.Description, want) {
			t.Errorf("with %q: %s, %v", contact, w.Body, err)
		}
	}
}
