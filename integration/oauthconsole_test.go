package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var consoleLink = regexp.MustCompile(`href="(http[^"]*/console/connect\?[^"]+)"`)

// form returns the part of a page of the console that begins with the form for the path,
// with the form's target made absolute.
func (p page) form(t *testing.T, base, path string) page {
	t.Helper()
	at := strings.Index(p.text, `<form method="post" action="`+path)
	if at < 0 {
		t.Fatalf("the page has no form for %s: %d\n%s", path, p.status, p.text)
	}
	p.text = p.text[at:]
	action := formAction.FindStringSubmatch(p.text)
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	if to, err = to.Parse(action[1]); err != nil {
		t.Fatal(err)
	}
	p.text = strings.Replace(p.text, `action="`+action[1]+`"`, `action="`+to.String()+`"`, 1)
	return p
}

// TestOAuthPaysBySession checks that an owner of an account, after signing in to the console,
// connects a client without a key. The account that the owner chose pays, another
// account's id in the form is refused, and after the owner is disabled, the tokens are
// dead.
func TestOAuthPaysBySession(t *testing.T) {
	t.Parallel()
	text := ownIssuerSite(binaries.StartWeather(t, "-stateless"))
	text = strings.Replace(text, "\tfarebox_metadata\n", "\tfarebox_console http://localhost:{$FAREBOX_PORT}/console\n\tfarebox_metadata\n", 1)
	g := binaries.StartGateway(t, text)
	agent, _ := g.NewAgent(t, "agent", "1.00")
	other, _ := g.NewAgent(t, "other", "1.00")
	var invited struct{ Link string }
	g.CLI(t, &invited, "console", "invite", agent.Name, "--role", "owner", "--email", "olga@example.com")
	g.AddSecret(invited.Link[strings.LastIndexByte(invited.Link, '/')+1:])

	olga := newBrowser(t)
	origin := "http://localhost:" + g.Port
	p := olga.submitFrom(olga.open(invited.Link).form(t, invited.Link, "/console/invite/"), map[string]string{"email": "olga@example.com", "password": "four odd horses walked past"}, "Origin", origin)
	if p.status != http.StatusSeeOther {
		t.Fatalf("the invitation was not accepted: %d\n%s", p.status, p.text)
	}
	c := register(t, origin+"/oauth/weather")
	link := consoleLink.FindStringSubmatch(olga.open(c.authorization(nil)).text)
	if link == nil {
		t.Fatal("the consent page has no link to the console")
	}
	address := strings.ReplaceAll(link[1], "&amp;", "&")
	decide := func(account string) page {
		t.Helper()
		return olga.submitFrom(olga.open(address).form(t, address, "/console/connect"), map[string]string{"account": account, "step": "allow"}, "Origin", origin)
	}
	if p := decide(other.ID); p.status != http.StatusBadRequest || p.location != nil {
		t.Errorf("another account can be chosen: %d %v\n%s", p.status, p.location, p.text)
	}
	p = decide(agent.ID)
	if p.status != http.StatusSeeOther || p.location.Query().Get("code") == "" || p.location.Query().Get("iss") != c.issuer {
		t.Fatalf("no code: %d %v\n%s", p.status, p.location, p.text)
	}
	got := c.token(url.Values{"grant_type": {"authorization_code"}, "code": {p.location.Query().Get("code")}, "redirect_uri": {c.redirect}, "code_verifier": {c.verifier}})
	g.AddSecret(got.Access)
	g.AddSecret(got.Refresh)
	call := func() int {
		t.Helper()
		answer, err := g.Post(t.Context(), http.DefaultClient, got.Access, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"Oslo"}}}`)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status
	}
	if status := call(); status != http.StatusOK || len(g.Charges(t, agent.Name)) != 1 {
		t.Errorf("a call with the token: %d, %d charges", status, len(g.Charges(t, agent.Name)))
	}
	g.CLI(t, nil, "person", "disable", "olga@example.com")
	if status := call(); status != http.StatusUnauthorized {
		t.Errorf("the token of a disabled person: %d", status)
	}
	if n := len(g.Charges(t, "other")); n != 0 {
		t.Errorf("the other account paid for %d calls", n)
	}
	g.VerifyLedger(t)
}
