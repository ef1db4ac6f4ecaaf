package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Issuer is an OpenID provider that Farebox has nothing to do with, see
// integration/zitadelop.
type Issuer struct {
	URL string // the issuer's identifier, which ends with a slash

	t       testing.TB
	binary  string
	address string
	process *Process
}

// IssuerClient and IssuerSecret are the client by which a resource server asks an Issuer
// about tokens, and the secret of that client. The secret is also that of all agents.
const (
	IssuerClient = "web"
	IssuerSecret = "verysecret"
)

// issuers builds integration/zitadelop once for a test binary.
var issuers struct {
	once sync.Once
	err  error
}

// NewIssuer prepares an issuer at a free port, without starting it.
func (b *Binaries) NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	binary := filepath.Join(filepath.Dir(b.Farebox), "zitadelop")
	issuers.once.Do(func() {
		cmd := exec.Command("go", "build", "-o", binary, ".")
		cmd.Dir = filepath.Join(b.Root, "integration", "zitadelop")
		if out, err := cmd.CombinedOutput(); err != nil {
			issuers.err = fmt.Errorf("build the issuer: %w\n%s", err, out)
		}
	})
	if issuers.err != nil {
		t.Fatal(issuers.err)
	}
	address := "127.0.0.1:" + FreePort(t)
	return &Issuer{URL: "http://" + address + "/", t: t, binary: binary, address: address}
}

// Start starts the issuer. It ends with the test.
func (i *Issuer) Start() {
	i.t.Helper()
	i.process = Start(i.t, "issuer", filepath.Join(i.t.TempDir(), "issuer.log"), nil, i.binary, "-listen", i.address)
	i.process.AwaitHTTP(i.t, i.URL+".well-known/openid-configuration")
}

// Kill ends the issuer immediately.
func (i *Issuer) Kill() { i.process.Kill() }

// Token returns an access token for an agent: a signed one if the agent's name begins with
// "jwt-", and an opaque one otherwise.
func (i *Issuer) Token(agent, audience string, scopes ...string) string {
	i.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(append(scopes, "audience:"+audience), " ")}}
	r, err := http.NewRequest(http.MethodPost, i.URL+"oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		i.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(agent, IssuerSecret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		i.t.Fatalf("the issuer answered with %s and no token: %v", response.Status, err)
	}
	return answer.Token
}

// Rotate makes the issuer sign with a new key and withdraw the old one.
func (i *Issuer) Rotate() { i.post("test/rotate", nil) }

// Revoke ends an opaque token.
func (i *Issuer) Revoke(token string) { i.post("revoke", url.Values{"token": {token}}) }

func (i *Issuer) post(path string, form url.Values) {
	i.t.Helper()
	r, err := http.NewRequest(http.MethodPost, i.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		i.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(IssuerClient, IssuerSecret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		i.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		i.t.Fatalf("the issuer answered POST /%s with %s", path, response.Status)
	}
}
