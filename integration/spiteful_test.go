package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// spite is one way for a server to answer a paid call with the id 7. Each spite is a
// row of the tables in spiteful_rows_test.go and spiteful_streams_test.go.
type spite struct {
	name  string
	play  func(*harness.RawExchange)
	where string // the route of lawlessSite; "" is the usual one
	heavy bool   // true if the row is tried only in the protocol version with sessions
	want  ending
}

// ending is the required outcome of a call.
type ending struct {
	code   string // the code of the gateway's own refusal; "" if the server's answer passes
	events bool   // true if the client is answered by an event stream
	status int    // the status of the response; 0 stands for 200
	charge charge
	// streamed is true if the answer is too long to hold. A part of such an answer
	// leaves the gateway before the gateway has judged the end of the answer.
	streamed bool
	bare     bool   // true if the answer can carry no receipt
	cut      bool   // true if the response breaks off
	has      string // a text that must reach the client
	hasNot   string // a text that must not reach the client
}

// charge is the state of a call's charge in the books.
type charge int

const (
	free     charge = iota // the call was not charged
	captured               // the call was charged
	refunded               // the call was charged and then refunded
)

const (
	// loot is in every text that must be paid for, and spiteHead is in every head.
	loot      = "the-loot"
	spiteHead = "from-spite"
	// spitePrice is the price of each call, in the directives and in the books.
	spitePrice  = ledger.Amount(10_000)
	spiteCredit = 100 * spitePrice
	// spitePatience is the time limit max_call of the route "slow" in lawlessSite.
	spitePatience = "5s"
)

// TestSpitefulServer checks promises 1 and 2 of docs/promises.md. A server's
// misbehaviour harms only its own calls. Whatever the server answers, the client gets a
// result that was paid for, the server's own error, or a refusal with the reason and
// the request's id. A withheld answer is not charged and appears in no part of a
// response. Afterwards the gateway holds no credits and no memory for the calls.
func TestSpitefulServer(t *testing.T) {
	t.Parallel()
	b := newLawless(t)
	last := lastCase()
	b.plan(last.path(), last.play)
	cases := b.cases()
	ends := make([]chan *end, len(cases))
	for i, c := range cases {
		b.plan(c.path(), c.play)
		ends[i] = make(chan *end, 1)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	hands := make(chan bool, 8)
	for i, c := range cases {
		go func() {
			if c.where != "slow" { // the slow cases only wait, so their number is not limited
				hands <- true
				defer func() { <-hands }()
			}
			ends[i] <- b.call(ctx, c)
		}()
	}
	for i, c := range cases {
		t.Run(c.title(), func(t *testing.T) { c.check(t, <-ends[i]) })
	}
	t.Run("an answer on a stream of the client's own", b.crossStreams)
	t.Run("calls that are free", b.freeCalls)
	t.Run("streams of calls that are free", b.freeStreams)
	t.Run("afterwards", b.after)
}

// spiteCase is a spite in one kind of protocol version, with sessions or
// stateless.
type spiteCase struct {
	spite
	n         int
	stateless bool
}

func (c *spiteCase) tool() string { return fmt.Sprintf("tool%d", c.n) }

func (c *spiteCase) path() string {
	return strings.Replace(fmt.Sprintf("/mcp/%s/%d", c.where, c.n), "//", "/", 1)
}

func (c *spiteCase) title() string {
	if c.stateless {
		return c.name + ", stateless"
	}
	return c.name + ", session"
}

func (b *lawless) cases() []spiteCase {
	rows := spitefulMessages()
	rows = append(rows, spitefulResponses(b.trap.url)...)
	rows = append(rows, spitefulStreams()...)
	rows = append(rows, spitefulLengths()...)
	rows = append(rows, spitefulConnections()...)
	var cases []spiteCase
	for _, row := range rows {
		eras := []bool{false, true}
		if row.heavy {
			eras = eras[:1]
		}
		for _, stateless := range eras {
			cases = append(cases, spiteCase{row, len(cases), stateless})
		}
	}
	return cases
}

// reply is everything that a client received.
type reply struct {
	status int
	hints  []http.Header // the heads of 1xx responses
	header http.Header
	body   []byte
	err    error // the error from reading the body
	late   http.Header
}

// has reports whether the text is anywhere in the reply.
func (r *reply) has(text string) bool {
	heads := append([]http.Header{r.header, r.late}, r.hints...)
	for _, head := range heads {
		for name, values := range head {
			if strings.Contains(strings.ToLower(name), text) || strings.Contains(strings.Join(values, "\n"), text) {
				return true
			}
		}
	}
	return bytes.Contains(r.body, []byte(text))
}

// request returns a call with the id 7, in the form of its protocol version.
func (c *spiteCase) request(ctx context.Context, g *harness.Gateway, secret string) (*http.Request, error) {
	body := harness.ToolCall(7, c.tool(), `{}`)
	if c.stateless {
		body = strings.Replace(body, `"arguments":{}`, `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`, 1)
	}
	r, err := newRequest(ctx, g, http.MethodPost, c.path(), secret, body)
	if err != nil {
		return nil, err
	}
	if c.stateless {
		r.Header.Set("MCP-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", "tools/call")
		r.Header.Set("Mcp-Name", c.tool())
	}
	return r, nil
}

// newRequest returns a request as MCP clients send it.
func newRequest(ctx context.Context, g *harness.Gateway, method, path, secret, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(g.Endpoint(), "/mcp")+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	return r, nil
}

// send sends a request and reads its whole response.
func (b *lawless) send(r *http.Request) (*reply, error) {
	got := &reply{}
	var mu sync.Mutex // guards hints, which another goroutine sets
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			got.hints = append(got.hints, http.Header(h))
			return nil
		},
	}))
	resp, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	mu.Lock()
	defer mu.Unlock()
	got.status, got.header = resp.StatusCode, resp.Header
	got.body, got.err = io.ReadAll(resp.Body)
	got.late = resp.Trailer
	return got, nil
}

// end is the outcome of a call.
type end struct {
	reply    *reply
	paid     ledger.Amount // the decrease of the balance
	reserved ledger.Amount
	charges  []harness.Charge // the call's charges
	requests int              // requests that the server saw
	err      error
}

// call makes the call of a case, and reads the books when the call has ended.
func (b *lawless) call(ctx context.Context, c spiteCase) *end {
	p := <-b.balances
	defer func() { b.balances <- p }()
	e := &end{}
	r, err := c.request(ctx, b.gateway, p.secret)
	if err == nil {
		e.reply, err = b.send(r)
	}
	if err == nil {
		err = e.await(ctx, p, &c)
	}
	e.err = err
	e.requests = b.server.Requests(c.path())
	p.left -= e.paid
	return e
}

// await reads the books. After a streamed answer, it waits until the books are
// settled, because the last byte of a stream may arrive before the refund.
func (e *end) await(ctx context.Context, p *balance, c *spiteCase) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		if err := e.read(ctx, p, c.tool()); err != nil {
			return fmt.Errorf("%w; before: %+v", err, e)
		}
		if !c.want.streamed || e.settled(c.want.charge) {
			return nil
		}
	}
}

func (e *end) read(ctx context.Context, p *balance, tool string) error {
	var account harness.Account
	var charges admin.List[harness.Charge]
	for path, into := range map[string]any{
		"accounts/" + p.name: &account, "charges?limit=2&account=" + url.QueryEscape(p.name): &charges,
	} {
		raw, err := p.admin.Do(ctx, http.MethodGet, path, nil)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	e.paid, e.reserved, e.charges = p.left-account.Balance, account.Reserved, nil
	for _, c := range charges.Items {
		if c.Tool == tool {
			e.charges = append(e.charges, c)
		}
	}
	return nil
}

// settled reports whether the balance and the charges in the books are right for a call
// with the given state of its charge.
func (e *end) settled(want charge) bool {
	var paid, back ledger.Amount
	count := 0
	switch want {
	case captured:
		paid, count = spitePrice, 1
	case refunded:
		back, count = spitePrice, 1
	}
	if e.paid != paid || e.reserved != 0 || len(e.charges) != count {
		return false
	}
	return count == 0 || e.charges[0].Amount == spitePrice && e.charges[0].Refunded == back
}

// check compares the outcome of a call with the required outcome.
func (c *spiteCase) check(t *testing.T, e *end) {
	t.Helper()
	if e.err != nil {
		t.Fatal(e.err)
	}
	if !e.settled(c.want.charge) {
		t.Errorf("paid %s, reserved %s, charges %+v; want %v", e.paid, e.reserved, e.charges, c.want.charge)
	}
	sent := 1
	if c.where == "closed" || c.where == "slammed" {
		sent = 0 // no request reaches the servers of these routes
	}
	if e.requests != sent {
		t.Errorf("the server saw %d requests; want %d", e.requests, sent)
	}
	c.checkReply(t, e.reply)
	if t.Failed() {
		t.Logf("got %d %v, %q, %v", e.reply.status, e.reply.header, e.reply.body[:min(len(e.reply.body), 1000)], e.reply.err)
	}
}

func (c *spiteCase) checkReply(t *testing.T, got *reply) {
	t.Helper()
	status := c.want.status
	if status == 0 {
		status = http.StatusOK
	}
	if got.status != status || (got.err != nil) != c.want.cut {
		t.Errorf("status %d, cut %t; want %d, %t", got.status, got.err != nil, status, c.want.cut)
	}
	if events := strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream"); events != c.want.events {
		t.Errorf("events: %t; want %t", events, c.want.events)
	}
	switch {
	case c.want.charge != captured && !c.want.streamed && got.has(loot):
		t.Error("an unpaid result has leaked")
	case c.want.charge == captured && bytes.Count(got.body, []byte(loot)) != 1:
		t.Errorf("the paid result arrived %d times", bytes.Count(got.body, []byte(loot)))
	}
	if c.want.has != "" && !got.has(c.want.has) || c.want.hasNot != "" && got.has(c.want.hasNot) {
		t.Errorf("want %q in it, and no %q", c.want.has, c.want.hasNot)
	}
	if got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("the server let foreign pages in")
	}
	if c.want.code != "" {
		c.checkRefusal(t, got)
	} else if c.want.charge == captured {
		c.checkReceipt(t, got)
	}
}

// message parses the answer. In a stream, the answer is the last event with
// data.
func (r *reply) message(t *testing.T) (m harness.Message) {
	t.Helper()
	text := r.body
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		text = text[bytes.LastIndex(text, []byte("data:"))+len("data:"):]
		text, _, _ = bytes.Cut(text, []byte("\n"))
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("the answer %q: %v", text[:min(len(text), 1000)], err)
	}
	return m
}

// checkRefusal checks that a refusal is the gateway's own, and complete.
func (c *spiteCase) checkRefusal(t *testing.T, got *reply) {
	t.Helper()
	m := got.message(t)
	if m.Code() != c.want.code || string(m.ID) != "7" || m.Error == nil || m.Error.Message == "" {
		t.Errorf("got %s with id %s; want %s", m.Code(), m.ID, c.want.code)
	}
	if c.want.events {
		return
	}
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Farebox-Error") != c.want.code {
		t.Errorf("the refusal has the header %v", got.header)
	}
	head := reply{header: got.header, late: got.late}
	if head.has(spiteHead) || bytes.Contains(got.body, []byte(spiteHead)) {
		t.Errorf("a part of the server's response is in the refusal: %v %s", got.header, got.body)
	}
}

// checkReceipt checks that a held answer has the receipt of its charge, and that the
// server cannot forge a receipt.
func (c *spiteCase) checkReceipt(t *testing.T, got *reply) {
	t.Helper()
	if c.want.streamed {
		return
	}
	want := 1
	if c.want.bare {
		want = 0
	}
	if n := bytes.Count(got.body, []byte("dev.farebox/receipt")); n != want || got.has("forged") {
		t.Errorf("%d receipts in %q", n, got.body)
	}
}

// lastCase returns a call with a good answer, for the time after all other cases.
func lastCase() spiteCase {
	return spiteCase{n: 1_000_001, spite: spite{play: respond(jsonHead(len(goodAnswer)) + goodAnswer), want: paid}}
}

// after checks that the gateway has released its resources and still serves.
func (b *lawless) after(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "an idle gateway", func() error {
		for name, value := range b.gateway.Metrics(t) {
			if (strings.HasPrefix(name, "farebox_held_bytes") || strings.HasPrefix(name, "farebox_reservations_open")) && value != 0 {
				return fmt.Errorf("%s is %v", name, value)
			}
		}
		return nil
	})
	good := lastCase()
	good.check(t, b.call(t.Context(), good))
	if len(b.trap.seen) != 0 {
		t.Errorf("a redirect was followed: %v", b.trap.seen)
	}
	if log := b.gateway.Process().Output(t); strings.Contains(log, "panic") {
		at := strings.Index(log, "panic")
		t.Errorf("a panic: %s", log[max(at-500, 0):min(at+1500, len(log))])
	}
	b.gateway.VerifyLedger(t)
}
