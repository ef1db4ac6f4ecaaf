package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// issuers is a gateway with two servers that has an issuer for each, and an agent
// key that pays.
type issuers struct {
	*harness.Gateway
	base, weather, maps string // URLs of the gateway and of the issuers
	key                 string // secret
}

// endpoint returns the URL of the MCP server with the name.
func (a *issuers) endpoint(server string) string { return a.base + "/" + server + "/mcp" }

func startIssuers(t *testing.T, options ...string) *issuers {
	t.Helper()
	g := binaries.StartGateway(t, twoServersSite(binaries.StartWeather(t, "-stateless"), options...))
	g.NewAgent(t, "agent", "5.00")
	base := "http://localhost:" + g.Port
	return &issuers{g, base, base + "/oauth/weather", base + "/oauth/maps", g.NewKey(t, "agent", "--scope", "cities.read").Secret}
}

// TestOAuthAttacks sends requests to the issuers of a gateway that a thief, a malicious
// page or a malicious client would send. The promise of each attack is at its function.
func TestOAuthAttacks(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	for name, attack := range map[string]func(*testing.T, *issuers){
		"code replay": attackByCodeReplay, "code theft": attackByStolenCode, "redirects": attackByRedirects, "requests": attackByRequests,
		"other server": attackAtOtherServer, "refresh": attackByRefresh, "crowd": attackByCrowd, "forms": attackByForms, "frames": attackByFrames,
		"token places": attackByTokenPlaces, "documents": attackByDocuments, "methods": attackByMethods, "bodies": attackByBodies, "foreign tokens": attackByForeignTokens,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, a)
		})
	}
	t.Cleanup(func() { a.VerifyLedger(t) })
}

// attackByCodeReplay: a code that is used twice was stolen. The second use gets nothing,
// and ends the tokens of the first.
func attackByCodeReplay(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	code := c.code(a.key)
	first := c.exchange(code)
	if status := c.statusAt(a.endpoint("weather"), first.Access); status != 200 {
		t.Fatalf("the token gets %d", status)
	}
	if again := c.exchange(code); again.Status != 400 || again.Error != "invalid_grant" || again.Access != "" {
		t.Errorf("the second use gets %d %s", again.Status, again.Error)
	}
	if status := c.statusAt(a.endpoint("weather"), first.Access); status != 401 {
		t.Errorf("after the replay, the token gets %d", status)
	}
	if r := c.refresh(first.Refresh); r.Error != "invalid_grant" {
		t.Errorf("after the replay, the refresh token gets %d %s", r.Status, r.Error)
	}
}

// attackByStolenCode: a code is worth nothing without the verifier, to another client, with
// another redirect URI, or at another issuer. None of these attempts uses the code up.
func attackByStolenCode(t *testing.T, a *issuers) {
	c, other := register(t, a.weather), register(t, a.weather)
	code := c.code(a.key)
	form := func(name, value string) url.Values {
		f := url.Values{"client_id": {c.id}, "grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.redirect}, "code_verifier": {c.verifier}}
		if f.Set(name, value); value == "" {
			f.Del(name)
		}
		return f
	}
	for name, f := range map[string]url.Values{
		"no verifier":             form("code_verifier", ""),
		"the verifier of another": form("code_verifier", other.verifier),
		"the challenge itself":    form("code_verifier", c.challenge()),
		"another redirect URI":    form("redirect_uri", "http://127.0.0.1:2/callback"),
		"another client":          form("client_id", other.id),
		"a part of the code":      form("code", code[:len(code)-1]),
	} {
		if got := c.token(f); got.Status != 400 || got.Error != "invalid_grant" || got.Access != "" {
			t.Errorf("%s: %d %s", name, got.Status, got.Error)
		}
	}
	elsewhere := *c
	elsewhere.issuer = a.maps
	if got := elsewhere.exchange(code); got.Error != "invalid_grant" {
		t.Errorf("at another issuer: %d %s", got.Status, got.Error)
	}
	if got := c.exchange(code); got.Status != 200 {
		t.Errorf("the client itself: %d %s", got.Status, got.Error)
	}
	// A client with one redirect URI need not send it, neither for the code nor with it.
	implied, err := newBrowser(t).allow(c.authorization(map[string]string{"redirect_uri": ""}), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.token(url.Values{"grant_type": {"authorization_code"}, "code": {implied.Get("code")}, "code_verifier": {c.verifier}}); got.Status != 200 {
		t.Errorf("without a redirect URI: %d %s", got.Status, got.Error)
	}
}

// attackByRedirects: a redirect URI that is not the client's gets a page, and the browser
// is sent nowhere. Only the port of a loopback URI is free.
func attackByRedirects(t *testing.T, a *issuers) {
	const hosted = "https://claude.ai/api/mcp/auth_callback"
	c := register(t, a.weather, "http://127.0.0.1:1/callback", hosted)
	for _, uri := range []string{
		"http://127.0.0.1:1/callback/more", "http://127.0.0.1:1/callbac", "http://127.0.0.1:1/Callback", "http://127.0.0.1:1/callback?x=1", "http://127.0.0.1:1/callback#x",
		"http://127.0.0.1:1/x/../callback", "http://127.0.0.1:1/%63allback", "http://127.0.0.1:1//callback", "http://127.0.0.1:1/callback;x", "http://127.0.0.1:0/callback",
		"http://127.0.0.1:65536/callback", "http://127.0.0.1:01/callback", "http://127.0.0.1:1@evil.example/callback", "http://user@127.0.0.1:1/callback",
		"http://127.1:1/callback", "http://0x7f.0.0.1:1/callback", "http://0x7f000001:1/callback", "http://2130706433:1/callback", "http://0177.0.0.1/callback",
		"http://[::ffff:127.0.0.1]:1/callback", "http://[::1]:1/callback", "http://localhost:1/callback", "http://localhost.evil.example:1/callback", "http://127.0.0.1.evil.example/callback",
		"http://127.0.0.2:1/callback", "http://0.0.0.0:1/callback", "https://127.0.0.1:1/callback", "HTTP://127.0.0.1:1/callback",
		hosted + "/", hosted + "?x=1", hosted + "#x", "https://claude.ai:443/api/mcp/auth_callback", "https://claude.ai:8443/api/mcp/auth_callback", "https://CLAUDE.ai/api/mcp/auth_callback",
		"https://claude.ai./api/mcp/auth_callback", "https://claude.ai.evil.example/api/mcp/auth_callback", "https://claude.ai@evil.example/api/mcp/auth_callback",
		"https://evil.example\\@claude.ai/api/mcp/auth_callback", "https://claude.ai/api/mcp/auth_callback%2f..", "http://claude.ai/api/mcp/auth_callback",
		"//claude.ai/api/mcp/auth_callback", "/api/mcp/auth_callback", "https://evil.example/", "javascript:alert(1)", "data:text/html,x", hosted + "\r\nLocation: https://evil.example/", hosted + "\t",
	} {
		p := newBrowser(t).open(c.authorization(map[string]string{"redirect_uri": uri}))
		if p.status != 400 || p.location != nil || p.header.Get("Refresh") != "" || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") || strings.Contains(p.text, `name="request"`) {
			t.Errorf("%q: %d, sent to %v", uri, p.status, p.location)
		}
	}
	for _, uri := range []string{"http://127.0.0.1/callback", "http://127.0.0.1:51234/callback", hosted} {
		if p := newBrowser(t).open(c.authorization(map[string]string{"redirect_uri": uri})); p.status != 200 || p.location != nil {
			t.Errorf("%q: %d\n%s", uri, p.status, p.text)
		}
	}
	if p := newBrowser(t).open(c.authorization(map[string]string{"redirect_uri": ""})); p.status != 400 || p.location != nil {
		t.Errorf("no redirect_uri of two: %d %v", p.status, p.location)
	}
	for _, id := range []string{"", "fbclient_x", "fbclient_00000000-0000-7000-8000-000000000000", c.id + "x", "' OR 1=1", strings.Repeat("x", 4000)} {
		if p := newBrowser(t).open(c.authorization(map[string]string{"client_id": id})); p.status != 400 || p.location != nil {
			t.Errorf("client_id %.40q: %d %v", id, p.status, p.location)
		}
	}
}

// attackByRequests: other mistakes in an authorization request go to the client as an
// error, with its state and the issuer, and never as a page that a person could accept.
func attackByRequests(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	for name, row := range map[string]struct {
		changes map[string]string
		code    string
	}{
		"no challenge":         {map[string]string{"code_challenge": ""}, "invalid_request"},
		"plain":                {map[string]string{"code_challenge_method": "plain", "code_challenge": c.verifier}, "invalid_request"},
		"no method":            {map[string]string{"code_challenge_method": ""}, "invalid_request"},
		"a short challenge":    {map[string]string{"code_challenge": "abc"}, "invalid_request"},
		"another server":       {map[string]string{"resource": a.endpoint("maps")}, "invalid_target"},
		"a resource elsewhere": {map[string]string{"resource": "https://evil.example/mcp"}, "invalid_target"},
		"the implicit grant":   {map[string]string{"response_type": "token"}, "unsupported_response_type"},
		"an id token":          {map[string]string{"response_type": "code id_token"}, "unsupported_response_type"},
		"no response type":     {map[string]string{"response_type": ""}, "unsupported_response_type"},
		"a fragment":           {map[string]string{"response_mode": "fragment"}, "invalid_request"},
		"a request object":     {map[string]string{"request": "eyJhbGciOiJub25lIn0.e30."}, "invalid_request"},
		"a request URI":        {map[string]string{"request_uri": "https://evil.example/r"}, "invalid_request"},
		"no page":              {map[string]string{"prompt": "none"}, "interaction_required"},
	} {
		p := newBrowser(t).open(c.authorization(row.changes))
		if p.status != 303 || p.location == nil {
			t.Errorf("%s: %d %v", name, p.status, p.location)
			continue
		}
		got := p.location.Query()
		if !strings.HasPrefix(p.location.String(), c.redirect+"?") || got.Get("error") != row.code || got.Get("state") != "state of the client" || got.Get("iss") != a.weather || got.Has("code") {
			t.Errorf("%s: sent to %s", name, p.location)
		}
	}
	b := newBrowser(t)
	p := b.submit(b.open(c.authorization(nil)), map[string]string{"step": "deny"})
	if p.location == nil || p.location.Query().Get("error") != "access_denied" || p.location.Query().Get("iss") != a.weather || p.location.Query().Get("state") != "state of the client" {
		t.Errorf("after a refusal: %d %v", p.status, p.location)
	}
	for _, again := range []string{"client_id", "redirect_uri", "state", "code_challenge", "response_type"} {
		if p := b.open(c.authorization(nil) + "&" + again + "=x"); p.status != 400 || p.location != nil {
			t.Errorf("%s twice: %d %v", again, p.status, p.location)
		}
	}
	if p := b.open(c.authorization(map[string]string{"resource": a.endpoint("weather") + "/"})); p.status != 200 {
		t.Errorf("a slash behind the resource: %d", p.status)
	}
}

// attackAtOtherServer: a token for one server is refused by the other one behind the same
// gateway, and no request turns it into a token for the other.
func attackAtOtherServer(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	tokens := c.tokens(a.key)
	if status := c.statusAt(a.endpoint("weather"), tokens.Access); status != 200 {
		t.Errorf("at its server the token gets %d", status)
	}
	if status := c.statusAt(a.endpoint("maps"), tokens.Access); status != 401 && status != 403 {
		t.Errorf("at the other server the token gets %d", status)
	}
	refused := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}, "resource": {a.endpoint("maps")}})
	if refused.Status != 400 || refused.Error != "invalid_target" || refused.Access != "" {
		t.Errorf("a refresh for the other server: %d %s", refused.Status, refused.Error)
	}
	both := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}, "resource": {a.endpoint("weather"), a.endpoint("maps")}})
	if both.Status != 400 || both.Error != "invalid_target" {
		t.Errorf("a refresh for both servers: %d %s", both.Status, both.Error)
	}
	elsewhere := *c
	elsewhere.issuer = a.maps
	if r := elsewhere.refresh(tokens.Refresh); r.Status != 400 || r.Error != "invalid_grant" {
		t.Errorf("a refresh at the other issuer: %d %s", r.Status, r.Error)
	}
	if r := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}, "scope": {"cities.read cities.write"}}); r.Status == 200 && r.Scope != "cities.read" {
		t.Errorf("a refresh got the scope %q", r.Scope)
	} else if tokens = r; r.Status != 200 {
		t.Errorf("a scope that does not exist: %d %s", r.Status, r.Error)
	}
	if status := c.statusAt(a.endpoint("weather"), tokens.Access); status != 200 {
		t.Errorf("after all that, the token gets %d", status)
	}
}

// attackByRefresh: only the client that got a refresh token can use it. A client that
// loses an answer gets the same pair again.
func attackByRefresh(t *testing.T, a *issuers) {
	c, other := register(t, a.weather), register(t, a.weather)
	tokens := c.tokens(a.key)
	for name, r := range map[string]tokenAnswer{
		"another client":   other.refresh(tokens.Refresh),
		"the access token": c.refresh(tokens.Access),
		"the agent key":    c.refresh(a.key),
		"no token":         c.refresh(""),
	} {
		if r.Status != 400 || r.Error != "invalid_grant" && r.Error != "invalid_request" || r.Access != "" {
			t.Errorf("%s: %d %s", name, r.Status, r.Error)
		}
	}
	first := c.refresh(tokens.Refresh)
	second := c.refresh(tokens.Refresh)
	if first.Status != 200 || first.Access != second.Access || first.Refresh != second.Refresh || first.Refresh == tokens.Refresh || first.Access == tokens.Access {
		t.Errorf("two answers to one refresh token: %d %d, same access %t, same refresh %t", first.Status, second.Status, first.Access == second.Access, first.Refresh == second.Refresh)
	}
	if status := c.statusAt(a.endpoint("weather"), second.Access); status != 200 {
		t.Errorf("the new token gets %d", status)
	}
}

// attackByCrowd: eight processes of one client that refresh with one token at the same
// time all get the same pair, which works.
func attackByCrowd(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	tokens := c.tokens(a.key)
	answers := make([]tokenAnswer, 8)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			<-start
			answers[i] = c.refresh(tokens.Refresh)
		})
	}
	close(start)
	wg.Wait()
	for i, got := range answers {
		if got.Status != 200 || got.Access == "" || got.Access != answers[0].Access || got.Refresh != answers[0].Refresh {
			t.Errorf("answer %d: %d %s, same pair %t", i, got.Status, got.Error, got.Access == answers[0].Access)
		}
	}
	if status := c.statusAt(a.endpoint("weather"), answers[0].Access); status != 200 {
		t.Errorf("the new token gets %d", status)
	}
	if next := c.refresh(answers[0].Refresh); next.Status != 200 {
		t.Errorf("the next refresh: %d %s", next.Status, next.Error)
	}
}

// attackByForms: a form of the consent page is accepted only from the browser that opened
// the page, and only from the page itself.
func attackByForms(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	victim, thief := newBrowser(t), newBrowser(t)
	key := victim.open(c.authorization(nil))
	decision := victim.submit(key, map[string]string{"key": a.key, "step": "key"})
	if decision.status != 200 {
		t.Fatalf("%d\n%s", decision.status, decision.text)
	}
	thief.open(c.authorization(nil)) // has a cookie of its own
	for name, p := range map[string]page{
		"without a cookie": newBrowser(t).submit(decision, map[string]string{"step": "allow"}),
		// A thief sends a link with a request of the thief's own, so that the person
		// pays for the thief's client (login fixation), or the other way round.
		"from another browser":          thief.submit(decision, map[string]string{"step": "allow"}),
		"the first form from another":   thief.submit(key, map[string]string{"step": "key", "key": a.key}),
		"with another seal":             victim.submit(decision, map[string]string{"step": "allow", "request": "e30.AAAA"}),
		"without a request":             victim.submit(decision, map[string]string{"step": "allow", "request": ""}),
		"allowed before a key is shown": victim.submit(key, map[string]string{"step": "allow"}),
		"without a step":                victim.submit(decision, nil),
	} {
		if p.status < 400 || p.location != nil {
			t.Errorf("%s: %d %v", name, p.status, p.location)
		}
	}
	for _, site := range []string{"cross-site", "same-site", "unheard-of"} {
		if p := victim.submitFrom(decision, map[string]string{"step": "allow"}, "Sec-Fetch-Site", site); p.status != 400 || p.location != nil {
			t.Errorf("from a page that is %s: %d %v", site, p.status, p.location)
		}
	}
	if p := victim.submitFrom(decision, map[string]string{"step": "allow"}, "Origin", "https://evil.example"); p.status != 400 || p.location != nil {
		t.Errorf("from another origin: %d %v", p.status, p.location)
	}
	// A request for one issuer cannot be continued at the other.
	moved := decision
	moved.text = strings.ReplaceAll(decision.text, a.weather+"/consent", a.maps+"/consent")
	if p := victim.submit(moved, map[string]string{"step": "allow"}); p.status != 400 || p.location != nil {
		t.Errorf("at the other issuer: %d %v", p.status, p.location)
	}
	if p := victim.submitFrom(decision, map[string]string{"step": "allow"}, "Sec-Fetch-Site", "same-origin", "Origin", a.base); p.status != 303 || p.location.Query().Get("code") == "" {
		t.Errorf("the page itself: %d %v", p.status, p.location)
	}
}

// attackByFrames: no page of the issuer can be framed, has a script, is stored by a cache
// or passes its address on. The names that a client claims are shown as text.
func attackByFrames(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	resp, text := c.send("POST", a.weather+"/register", "application/json", `{"client_name":"<script>alert(1)</script>\u202e\" onload=x","redirect_uris":["http://127.0.0.1/"]}`)
	var evil struct {
		ID string `json:"client_id"`
	}
	if err := json.Unmarshal([]byte(text), &evil); err != nil || resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	b := newBrowser(t)
	key := b.open(c.authorization(nil))
	for name, p := range map[string]page{
		"key":       key,
		"decision":  b.submit(key, map[string]string{"key": a.key, "step": "key"}),
		"wrong key": b.submit(key, map[string]string{"key": "sk_live_nothing", "step": "key"}),
		"problem":   b.open(c.authorization(map[string]string{"redirect_uri": "https://evil.example/"})),
		"device":    b.open(a.weather + "/device?user_code=%3Cscript%3E"),
		"a name":    b.open(c.authorization(map[string]string{"client_id": evil.ID, "redirect_uri": "http://127.0.0.1/"})),
	} {
		policy := p.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script-src") || p.header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: the policy is %q", name, policy)
		}
		if p.header.Get("Cache-Control") != "no-store" || p.header.Get("X-Content-Type-Options") != "nosniff" || p.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", name, p.header)
		}
		if referrer := p.header.Get("Referrer-Policy"); referrer != "no-referrer" && referrer != "same-origin" {
			t.Errorf("%s: Referrer-Policy %q", name, referrer)
		}
		// Clients in a browser wait for a message from the window that they opened.
		if opener := p.header.Get("Cross-Origin-Opener-Policy"); opener != "" {
			t.Errorf("%s: Cross-Origin-Opener-Policy %q", name, opener)
		}
		if strings.Contains(p.text, "<script") || strings.Contains(p.text, "\u202e") || strings.Contains(p.text, `" onload`) {
			t.Errorf("%s: the page has markup of a client:\n%s", name, p.text)
		}
		for _, cookie := range (&http.Response{Header: p.header}).Cookies() {
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s: cookie %v", name, cookie)
			}
		}
	}
}

// attackByTokenPlaces: a token counts only in the header Authorization of a request to the
// MCP server. A refresh token, a code and a client id are no credentials there.
func attackByTokenPlaces(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	code := c.code(a.key)
	tokens := c.exchange(code)
	endpoint := a.endpoint("weather")
	if status := c.statusAt(endpoint+"?access_token="+url.QueryEscape(tokens.Access), ""); status != 401 {
		t.Errorf("in the URL: %d", status)
	}
	resp, _ := c.send("POST", endpoint, "application/x-www-form-urlencoded", url.Values{"access_token": {tokens.Access}}.Encode())
	if resp.StatusCode == 200 {
		t.Errorf("in a form: %d", resp.StatusCode)
	}
	resp, _ = c.send("POST", endpoint, "application/json", harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`), "Cookie", "access_token="+tokens.Access, "Accept", "application/json, text/event-stream")
	if resp.StatusCode != 401 {
		t.Errorf("in a cookie: %d", resp.StatusCode)
	}
	for name, token := range map[string]string{
		"a refresh token": tokens.Refresh, "a code": code, "a client id": c.id, "a part of a token": tokens.Access[:len(tokens.Access)-1], "another letter": flip(tokens.Access),
		"an unsigned JWT": "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4Iiwic3ViIjoiYWdlbnQifQ.",
	} {
		if status := c.statusAt(endpoint, token); status != 401 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if p := newBrowser(t).submit(newBrowser(t).open(c.authorization(nil)), map[string]string{"key": tokens.Access, "step": "key"}); p.status == 200 {
		t.Error("a token was accepted from another browser")
	}
	b := newBrowser(t)
	if p := b.submit(b.open(c.authorization(nil)), map[string]string{"key": tokens.Access, "step": "key"}); p.status != 422 || p.location != nil {
		t.Errorf("an access token gives a grant: %d", p.status)
	}
	if status := c.statusAt(endpoint, tokens.Access); status != 200 {
		t.Errorf("in the header: %d", status)
	}
}

// flip changes the last letter of a token.
func flip(token string) string {
	last := "A"
	if strings.HasSuffix(token, last) {
		last = "B"
	}
	return token[:len(token)-1] + last
}

// attackByDocuments: a client_id that is a URL is fetched only by HTTPS from a public host
// name, so nobody can have requests sent into the network of the gateway.
func attackByDocuments(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	for _, id := range []string{
		"http://client.example.com/c.json", a.base + "/c.json", "https://127.0.0.1/c.json", "https://127.0.0.1:" + a.Port + "/c.json", "https://localhost/c.json", "https://localhost.localdomain/c.json", "https://[::1]/c.json",
		"https://10.0.0.1/c.json", "https://169.254.169.254/latest/meta-data", "https://[::ffff:127.0.0.1]/c.json", "https://0x7f.1/c.json", "https://2130706433/c.json", "https://user@client.example.com/c.json",
		"https://client.example.com/c.json#x", "https://client.example.com/../c.json", "https://client.example.com/", "https://client.example.com", "file:///etc/passwd", "gopher://client.example.com/c.json", "https://internal/c.json",
	} {
		p := newBrowser(t).open(c.authorization(map[string]string{"client_id": id}))
		if p.location != nil || p.status != 400 && p.status != 503 || strings.Contains(p.text, `name="request"`) {
			t.Errorf("%s: %d %v", id, p.status, p.location)
		}
		for _, leak := range []string{"connection refused", "no such host", "dial tcp", "x509"} {
			if strings.Contains(p.text, leak) {
				t.Errorf("%s: the page says %q", id, leak)
			}
		}
	}
}

// attackByMethods: each endpoint has its methods. Pages of other origins can use the
// endpoints of clients, but neither the consent page nor cookies.
func attackByMethods(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	for _, place := range []string{"/token", "/register", "/revoke", "/introspect", "/device_authorization", "/consent"} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH"} {
			resp, _ := c.send(method, a.weather+place+"?grant_type=authorization_code&client_id="+c.id, "", "")
			if resp.StatusCode != 405 || !strings.Contains(resp.Header.Get("Allow"), "POST") {
				t.Errorf("%s %s: %d, Allow %q", method, place, resp.StatusCode, resp.Header.Get("Allow"))
			}
		}
	}
	if resp, _ := c.send("POST", c.authorization(nil), "application/x-www-form-urlencoded", ""); resp.StatusCode != 405 {
		t.Errorf("POST of the authorization endpoint: %d", resp.StatusCode)
	}
	for place, open := range map[string]bool{"/token": true, "/register": true, "/revoke": true, "/.well-known/openid-configuration": true, "/authorize": false, "/consent": false, "/device": false} {
		resp, _ := c.send("OPTIONS", a.weather+place, "", "", "Origin", "https://page.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type, authorization")
		allowed := resp.StatusCode == 204 && resp.Header.Get("Access-Control-Allow-Origin") == "*"
		if allowed != open || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("preflight of %s: %d %v", place, resp.StatusCode, resp.Header)
		}
	}
	for _, place := range []string{
		"/.well-known/oauth-authorization-server/oauth/weather", "/.well-known/openid-configuration/oauth/weather", "/oauth/weather/.well-known/openid-configuration", "/oauth/weather/.well-known/oauth-authorization-server",
	} {
		var m struct{ Issuer string }
		resp, text := c.send("GET", a.base+place, "", "")
		if err := json.Unmarshal([]byte(text), &m); err != nil || resp.StatusCode != 200 || m.Issuer != a.weather || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s", place, resp.StatusCode, text)
		}
		if head, body := c.send("HEAD", a.base+place, "", ""); head.StatusCode != 200 || body != "" || head.Header.Get("Content-Length") != resp.Header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d %v", place, head.StatusCode, head.Header)
		}
	}
	// With two issuers, the root of the host belongs to neither.
	if resp, text := c.send("GET", a.base+"/.well-known/oauth-authorization-server", "", ""); resp.StatusCode != 404 && strings.Contains(text, `"issuer"`) {
		t.Errorf("the root: %d %s", resp.StatusCode, text)
	}
	if head, body := c.send("HEAD", c.authorization(nil), "", ""); head.StatusCode != 200 || body != "" {
		t.Errorf("HEAD of the authorization endpoint: %d", head.StatusCode)
	}
}

// attackByBodies: bodies that are too large, that have another type or a parameter twice
// are refused as a mistake of the client.
func attackByBodies(t *testing.T, a *issuers) {
	c := register(t, a.weather)
	const formType = "application/x-www-form-urlencoded"
	good := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, "client_id": {c.id}}.Encode()
	for name, row := range map[string]struct{ place, contentType, body string }{
		"a large form":              {"/token", formType, good + "&x=" + strings.Repeat("x", 70<<10)},
		"JSON":                      {"/token", "application/json", `{"grant_type":"refresh_token"}`},
		"no type":                   {"/token", "", good},
		"multipart":                 {"/token", "multipart/form-data; boundary=x", "--x--"},
		"a grant type twice":        {"/token", formType, good + "&grant_type=authorization_code"},
		"a client twice":            {"/token", formType, good + "&client_id=" + c.id},
		"a bad escape":              {"/token", formType, good + "&x=%zz"},
		"no grant type":             {"/token", formType, "client_id=" + c.id},
		"the password grant":        {"/token", formType, "grant_type=password&username=a&password=b&client_id=" + c.id},
		"a token for nobody":        {"/token", formType, "grant_type=client_credentials&client_id=" + c.id},
		"a large registration":      {"/register", "application/json", `{"redirect_uris":["http://127.0.0.1/"],"client_name":"` + strings.Repeat("x", 70<<10) + `"}`},
		"a registration of a list":  {"/register", "application/json", `[]`},
		"a registration of nothing": {"/register", "application/json", ``},
		"a strange redirect":        {"/register", "application/json", `{"redirect_uris":["https://evil.example/cb"]}`},
		"a script as a redirect":    {"/register", "application/json", `{"redirect_uris":["javascript:alert(1)"]}`},
		"no revoked token":          {"/revoke", formType, "client_id=" + c.id},
	} {
		resp, text := c.send("POST", a.weather+row.place, row.contentType, row.body)
		var got tokenAnswer
		if err := json.Unmarshal([]byte(text), &got); err != nil || resp.StatusCode < 400 || resp.StatusCode > 499 || got.Error == "" || got.Access != "" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	resp, text := c.send("POST", a.weather+"/token", formType, "grant_type=refresh_token&client_id=nobody")
	if resp.StatusCode != 401 || !strings.Contains(text, "invalid_client") || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("an unknown client: %d %s", resp.StatusCode, text)
	}
	for _, header := range []string{"Basic !!!", "Basic " + "bm9ib2R5OnNlY3JldA==", "Bearer " + a.key} {
		if resp, text := c.send("POST", a.weather+"/token", formType, "grant_type=refresh_token", "Authorization", header); resp.StatusCode != 401 {
			t.Errorf("%s: %d %s", header, resp.StatusCode, text)
		}
	}
}

// attackByForeignTokens: a client can neither look into the tokens of another nor revoke
// them.
func attackByForeignTokens(t *testing.T, a *issuers) {
	c, other := register(t, a.weather), register(t, a.weather)
	tokens := c.tokens(a.key)
	post := func(by *rawClient, place, token string) (int, string) {
		resp, text := by.send("POST", by.issuer+place, "application/x-www-form-urlencoded", url.Values{"client_id": {by.id}, "token": {token}}.Encode())
		return resp.StatusCode, text
	}
	if status, text := post(other, "/introspect", tokens.Access); status != 200 || text != `{"active":false}` {
		t.Errorf("introspection by another: %d %s", status, text)
	}
	if status, text := post(c, "/introspect", a.key); status != 200 || text != `{"active":false}` {
		t.Errorf("introspection of an agent key: %d %s", status, text)
	}
	if status, text := post(c, "/introspect", tokens.Access); status != 200 || !strings.Contains(text, `"active":true`) || !strings.Contains(text, a.endpoint("weather")) {
		t.Errorf("introspection by the client: %d %s", status, text)
	}
	for _, token := range []string{tokens.Access, tokens.Refresh, a.key, "x"} {
		if status, text := post(other, "/revoke", token); status != 200 && status != 400 {
			t.Errorf("revocation by another: %d %s", status, text)
		}
	}
	if status := c.statusAt(a.endpoint("weather"), tokens.Access); status != 200 {
		t.Errorf("after the revocation by another, the token gets %d", status)
	}
	if status := c.statusAt(a.endpoint("weather"), a.key); status != 200 {
		t.Errorf("after the revocation by another, the agent key gets %d", status)
	}
	if status, text := post(c, "/revoke", tokens.Refresh); status != 200 {
		t.Errorf("revocation by the client: %d %s", status, text)
	}
	if status := c.statusAt(a.endpoint("weather"), tokens.Access); status != 401 {
		t.Errorf("after the revocation, the token gets %d", status)
	}
}
