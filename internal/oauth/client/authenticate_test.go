package client

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
)

const machineSecret = "s3cret+with%20specials:and more"

// declared returns a registry with static clients, and the id and secret of a registered
// client.
func declared(t *testing.T) (r *Registry, id, secret string) {
	t.Helper()
	digest, err := ParseSecret(machineSecret)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ParseSecret("an-older-secret-of-the-machine")
	if err != nil {
		t.Fatal(err)
	}
	r, _, _ = newRegistry(t, nil, Options{Static: []Declared{
		{ID: "machine", Name: "Nightly job", Secrets: []Digest{digest, old}, Account: "acme", Scopes: []string{"tools:read"}},
		{ID: "desktop", Name: "Desktop", RedirectURIs: []string{"http://127.0.0.1/cb"}},
	}})
	resp, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "client_secret_basic"}`))
	if err != nil {
		t.Fatal(err)
	}
	return r, resp.ClientID, resp.Secret
}

func basicHeader(id, secret string) []string {
	return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}
}

// TestAuthenticate: a client authenticates by exactly one method, which is one of its own.
func TestAuthenticate(t *testing.T) {
	r, registered, secret := declared(t)
	form := func(pairs ...string) url.Values {
		v := make(url.Values)
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	escaped := url.QueryEscape(machineSecret)
	for _, row := range []struct {
		name   string
		header []string
		form   url.Values
		id     string // the client that authenticates
		method AuthMethod
		want   Code
	}{
		{"basic", basicHeader("machine", machineSecret), nil, "machine", SecretBasic, ""},
		{"basic, encoded", basicHeader("machine", escaped), nil, "machine", SecretBasic, ""},
		{"basic in lower case", []string{strings.Replace(basicHeader("machine", machineSecret)[0], "Basic", "basic", 1)}, nil, "machine", SecretBasic, ""},
		{"basic and the same id", basicHeader("machine", machineSecret), form("client_id", "machine"), "machine", SecretBasic, ""},
		{"post", nil, form("client_id", "machine", "client_secret", machineSecret), "machine", SecretPost, ""},
		{"older secret", nil, form("client_id", "machine", "client_secret", "an-older-secret-of-the-machine"), "machine", SecretPost, ""},
		{"public", nil, form("client_id", "desktop"), "desktop", None, ""},
		{"public with an empty secret", nil, form("client_id", "desktop", "client_secret", ""), "desktop", None, ""},
		{"registered, basic", basicHeader(registered, secret), nil, registered, SecretBasic, ""},
		{"registered, post", nil, form("client_id", registered, "client_secret", secret), registered, SecretPost, ""},

		{"wrong secret", basicHeader("machine", "wrong"), nil, "", "", InvalidClient},
		{"part of the secret", basicHeader("machine", machineSecret[1:]), nil, "", "", InvalidClient},
		{"digest as secret", nil, form("client_id", "machine", "client_secret", hex.EncodeToString(digestOf(machineSecret))), "", "", InvalidClient},
		{"secret of another", nil, form("client_id", registered, "client_secret", machineSecret), "", "", InvalidClient},
		{"no secret", nil, form("client_id", "machine"), "", "", InvalidClient},
		{"empty secret", basicHeader("machine", ""), nil, "", "", InvalidClient},
		{"registered without its secret", nil, form("client_id", registered), "", "", InvalidClient},
		{"secret of a public client", nil, form("client_id", "desktop", "client_secret", "x"), "", "", InvalidClient},
		{"unknown", nil, form("client_id", "nobody"), "", "", InvalidClient},
		{"unknown, registered form", nil, form("client_id", registeredPrefix+"01890a5d-ac96-774b-bcce-b302099a8057"), "", "", InvalidClient},
		{"nothing", nil, nil, "", "", InvalidClient},
		{"two methods", basicHeader("machine", machineSecret), form("client_secret", machineSecret), "", "", InvalidRequest},
		{"secret and assertion", nil, form("client_id", "machine", "client_secret", machineSecret, "client_assertion", "x"), "", "", InvalidRequest},
		{"another id in the form", basicHeader("machine", machineSecret), form("client_id", "desktop"), "", "", InvalidClient},
		{"id twice", nil, form("client_id", "desktop", "client_id", "machine"), "", "", InvalidRequest},
		{"secret twice", nil, form("client_id", "machine", "client_secret", machineSecret, "client_secret", "x"), "", "", InvalidRequest},
		{"header twice", append(basicHeader("machine", machineSecret), basicHeader("desktop", "")...), nil, "", "", InvalidRequest},
		{"bearer", []string{"Bearer x"}, form("client_id", "desktop"), "", "", InvalidClient},
		{"not base64", []string{"Basic ???"}, nil, "", "", InvalidClient},
		{"no colon", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("machine"))}, nil, "", "", InvalidClient},
		{"empty id", basicHeader("", machineSecret), nil, "", "", InvalidClient},
		{"empty header", []string{""}, form("client_id", "desktop"), "", "", InvalidClient},
		{"assertion of another type", nil, form("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "client_assertion", "x"), "", "", InvalidClient},
		{"type without assertion", nil, form("client_id", "desktop", "client_assertion_type", assertionType), "", "", InvalidClient},
	} {
		c, method, err := r.Authenticate(t.Context(), &Request{Source: somebody, Authorization: row.header, Form: row.form, Audiences: []string{issuer}})
		if codeOf(t, err) != row.want {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if row.want == "" && (c == nil || c.ID != row.id || method != row.method) || row.want != "" && c != nil {
			t.Errorf("%s: %+v by %q", row.name, c, method)
		}
		if err != nil && strings.Contains(err.Error(), machineSecret) {
			t.Errorf("%s: the error has the secret", row.name)
		}
	}
}

func digestOf(secret string) []byte {
	d := sha256.Sum256([]byte(secret))
	return d[:]
}

// TestAssertedClientID: a client_id beside an assertion must be its sub.
func TestAssertedClientID(t *testing.T) {
	s := newSigner(t, "k")
	r, _, c := withKeys(t, s.jwks())
	for id, want := range map[string]Code{"": "", agentID: "", "https://agent.example/other": InvalidClient} {
		req := asserted(s.sign(claimsAt(c.now(), nil)))
		if id != "" {
			req.Form.Set("client_id", id)
		}
		if _, _, err := r.Authenticate(t.Context(), req); codeOf(t, err) != want {
			t.Errorf("%q: %v", id, err)
		}
	}
	// The client publishes private_key_jwt only, so its id alone is not enough.
	req := &Request{Source: somebody, Form: url.Values{"client_id": {agentID}}}
	if _, _, err := r.Authenticate(t.Context(), req); codeOf(t, err) != InvalidClient {
		t.Errorf("%v", err)
	}
}

// TestStaticClients: a mistake in the config is refused with the id of the client.
func TestStaticClients(t *testing.T) {
	digest, err := ParseSecret(machineSecret)
	if err != nil {
		t.Fatal(err)
	}
	some := []Digest{digest}
	for name, row := range map[string]struct {
		clients []Declared
		want    string // in the error; "" for none
	}{
		"good": {[]Declared{
			{ID: "a", RedirectURIs: []string{"https://tools.example/cb", "http://localhost/cb", "myapp://cb"}},
			{ID: "b", Secrets: some, Account: "acme"}, {ID: "c"},
			{ID: "https://chatgpt.com/oauth/x/client.json", RedirectURIs: []string{"https://chatgpt.com/connector/oauth/x"}},
		}, ""},
		"no id":           {[]Declared{{RedirectURIs: []string{"https://tools.example/cb"}}}, "id is empty"},
		"space":           {[]Declared{{ID: "a b"}}, "printable"},
		"as registered":   {[]Declared{{ID: "fbclient_1"}}, "begins as those"},
		"twice":           {[]Declared{{ID: "a"}, {ID: "a"}}, "twice"},
		"http":            {[]Declared{{ID: "a", RedirectURIs: []string{"http://tools.example/cb"}}}, "client a"},
		"fragment":        {[]Declared{{ID: "a", RedirectURIs: []string{"https://tools.example/cb#x"}}}, "fragment"},
		"asterisk":        {[]Declared{{ID: "a", RedirectURIs: []string{"https://tools.example/*"}}}, "asterisk"},
		"script":          {[]Declared{{ID: "a", RedirectURIs: []string{"javascript://x/"}}}, "browser"},
		"account, public": {[]Declared{{ID: "a", Account: "acme"}}, "needs a secret"},
	} {
		_, err := New(Options{Store: newMemory(), Fetch: newWeb(t).fetcher(), Static: row.clients})
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	r, _, _ := declared(t)
	c, err := r.Find(t.Context(), somebody, "machine")
	if err != nil || !c.HasGrant(GrantCredentials) || c.HasGrant(GrantCode) || c.Account != "acme" || c.Kind != Static {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := r.Find(t.Context(), somebody, "desktop"); err != nil || c.HasGrant(GrantCredentials) || !c.HasGrant(GrantCode) || !c.HasGrant(GrantDevice) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := New(Options{Store: newMemory(), Fetch: newWeb(t).fetcher(), RedirectURIs: []string{"https://*.example"}}); err == nil {
		t.Error("a bad addition was accepted")
	}
}

// TestParseSecret: a secret of the config is a text that cannot be guessed, or its digest.
func TestParseSecret(t *testing.T) {
	d, err := ParseSecret(machineSecret)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseSecret("sha256:" + hex.EncodeToString(digestOf(machineSecret))); err != nil || again != d {
		t.Errorf("%x, %v", again, err)
	}
	for _, text := range []string{"", "short", strings.Repeat("x", minSecret-1), "sha256:", "sha256:00", "sha256:" + strings.Repeat("zz", 32), "sha256:" + strings.Repeat("00", 33)} {
		if _, err := ParseSecret(text); err == nil || len(text) > 4 && strings.Contains(err.Error(), text) && !strings.HasPrefix(text, "sha256:") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
