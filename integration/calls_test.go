package integration

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// target is an MCP server behind the gateway, with the tools that the tests call and
// their prices.
type target struct {
	server   string // the name that the server gives itself
	upstream func(testing.TB) string

	free, cheap, dear, failing, streaming call
	steps                                 int // number of progress notifications during the streaming call
}

type call struct {
	tool  string
	args  map[string]any
	price string
}

func (c call) params() *mcp.CallToolParams {
	return &mcp.CallToolParams{Name: c.tool, Arguments: c.args}
}

func weather(args ...string) target {
	oslo := map[string]any{"city": "Oslo"}
	return target{
		server:    "weather",
		upstream:  func(t testing.TB) string { return binaries.StartWeather(t, args...) },
		free:      call{"list_cities", map[string]any{}, ""},
		cheap:     call{"get_forecast", oslo, "0.01"},
		dear:      call{"climate_report", oslo, "1.00"},
		failing:   call{"read_station", oslo, "0.02"},
		streaming: call{"watch_storm", map[string]any{"city": "Oslo", "steps": 4}, "0.05"},
		steps:     4,
	}
}

func everything() target {
	return target{
		server:    "mcp-servers/everything",
		upstream:  func(t testing.TB) string { return binaries.StartEverything(t) },
		free:      call{"get-annotated-message", map[string]any{"messageType": "success"}, ""},
		cheap:     call{"echo", map[string]any{"message": "hello"}, "0.01"},
		dear:      call{"get-sum", map[string]any{"a": 1, "b": 2}, "1.00"},
		failing:   call{"get-resource-reference", map[string]any{"resourceType": "Text", "resourceId": -1}, "0.02"},
		streaming: call{"trigger-long-running-operation", map[string]any{"duration": 0.1, "steps": 4}, "0.05"},
		steps:     4,
	}
}

// bench is a target with a gateway and a recorder in front of it.
type bench struct {
	target
	gateway  *harness.Gateway
	recorder *harness.Recorder
	direct   *mcp.ClientSession // a session with the server itself, without the gateway
}

// TestWeather runs testCalls with the weather server, which uses the Go SDK, with
// sessions.
func TestWeather(t *testing.T) { testCalls(t, weather()) }

// TestWeatherStateless runs testCalls with the weather server and protocol version
// 2026-07-28, which has no sessions.
func TestWeatherStateless(t *testing.T) { testCalls(t, weather("-stateless")) }

// TestEverything runs testCalls with the official server-everything, which uses the
// TypeScript SDK.
func TestEverything(t *testing.T) { testCalls(t, everything()) }

func testCalls(t *testing.T, target target) {
	t.Parallel()
	upstream := target.upstream(t)
	recorder := harness.Record(t, upstream)
	directives := []string{"server target", "provider acme", "free " + target.free.tool, "receipts on"}
	for _, c := range []call{target.cheap, target.dear, target.failing, target.streaming} {
		directives = append(directives, "price "+c.tool+" "+c.price)
	}
	b := &bench{
		target:   target,
		gateway:  binaries.StartGateway(t, harness.Site(recorder.URL, directives...)),
		recorder: recorder,
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "direct", Version: "1.0.0"}, nil)
	direct, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: upstream + "/mcp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	b.direct = direct

	t.Run("the handshake and the lists are those of the server", b.transparent)
	t.Run("a free call costs nothing", b.freeCall)
	t.Run("a paid call is charged once, with a receipt", b.paidCall)
	t.Run("a call that fails is not charged", b.failingCall)
	t.Run("a call without enough balance never reaches the server", b.poorCall)
	t.Run("progress arrives before the end", b.streamingCall)
	t.Run("no bearer secret reaches the server", b.noSecretUpstream)
	b.gateway.VerifyLedger(t)
}

// transparent checks a part of promise 9 of docs/promises.md: through the gateway, the
// handshake and the list of tools are the server's own, except for prices, and for
// tools without a price, which are hidden.
func (b *bench) transparent(t *testing.T) {
	_, key := b.gateway.NewAgent(t, "viewer", "")
	session := b.gateway.Connect(t, key.Secret, nil)
	got, want := session.InitializeResult(), b.direct.InitializeResult()
	if got.ServerInfo.Name != b.server || got.ProtocolVersion != want.ProtocolVersion || got.Instructions != want.Instructions {
		t.Errorf("got server %+v, protocol %s; want %+v, %s", got.ServerInfo, got.ProtocolVersion, want.ServerInfo, want.ProtocolVersion)
	}
	gotTools, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTools, err := b.direct.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, tool := range gotTools.Tools { // the price is the gateway's only addition
		shown[tool.Name] = true
		if tool.Meta["dev.farebox/price"] == nil {
			t.Errorf("tool %s has no price", tool.Name)
		}
		if delete(tool.Meta, "dev.farebox/price"); len(tool.Meta) == 0 {
			tool.Meta = nil
		}
	}
	wantTools.Tools = slices.DeleteFunc(wantTools.Tools, func(tool *mcp.Tool) bool { // a tool without a price is neither sold nor listed
		if shown[tool.Name] {
			return false
		}
		_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool.Name, Arguments: map[string]any{}})
		if err == nil || !strings.Contains(err.Error(), "Unknown tool") {
			t.Errorf("tool %s is not shown, but can be called: %v", tool.Name, err)
		}
		return true
	})
	if got, want := encode(t, gotTools.Tools), encode(t, wantTools.Tools); got != want || len(gotTools.Tools) < 5 {
		t.Errorf("got tools\n%s\nwant\n%s", got, want)
	}
	if err := session.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// freeCall checks that a free tool needs no balance, costs nothing and leaves no
// charge.
func (b *bench) freeCall(t *testing.T) {
	_, key := b.gateway.NewAgent(t, "guest", "")
	result := b.call(t, b.gateway.Connect(t, key.Secret, nil), b.free)
	b.sameAsDirect(t, b.free, result)
	if meta := harness.ReadMeta(t, result.Meta); meta.Charge != nil || meta.Receipt != "" {
		t.Errorf("a free call has charge %+v, receipt %q", meta.Charge, meta.Receipt)
	}
	b.books(t, "guest", "0.00", 0)
}

// paidCall checks promises 1 and 4 of docs/promises.md. The result has a receipt, the
// balance falls by the price, the provider earns the price, and exactly one charge is
// listed. The server ran the call once.
func (b *bench) paidCall(t *testing.T) {
	account, key := b.gateway.NewAgent(t, "buyer", "5.00")
	earned := b.gateway.Account(t, "acme").Balance
	before := b.recorder.Calls(b.cheap.tool)
	result := b.call(t, b.gateway.Connect(t, key.Secret, nil), b.cheap)
	if n := b.recorder.Calls(b.cheap.tool) - before; n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
	b.sameAsDirect(t, b.cheap, result)

	charges := b.books(t, "buyer", "4.99", 1)
	meta := harness.ReadMeta(t, result.Meta)
	want := harness.Paid{ID: charges[0].ID, Amount: amount(t, b.cheap.price), Currency: "USD", Balance: amount(t, "4.99"), Environment: "live"}
	if meta.Charge == nil || *meta.Charge != want {
		t.Errorf("got charge %+v; want %+v", meta.Charge, want)
	}
	if c := charges[0]; c.State != "captured" || c.Tool != b.cheap.tool || c.Server != "target" || c.Amount != want.Amount {
		t.Errorf("got %+v listed", c)
	}
	if got := b.gateway.Account(t, "acme").Balance - earned; got != want.Amount {
		t.Errorf("the provider earned %s; want %s", got, want.Amount)
	}
	receipt := readReceipt(t, meta.Receipt)
	if receipt.Charge != charges[0].ID || receipt.Payer != account.ID || receipt.Amount != want.Amount || receipt.Tool != b.cheap.tool {
		t.Errorf("got receipt %+v", receipt)
	}
}

// readReceipt decodes a compact JWS without verifying its signature. The tests of
// the signing package verify signatures.
func readReceipt(t *testing.T, jws string) ledger.Receipt {
	t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("receipt %q is no compact JWS", jws)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatalf("receipt %q: %v", jws, err)
	}
	var receipt ledger.Receipt
	if err := json.Unmarshal(payload, &receipt); err != nil {
		t.Fatalf("receipt %q: %v", payload, err)
	}
	return receipt
}

// failingCall checks promise 2 of docs/promises.md. A result marked as an error is
// passed on unchanged and costs nothing.
func (b *bench) failingCall(t *testing.T) {
	_, key := b.gateway.NewAgent(t, "unlucky", "5.00")
	session := b.gateway.Connect(t, key.Secret, nil)
	result, err := session.CallTool(t.Context(), b.failing.params())
	if err != nil {
		t.Fatal(err)
	}
	if !result.IsError {
		t.Fatalf("%s did not fail: %s", b.failing.tool, harness.Text(result))
	}
	b.sameAsDirect(t, b.failing, result)
	if meta := harness.ReadMeta(t, result.Meta); meta.Charge != nil || meta.Receipt != "" || meta.Error != nil {
		t.Errorf("got %+v from the gateway", meta)
	}
	b.books(t, "unlucky", "5.00", 0)
	// No credits are reserved either: the whole balance can be spent.
	for range 5 {
		b.call(t, session, b.dear)
	}
	b.books(t, "unlucky", "0.00", 5)
}

// poorCall checks promise 3 of docs/promises.md. A call without enough balance never
// reaches the server, the model reads the price and the balance, and the session keeps
// working.
func (b *bench) poorCall(t *testing.T) {
	_, key := b.gateway.NewAgent(t, "poor", "0.99")
	session := b.gateway.Connect(t, key.Secret, nil)
	before := b.recorder.Calls(b.dear.tool)
	result, err := session.CallTool(t.Context(), b.dear.params())
	if err != nil {
		t.Fatalf("the session broke: %v", err)
	}
	if n := b.recorder.Calls(b.dear.tool) - before; n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	text := harness.Text(result)
	if !result.IsError || result.StructuredContent != nil {
		t.Errorf("got error %t, structured content %v", result.IsError, result.StructuredContent)
	}
	for _, want := range []string{b.dear.tool, b.dear.price, "0.99", "nothing was charged", "top"} {
		if !strings.Contains(text, want) {
			t.Errorf("the model reads %q; want %q in it", text, want)
		}
	}
	if meta := harness.ReadMeta(t, result.Meta); meta.Error == nil || meta.Error.Code != "INSUFFICIENT_BALANCE" || meta.Error.Price != amount(t, b.dear.price) {
		t.Errorf("got _meta %+v; want INSUFFICIENT_BALANCE", meta.Error)
	}
	b.books(t, "poor", "0.99", 0)

	b.call(t, session, b.free)
	b.call(t, session, b.cheap)
	b.books(t, "poor", "0.98", 1)
	b.gateway.CLI(t, nil, "credit", "poor", "0.02", "--reason", "the model asked for it")
	b.call(t, session, b.dear)
	b.books(t, "poor", "0.00", 2)
}

// streamingCall checks that every progress notification reaches the client before the
// server sends the answer, and that the answer has its charge (promise 1 of
// docs/promises.md).
func (b *bench) streamingCall(t *testing.T) {
	_, key := b.gateway.NewAgent(t, "watcher", "5.00")
	progress := make(chan float64, b.steps)
	session := b.gateway.Connect(t, key.Secret, func(p *mcp.ProgressNotificationParams) { progress <- p.Progress })

	release := b.recorder.HoldAnswers()
	defer release()
	type outcome struct {
		result *mcp.CallToolResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		params := b.streaming.params()
		params.SetProgressToken("progress-1")
		result, err := session.CallTool(t.Context(), params)
		done <- outcome{result, err}
	}()
	var seen []float64
	for len(seen) < b.steps {
		select {
		case p := <-progress:
			seen = append(seen, p)
		case o := <-done:
			t.Fatalf("the answer came after %v: %+v, %v", seen, o.result, o.err)
		}
	}
	if !slices.Equal(seen, []float64{1, 2, 3, 4}) {
		t.Errorf("got progress %v", seen)
	}
	if a := b.gateway.Account(t, "watcher"); a.Balance != amount(t, "5.00") || a.Reserved != amount(t, b.streaming.price) {
		t.Errorf("while it runs: balance %s, reserved %s", a.Balance, a.Reserved)
	}
	release()
	o := <-done
	if o.err != nil || o.result.IsError {
		t.Fatalf("got %+v, %v", o.result, o.err)
	}
	if meta := harness.ReadMeta(t, o.result.Meta); meta.Charge == nil || meta.Receipt == "" {
		t.Errorf("got _meta %+v; want a charge and a receipt", meta)
	}
	b.books(t, "watcher", "4.95", 1)
}

// noSecretUpstream checks promise 10 of docs/promises.md. No request to the server ever
// carries a credential.
func (b *bench) noSecretUpstream(t *testing.T) {
	requests := b.recorder.Requests()
	if len(requests) < 10 {
		t.Fatalf("only %d requests reached the server", len(requests))
	}
	for _, r := range requests {
		if r.Header.Get("Authorization") != "" || strings.Contains(encode(t, r), "sk_live_") {
			t.Errorf("%s %s %s has a credential", r.HTTPMethod, r.Method, r.Tool)
		}
	}
}

// call calls a tool and requires success.
func (b *bench) call(t *testing.T, session *mcp.ClientSession, c call) *mcp.CallToolResult {
	t.Helper()
	result, err := session.CallTool(t.Context(), c.params())
	if err != nil {
		t.Fatalf("%s: %v", c.tool, err)
	}
	if result.IsError {
		t.Fatalf("%s: %s", c.tool, harness.Text(result))
	}
	return result
}

// sameAsDirect compares a result, except for _meta, with the server's own
// answer.
func (b *bench) sameAsDirect(t *testing.T, c call, got *mcp.CallToolResult) {
	t.Helper()
	want, err := b.direct.CallTool(t.Context(), c.params())
	if err != nil {
		t.Fatal(err)
	}
	g, w := *got, *want
	g.Meta, w.Meta = nil, nil
	if encode(t, &g) != encode(t, &w) {
		t.Errorf("%s: got %s; want %s", c.tool, encode(t, &g), encode(t, &w))
	}
}

// books checks the account's balance and number of charges, and that no credits are
// reserved. It returns the charges.
func (b *bench) books(t *testing.T, name, balance string, charges int) []harness.Charge {
	t.Helper()
	a := b.gateway.Account(t, name)
	if a.Balance != amount(t, balance) || a.Reserved != 0 {
		t.Errorf("%s: balance %s, reserved %s; want %s, 0.00", name, a.Balance, a.Reserved, balance)
	}
	list := b.gateway.Charges(t, name)
	if len(list) != charges {
		t.Fatalf("%s: %d charges listed; want %d: %+v", name, len(list), charges, list)
	}
	return list
}

func amount(t *testing.T, text string) ledger.Amount {
	t.Helper()
	a, err := ledger.ParseAmount(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
