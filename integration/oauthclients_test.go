package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// script runs a script of integration/node with a JSON argument and returns its output.
func script(t *testing.T, name string, argument any) []byte {
	t.Helper()
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "", binaries.Node(t), filepath.Join(binaries.Root, "integration", "node", name), string(text))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", name, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

// TestOAuthConformance checks that the official conformance suite's scenarios of
// authorization servers pass, every check of them: metadata, and the whole authorization
// code grant with a person at the consent page.
func TestOAuthConformance(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	port := harness.FreePort(t)
	c := register(t, a.weather, "http://127.0.0.1:"+port+"/callback")
	run := binaries.ConformIssuer(t, a.weather, c.id, a.endpoint("weather"), port, func(url string) {
		b := newBrowser(t)
		p := b.submit(b.open(url), map[string]string{"key": a.key, "step": "key"})
		p = b.submit(p, map[string]string{"step": "allow"})
		if p.location == nil {
			t.Fatalf("%d\n%s", p.status, p.text)
		}
		b.open(p.location.String())
	})
	if n := run.Count("SUCCESS"); run.Exit != 0 || run.Scenarios() != 2 || n != len(run.Checks) || n < 3 {
		t.Errorf("exit code %d: %+v", run.Exit, run.Checks)
	}
}

// TestOAuthTypeScript checks the whole way of a client of the official TypeScript SDK that
// knows only the URL of the server. The client finds the issuer, registers, sends a person
// to the consent page once, and goes on with its refresh token when its access token is
// refused.
func TestOAuthTypeScript(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	var seen struct {
		Asked     int
		Texts     []string
		Authorize map[string]string
		Refreshed bool
		Scope     string
		Secrets   []string
	}
	out := script(t, "oauth.mjs", map[string]string{"mcp": a.endpoint("weather"), "key": a.key})
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, secret := range seen.Secrets {
		a.AddSecret(secret)
	}
	if seen.Asked != 1 || len(seen.Texts) != 2 || !seen.Refreshed || seen.Authorize["resource"] != a.endpoint("weather") || seen.Authorize["code_challenge_method"] != "S256" {
		t.Errorf("%+v", seen)
	}
	for _, text := range seen.Texts {
		if !strings.Contains(text, "Oslo") {
			t.Errorf("the tool says %q", text)
		}
	}
	if scopes := strings.Fields(seen.Scope); !slices.Equal(scopes, []string{"cities.read"}) {
		t.Errorf("scope %q", seen.Scope)
	}
	if n := len(a.Charges(t, "agent")); n != 2 {
		t.Errorf("%d charges, want 2", n)
	}
	a.VerifyLedger(t)
}

// TestOAuthStrictClient checks that oauth4webapi, which refuses each deviation from the
// standards, accepts all answers of an issuer: in both forms of discovery, in
// registration, codes, refreshes, introspection and revocation with each way of
// authentication, in the flow for devices, and for a client that pays by its own account.
func TestOAuthStrictClient(t *testing.T) {
	t.Parallel()
	const secret = "a secret of the machine: more than 32 bytes"
	a := startIssuers(t, "client machine {\nname Machine\nsecret \""+secret+"\"\naccount worker\nscopes cities.read\n}")
	a.NewAgent(t, "worker", "1.00")
	out := script(t, "oauth4webapi.mjs", map[string]string{"mcp": a.endpoint("weather"), "issuer": a.weather, "key": a.key, "machine": "machine", "secret": secret})
	if passed := strings.Count(string(out), "ok "); passed != 31 {
		t.Errorf("%d parts have passed, want 31:\n%s", passed, out)
	}
	if n := len(a.Charges(t, "worker")); n != 1 {
		t.Errorf("the account of the machine has %d charges, want 1", n)
	}
	a.VerifyLedger(t)
}

// TestOAuthRemote checks the whole way of mcp-remote, with which desktop programs reach
// servers. It registers, and a person in Debian's Chromium mistypes the key, sees the
// reason, reads the request on the page and allows it. Then the tool is called and paid
// for.
func TestOAuthRemote(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	a := startIssuers(t)
	var seen struct {
		Wrong, Page, Callback, Text string
		Problems                    []string
	}
	out := script(t, "mcpremote.mjs", map[string]string{"browser": chromium, "mcp": a.endpoint("weather"), "key": a.key, "dir": t.TempDir()})
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(seen.Problems) > 0 || !strings.Contains(seen.Wrong, "no such key") || !strings.Contains(seen.Text, "Oslo") || !strings.HasPrefix(seen.Callback, "http://localhost:") {
		t.Errorf("%+v", seen)
	}
	for _, text := range []string{"MCP CLI Proxy", "localhost", a.endpoint("weather"), "agent", "read the list of cities"} {
		if !strings.Contains(seen.Page, text) {
			t.Errorf("the page does not have %q:\n%s", text, seen.Page)
		}
	}
	if n := len(a.Charges(t, "agent")); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
}

// printedURL matches an authorization URL that a program prints or opens for a person.
var printedURL = regexp.MustCompile(`https?://\S+\?\S*response_type=code\S*`)

// TestOAuthInspector checks the whole way of the official Inspector's command-line client:
// it registers, opens a browser, gets its code at a loopback address, and calls the tool. The next call needs no person, because the Inspector keeps its tokens.
func TestOAuthInspector(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	dir := t.TempDir()
	// A browser of the desktop, which writes its URL to a file.
	opener := "#!/bin/sh\necho \"$1\" >\"$HOME/opened\"\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(opener), 0o700); err != nil {
		t.Fatal(err)
	}
	launcher := binaries.Module(t, "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
	call := func(more ...string) *harness.Process {
		args := append([]string{
			launcher, "--cli", a.endpoint("weather"), "--transport", "http", "--callback-url", "http://127.0.0.1:" + harness.FreePort(t) + "/oauth/callback",
			"--format", "json", "--method", "tools/call", "--tool-name", "get_forecast", "--tool-args-json", `{"city":"Oslo"}`,
		}, more...)
		return harness.Start(t, "inspector", filepath.Join(t.TempDir(), "log"), []string{"HOME=" + dir, "PATH=" + dir, "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file"}, binaries.Node(t), args...)
	}
	first := call()
	var url string
	first.Await(t, "an authorization URL", func() error {
		opened, _ := os.ReadFile(filepath.Join(dir, "opened")) // does not exist at first
		if url = printedURL.FindString(first.Output(t) + "\n" + string(opened)); url == "" {
			return errors.New("no URL yet")
		}
		return nil
	})
	b := newBrowser(t)
	p := b.submit(b.open(url), map[string]string{"key": a.key, "step": "key"})
	p = b.submit(p, map[string]string{"step": "allow"})
	if p.location == nil {
		t.Fatalf("%d\n%s", p.status, p.text)
	}
	if back := b.open(p.location.String()); back.status != 200 || !strings.Contains(back.text, "OAuth complete") {
		t.Errorf("the Inspector answers the browser with %d %s", back.status, back.text)
	}
	for i, run := range []*harness.Process{first, call("--stored-auth-only")} {
		if code, out := run.Wait(t), run.Output(t); code != 0 || !strings.Contains(out, "Oslo") {
			t.Errorf("run %d: exit code %d: %s", i, code, out)
		}
	}
	if n := len(a.Charges(t, "agent")); n != 2 {
		t.Errorf("%d charges, want 2", n)
	}
}
