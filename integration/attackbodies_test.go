package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	// sessionVersion is the protocol version that an attack uses in a session,
	// unless the attack sets another version.
	sessionVersion = "2025-06-18"
	// attackPatience is the time limit for an attack through the gateway. The
	// gateway answers each attack immediately.
	attackPatience = 5 * time.Second
	// directPatience is the time limit for an attack sent directly to a server. This
	// limit can be short, because the servers run a tool immediately.
	directPatience = time.Second
	attackPrice    = ledger.Amount(10_000)
)

// TestAttackBodies checks promises 1, 7 and 8 of docs/promises.md against every known
// way to make the gateway judge a different message than the server runs. Each row of
// testdata/attacks goes through the gateway to each real server, once for a priced tool
// and once for a tool without a price. No server receives a body for which
// canonical(body) returns an error. The priced tool runs only if the call is charged.
// The tool without a price never runs. The gateway answers every attack and keeps
// serving.
func TestAttackBodies(t *testing.T) {
	t.Parallel()
	attacks, servers := readAttacks(t), startAttacked(t)
	g := binaries.StartGateway(t, attackedSites(servers))
	t.Run("each", func(t *testing.T) {
		for _, server := range servers {
			_, key := g.NewAgent(t, server.name, "1000.00")
			var misplaced harness.Key // a key with a token that attacks send in the wrong place, where logs may record it
			g.CLI(t, &misplaced, "key", "create", "--account", server.name)
			t.Run(server.name, func(t *testing.T) {
				t.Parallel()
				r := &assault{
					server: server, address: "127.0.0.1:" + g.Port, host: "localhost:" + g.Port, path: "/" + server.name + "/mcp",
					secret: key.Secret, misplaced: misplaced.Secret, patience: attackPatience, charges: make(map[string]bool),
				}
				session := r.begin(t)
				for i := range attacks {
					r.server.take(t)
					for _, tool := range []string{expensiveTool, forbiddenTool} {
						r.through(t, &attacks[i], r.aim(tool, session))
					}
					session = r.goesOn(t, &attacks[i], session)
				}
				r.books(t, g)
			})
		}
	})
	g.VerifyLedger(t)
}

// books compares the account's charges with the charges that the answers reported.
func (r *assault) books(t *testing.T, g *harness.Gateway) {
	t.Helper()
	a, charged := g.Account(t, r.server.name), make(map[string]bool)
	for _, c := range g.Charges(t, a.ID) {
		if c.State != "captured" || c.Tool != expensiveTool || c.Amount != attackPrice {
			t.Errorf("charge %+v", c)
		}
		charged[c.ID] = true
	}
	if !maps.Equal(charged, r.charges) || len(charged) == 0 {
		t.Errorf("the charges are %v; the answers reported %v", charged, r.charges)
	}
	if a.Reserved != 0 || a.Balance != 1000*ledger.Unit-attackPrice*ledger.Amount(len(charged)) {
		t.Errorf("balance %s, reserved %s, %d charges", a.Balance, a.Reserved, len(charged))
	}
}

// TestAttackBodiesBite checks that the rows of testdata/attacks are real attacks: if a
// row is known to make a server run the tool, that server still runs the tool when it
// gets the row directly.
func TestAttackBodiesBite(t *testing.T) {
	t.Parallel()
	attacks, servers := readAttacks(t), startAttacked(t)
	var mu sync.Mutex
	bitten := make(map[string][]string) // names of the servers that ran the tool, by row
	t.Run("each", func(t *testing.T) {
		for _, server := range servers {
			t.Run(server.name, func(t *testing.T) {
				t.Parallel()
				base := strings.TrimPrefix(server.url, "http://")
				r := &assault{server: server, address: base, host: base, path: "/mcp", secret: "none", patience: directPatience}
				var names []string
				of, ran := make(map[string]int), make(map[string]int) // by file: the number of rows that were sent, and the number of rows for which the server ran the tool
				session := r.begin(t)
				for i := range attacks {
					a := &attacks[i]
					if a.want != attackRefused || a.strange {
						continue
					}
					if session != "" { // the previous attack may have ended the session
						session = r.begin(t)
					}
					file, _, _ := strings.Cut(a.where, ":")
					of[file]++
					if slices.Contains(r.direct(t, a, session), expensiveTool) {
						ran[file]++
						names = append(names, a.name)
					}
				}
				for _, file := range slices.Sorted(maps.Keys(of)) {
					t.Logf("%s ran the tool for %d of the %d rows of %s that the gateway refuses", server.name, ran[file], of[file], file)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, name := range names {
					bitten[name] = append(bitten[name], server.name)
				}
			})
		}
	})
	known := 0
	for _, a := range attacks {
		for _, name := range a.bites {
			known++
			if !slices.Contains(bitten[a.name], name) {
				t.Errorf("%s: %s: %s does not run the tool any more; servers that do: %v", a.where, a.name, name, bitten[a.name])
			}
		}
	}
	if known == 0 {
		t.Error("no row is known to fool any server: this table proves nothing")
	}
}

// attackedSites returns a Caddyfile with one gateway in front of all servers,
// each at its own path.
func attackedSites(servers []attacked) string {
	const begin, end = "\thandle /mcp* {\n", "\thandle {\n"
	var head, blocks, tail string
	for _, s := range servers {
		site := harness.Site(s.url, "server "+s.name, "provider acme", "price "+expensiveTool+" "+attackPrice.String(), "free "+cheapTool, "unpriced deny", "max_body 256KiB")
		from, to := strings.Index(site, begin), strings.Index(site, end)
		head, tail = site[:from], site[to:]
		blocks += strings.Replace(site[from:to], "/mcp*", "/"+s.name+"/*", 1)
	}
	return head + blocks + tail
}

// assault sends the attacks to one server, either directly or through the gateway.
type assault struct {
	server                      attacked
	address, host, path, secret string
	misplaced                   string
	patience                    time.Duration
	charges                     map[string]bool // the ids of the charges reported in answers
}

func (r *assault) aim(tool, session string) aim {
	return aim{host: r.host, path: r.path, secret: r.secret, misplaced: r.misplaced, session: session, tool: tool}
}

// send writes the bytes of an attack and returns the answers. It waits for one
// answer to each request in the bytes, or until the connection ends.
func (r *assault) send(a *attack, request []byte) (answers []attackReply, err error) {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(clock.Deadline(r.patience)); err != nil {
		return nil, err
	}
	sent := make(chan struct{})
	// Write in the background, because a server may answer and close the connection
	// before it has read the whole request.
	go func() {
		defer close(sent)
		_, _ = conn.Write(request)
		if a.halfClose {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	answers, err = readReplies(a, conn)
	_ = conn.Close() // ends the goroutine that writes, even if the server has not read the whole request
	<-sent
	return answers, err
}

// readReplies reads the answers to an attack.
func readReplies(a *attack, conn io.Reader) (answers []attackReply, err error) {
	in, final := bufio.NewReader(conn), 0
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: a.method})
		if err != nil {
			if len(answers) > 0 || a.want == attackBelow {
				return answers, nil
			}
			return nil, fmt.Errorf("no answer: %w", err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return answers, fmt.Errorf("an answer without an end: %s, %q: %w", resp.Status, body, err)
		}
		answers = append(answers, attackReply{resp.StatusCode, resp.Header, body})
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		if final++; resp.Close || final >= strings.Count(a.raw, " HTTP/1.1") {
			return answers, nil
		}
	}
}

// attackReply is an HTTP response to an attack.
type attackReply struct {
	status int
	header http.Header
	body   []byte
}

// message decodes the JSON-RPC message in the response, which is either the body or
// the data of an event.
func (p *attackReply) message() (m harness.Message, ok bool) {
	text := p.body
	if strings.HasPrefix(p.header.Get("Content-Type"), "text/event-stream") {
		for line := range bytes.Lines(p.body) {
			if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok && bytes.Contains(rest, []byte("jsonrpc")) {
				text = rest
			}
		}
	}
	return m, json.Unmarshal(text, &m) == nil && (m.Result != nil || m.Error != nil)
}

// post sends a well-formed message.
func (r *assault) post(session, body string) (*attackReply, error) {
	at := r.aim(cheapTool, session)
	request, _, err := (&attack{method: "POST", body: body}).request(at)
	if err != nil {
		return nil, err
	}
	answers, err := r.send(&attack{method: "POST"}, request)
	if err != nil {
		return nil, err
	}
	return &answers[len(answers)-1], nil
}

// begin starts a session if the server supports sessions.
func (r *assault) begin(t *testing.T) string {
	t.Helper()
	answer, err := r.post("", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+sessionVersion+`","capabilities":{},"clientInfo":{"name":"attacker","version":"1"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	session := answer.header.Get("Mcp-Session-Id")
	if _, ok := answer.message(); !ok || answer.status != http.StatusOK {
		t.Fatalf("%s: no session: %d %s", r.server.name, answer.status, answer.body)
	}
	if _, err := r.post(session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil {
		t.Fatal(err)
	}
	return session
}

// direct sends an attack straight to the server and returns the tools it ran.
func (r *assault) direct(t *testing.T, a *attack, session string) []string {
	t.Helper()
	at := r.aim(expensiveTool, session)
	r.server.take(t)
	request, _, err := a.request(at)
	if err != nil {
		t.Fatalf("%s: %v", a.where, err)
	}
	_, _ = r.send(a, request) // only the tools that ran matter, not the answer
	return r.server.take(t).Ran
}

// through sends an attack through the gateway and checks the outcome.
func (r *assault) through(t *testing.T, a *attack, at aim) {
	t.Helper()
	request, body, err := a.request(at)
	if err != nil {
		t.Fatalf("%s: %v", a.where, err)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s: %s (%s, %s): %s", a.where, a.name, r.server.name, at.tool, fmt.Sprintf(format, args...))
	}
	answers, err := r.send(a, request)
	if err != nil {
		fail("%v", err)
	}
	happened := r.server.take(t)
	r.judgeRuns(fail, happened, answers)
	for _, heard := range happened.Heard {
		if len(heard) == 0 {
			continue // a GET or DELETE has no body
		}
		if err := canonical(heard); err != nil {
			fail("the server heard a body that is not canonical: %v: %q", err, heard)
		}
		if body != nil && !bytes.Equal(heard, body) {
			fail("the server received %q, not the body sent", heard)
		}
	}
	switch {
	case a.want == attackPasses && at.tool == expensiveTool && len(happened.Heard) != 1:
		fail("the server heard %d requests; want one: %s", len(happened.Heard), show(answers))
	case a.want != attackPasses && len(happened.Heard) != 0:
		fail("the server heard %q; want nothing; the answers were %s", happened.Heard, show(answers))
	}
	if a.want == attackRefused {
		for _, answer := range answers {
			if answer.status == http.StatusContinue {
				continue
			}
			if err := answer.isRefusal(a); err != nil {
				fail("%v: %d %v %q", err, answer.status, answer.header, answer.body)
			}
		}
	}
	if a.want == attackBelow {
		for _, answer := range answers {
			if answer.status < 400 {
				fail("answered %d %q; want an error", answer.status, answer.body)
			}
		}
	}
}

// judgeRuns compares the tools that the server ran with the charges in the answers.
func (r *assault) judgeRuns(fail func(string, ...any), happened events, answers []attackReply) {
	paid := 0
	for _, answer := range answers {
		m, ok := answer.message()
		if !ok || m.Result == nil || m.Result.Meta.Charge == nil {
			continue
		}
		paid++
		if m.Result.Meta.Charge.Amount != attackPrice || r.charges[m.Result.Meta.Charge.ID] {
			fail("charged %+v", m.Result.Meta.Charge)
		}
		r.charges[m.Result.Meta.Charge.ID] = true
	}
	runs := 0
	for _, tool := range happened.Ran {
		switch tool {
		case forbiddenTool:
			fail("the server ran a tool that is not for sale")
		case expensiveTool:
			runs++
		}
	}
	if runs != paid {
		fail("the server ran the paid tool %d times, %d were charged: %s", runs, paid, show(answers))
	}
	if len(happened.Ran) > len(happened.Heard) {
		fail("the server ran %v for %d requests", happened.Ran, len(happened.Heard))
	}
}

// goesOn requires that a free call succeeds after an attack. It makes the call in the
// attack's session, or in a new session if the attack ended the session. It returns the
// session to continue with.
func (r *assault) goesOn(t *testing.T, a *attack, session string) string {
	t.Helper()
	call := strings.Replace(fmt.Sprintf(plainCall, cheapTool), `"id":7`, `"id":"after"`, 1)
	answer, err := r.post(session, call)
	if err == nil && (answer.status == http.StatusNotFound || answer.status == http.StatusBadRequest) {
		session = r.begin(t)
		answer, err = r.post(session, call)
	}
	if err != nil {
		t.Fatalf("%s: %s (%s): afterwards: %v", a.where, a.name, r.server.name, err)
	}
	m, ok := answer.message()
	if !ok || m.Result == nil || !slices.Equal(r.server.take(t).Ran, []string{cheapTool}) {
		t.Fatalf("%s: %s (%s): afterwards a free call gets %d %s", a.where, a.name, r.server.name, answer.status, answer.body)
	}
	return session
}

// isRefusal returns an error if the reply is not one of the gateway's refusals.
func (p *attackReply) isRefusal(a *attack) error {
	statuses := []int{200, 400, 401, 403, 405, 413, 415}
	m, ok := p.message()
	switch {
	case p.status == http.StatusNotFound && a.modern && ok && m.Error != nil && m.Error.Code == -32601:
		// An answer with the status 404 can be a refusal, too: MCP 2026-07-28 requires
		// this status for an unknown method.
	case !slices.Contains(statuses, p.status):
		return errors.New("the status is not one of a refusal")
	}
	switch {
	case p.header.Get("Cache-Control") != "no-store" || p.header.Get("Content-Type") != "application/json":
		return errors.New("the headers differ from a refusal's")
	case a.method == http.MethodHead:
		return nil // this answer has no body
	case !ok || m.Code() == "":
		return errors.New("the answer has no JSON-RPC error with a gateway code")
	case m.Error == nil && !m.Result.IsError:
		return errors.New("the answer is a result")
	}
	return nil
}

func show(answers []attackReply) string {
	var b strings.Builder
	for _, p := range answers {
		fmt.Fprintf(&b, "[%d %.600q]", p.status, p.body)
	}
	return b.String()
}

// reservedKeys are the JSON keys on which the gateway's decision depends, by their
// depth in the body.
var reservedKeys = map[int][]string{
	1: {"jsonrpc", "id", "method", "params", "result", "error"},
	2: {"name", "arguments", "_meta", "task", "uri", "cursor"},
}

// canonical checks a body with a different parser than the gateway's. The body must
// be valid UTF-8 and one object without duplicate keys at any level. No key may
// resemble a reserved one closely enough for a parser to confuse them. A tools/call
// must name cheapTool or expensiveTool.
func canonical(body []byte) error {
	in := jsontext.NewDecoder(bytes.NewReader(body)) // this decoder refuses duplicate keys and invalid UTF-8
	for {
		token, err := in.ReadToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		kind, length := in.StackIndex(in.StackDepth())
		if token.Kind() != '"' || kind != '{' || length%2 == 0 {
			continue
		}
		if in.StackDepth() == 2 && !bytes.HasPrefix([]byte(in.StackPointer()), []byte("/params")) {
			continue
		}
		for _, name := range reservedKeys[in.StackDepth()] {
			if key := token.String(); key != name && strings.EqualFold(plain(key), name) {
				return fmt.Errorf("the key %q", key)
			}
		}
	}
	var call struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if body[0] == '[' {
		return errors.New("a batch")
	}
	_ = json.Unmarshal(body, &call) // the body is canonical, so any parser will do
	if call.Method == "tools/call" && !slices.Contains([]string{cheapTool, expensiveTool}, call.Params.Name) {
		return fmt.Errorf("a call of %q", call.Params.Name)
	}
	return nil
}

// plain removes from a key all characters except visible ASCII and the two other
// characters that fold to an ASCII letter, the long s (U+017F) and the Kelvin sign
// (U+212A).
func plain(key string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7F && r != 0x17F && r != 0x212A {
			return -1
		}
		return r
	}, key)
}
