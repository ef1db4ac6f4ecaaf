package client

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golden has the properties that a client from testdata must get.
type golden struct {
	name, host string
	uses       []string // redirect URIs that it sends
	uris       int
	methods    []AuthMethod
	grants     []string
}

var (
	codeAndRefresh = []string{GrantCode, GrantRefresh}
	withDevice     = []string{GrantCode, GrantRefresh, GrantDevice}
	onlyNone       = []AuthMethod{None}
)

var documentsOfClients = map[string]golden{
	"claude":            {"Claude", "claude.ai", []string{"https://claude.ai/api/mcp/auth_callback"}, 1, onlyNone, codeAndRefresh},
	"claude-code":       {"Claude Code", "claude.ai", []string{"http://localhost:3118/callback", "http://127.0.0.1:55611/callback"}, 2, onlyNone, codeAndRefresh},
	"chatgpt":           {"ChatGPT", "chatgpt.com", []string{"https://chatgpt.com/connector_platform_oauth_redirect"}, 1, []AuthMethod{None, PrivateKeyJWT}, codeAndRefresh},
	"chatgpt-connector": {"ChatGPT", "chatgpt.com", []string{"https://chatgpt.com/connector/oauth/tU1UVEq8rRTK"}, 1, []AuthMethod{PrivateKeyJWT}, codeAndRefresh},
	"codex":             {"Codex", "chatgpt.com", []string{"http://127.0.0.1:1455/callback"}, 2, onlyNone, codeAndRefresh},
	"vscode":            {"Visual Studio Code", "vscode.dev", []string{"http://127.0.0.1:33418/", "http://127.0.0.1:51999/", "https://vscode.dev/redirect"}, 2, onlyNone, withDevice},
	"goose":             {"Goose", "goose-docs.ai", []string{"http://localhost:50391/oauth_callback"}, 1, onlyNone, []string{GrantCode}},
	"opencode":          {"opencode", "opencode.ai", []string{"http://127.0.0.1:19876/callback"}, 2, onlyNone, codeAndRefresh},
	"zed":               {"Zed", "zed.dev", []string{"http://127.0.0.1:40000/callback"}, 1, onlyNone, codeAndRefresh},
}

// TestDocumentsOfRealClients: each client's own document, at its own URL, makes a client
// that may use the redirect URIs which the client really sends.
func TestDocumentsOfRealClients(t *testing.T) {
	w := newWeb(t, "claude.ai", "chatgpt.com", "vscode.dev", "goose-docs.ai", "opencode.ai", "zed.dev")
	r, _, _ := newRegistry(t, w, Options{})
	for file, body := range goldenFiles(t, "documents", len(documentsOfClients)) {
		want, ok := documentsOfClients[file]
		if !ok {
			t.Errorf("%s.json is not in the table", file)
		}
		var d struct {
			ID string `json:"client_id"`
		}
		if err := json.Unmarshal(body, &d); err != nil {
			t.Fatal(err)
		}
		w.json(strings.TrimPrefix(d.ID, "https://"), string(body), "public, max-age=300")
		c, err := r.Find(t.Context(), somebody, d.ID)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if c.Kind != Published {
			t.Errorf("%s: kind %s", file, c.Kind)
		}
		want.check(t, file, c)
	}
}

func (want *golden) check(t *testing.T, file string, c *Client) {
	t.Helper()
	if c.Name != want.name || c.Host() != want.host || len(c.RedirectURIs) != want.uris ||
		!slices.Equal(c.AuthMethods, want.methods) || !slices.Equal(c.GrantTypes, want.grants) {
		t.Errorf("%s: %+v, host %q", file, c, c.Host())
	}
	for _, uri := range want.uses {
		if got, err := c.Redirect(uri); err != nil || got != uri {
			t.Errorf("%s: %s: %q, %v", file, uri, got, err)
		}
	}
	for _, uri := range []string{"https://evil.example/callback", "http://localhost.evil.example/callback"} {
		if _, err := c.Redirect(uri); err == nil {
			t.Errorf("%s may use %s", file, uri)
		}
	}
}

var secrets = []AuthMethod{SecretBasic, SecretPost}

var registrationsOfClients = map[string]golden{
	"claude":      {"Claude", "", []string{"https://claude.ai/api/mcp/auth_callback"}, 1, onlyNone, codeAndRefresh},
	"claude-code": {"Claude Code (weather)", "", []string{"http://localhost:64975/callback", "http://localhost:3118/callback"}, 1, onlyNone, codeAndRefresh},
	"chatgpt":     {"ChatGPT", "", []string{"https://chatgpt.com/connector/oauth/tU1UVEq8rRTK"}, 1, secrets, codeAndRefresh},
	"cursor": {"Cursor", "", []string{
		"cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback",
	}, 3, onlyNone, codeAndRefresh},
	"vscode": {"Visual Studio Code", "", []string{
		"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/", "http://127.0.0.1:60123/",
	}, 4, onlyNone, withDevice},
	"mcp-remote":        {"MCP CLI Proxy", "", []string{"http://localhost:19537/oauth/callback", "http://localhost:3335/oauth/callback"}, 1, onlyNone, codeAndRefresh},
	"mcp-remote-device": {"MCP CLI Proxy", "", nil, 0, onlyNone, []string{GrantRefresh, GrantDevice}},
	"inspector":         {"MCP Inspector", "", []string{"http://127.0.0.1:6274/oauth/callback"}, 1, onlyNone, codeAndRefresh},
	"codex":             {"Codex", "", []string{"http://127.0.0.1:42541/callback", "http://127.0.0.1:45511/callback"}, 1, onlyNone, codeAndRefresh},
	"opencode":          {"OpenCode", "", []string{"http://127.0.0.1:19876/mcp/oauth/callback"}, 1, onlyNone, codeAndRefresh},
	"goose":             {"goose", "", []string{"http://127.0.0.1:50391/oauth_callback"}, 1, onlyNone, codeAndRefresh},
	"n8n":               {"n8n", "", []string{"https://oauth.n8n.cloud/oauth2/callback"}, 1, secrets, codeAndRefresh},
}

// TestRegistrationsOfRealClients: each client's own body registers a client that may use
// the redirect URIs which the client really sends. No URI of a real client is dropped.
func TestRegistrationsOfRealClients(t *testing.T) {
	r, store, _ := newRegistry(t, nil, Options{})
	for file, body := range goldenFiles(t, "registrations", len(registrationsOfClients)) {
		want, ok := registrationsOfClients[file]
		if !ok {
			t.Errorf("%s.json is not in the table", file)
		}
		resp, err := r.Register(t.Context(), somebody, body)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if len(resp.Dropped) > 0 || resp.IssuedAt == 0 || (resp.Secret != "") != slices.Equal(want.methods, secrets) {
			t.Errorf("%s: %+v", file, resp)
		}
		c, err := r.Find(t.Context(), somebody, resp.ClientID)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !slices.Equal(c.RedirectURIs, resp.RedirectURIs) && len(resp.RedirectURIs) > 0 {
			t.Errorf("%s: the response lists %q, and %q are registered", file, resp.RedirectURIs, c.RedirectURIs)
		}
		want.check(t, file, c)
		if row := store.registrations[resp.ClientID]; resp.Secret != "" && strings.Contains(string(row.Metadata), resp.Secret) {
			t.Errorf("%s: the store has the secret", file)
		}
	}
}

// goldenFiles returns the files in a folder of testdata by name.
func goldenFiles(t *testing.T, folder string, n int) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(paths) != n {
		t.Fatalf("%d files, want %d: %v", len(paths), n, err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(path), ".json")] = body
	}
	return files
}
