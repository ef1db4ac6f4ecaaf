package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

type thingParams struct {
	mcp.ParamsBase
	Size int `json:"size"`
}

type thingResult struct {
	mcp.ResultBase
	Thing string `json:"thing"`
}

const thingMethod = "vendor/thing"

// startLibrary starts an MCP server of the Go SDK with prompts, resources, a
// resource template, and methods outside the protocol.
func startLibrary(t *testing.T, stateless bool) (url string) {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "library", Version: "1.0.0"}, &mcp.ServerOptions{
		CompletionHandler: func(context.Context, *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{"mice"}}}, nil
		},
	})
	getPrompt := func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		text := "Write about " + req.Params.Arguments["topic"]
		if req.Params.Arguments["topic"] == "nothing" {
			return nil, errors.New("there is nothing to write")
		}
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}}}, nil
	}
	for _, name := range []string{"essay", "letter", "poem"} {
		server.AddPrompt(&mcp.Prompt{Name: name, Arguments: []*mcp.PromptArgument{{Name: "topic"}}}, getPrompt)
	}
	read := func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "text of " + req.Params.URI}}}, nil
	}
	for _, uri := range []string{"docs://annual/report", "docs://annual/index", "news://today"} {
		server.AddResource(&mcp.Resource{Name: uri, URI: uri}, read)
	}
	for _, template := range []string{"city://{name}/climate", "city://{name}/flag"} {
		server.AddResourceTemplate(&mcp.ResourceTemplate{Name: template, URITemplate: template}, read)
	}
	thing := func(_ context.Context, _ *mcp.ServerSession, p *thingParams) (*thingResult, error) {
		if p.Size < 0 {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "a size below zero"}
		}
		return &thingResult{Thing: strings.Repeat("x", p.Size)}, nil
	}
	for _, method := range []string{thingMethod, "vendor/hello", "vendor/unnamed"} {
		if err := mcp.AddReceivingCustomMethod(server, method, thing); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: stateless}))
	listener := httptest.NewServer(mux)
	t.Cleanup(listener.Close)
	t.Cleanup(listener.CloseClientConnections)
	return listener.URL
}

// asked is the outcome of one request.
type asked struct {
	text string
	meta mcp.Meta
	err  error
}

// library is an account's session with the server of startLibrary.
type library struct {
	gateway *harness.Gateway
	session *mcp.ClientSession
	name    string
}

func (l *library) prompt(t *testing.T, name, topic string) asked {
	result, err := l.session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: name, Arguments: map[string]string{"topic": topic}})
	if err != nil {
		return asked{err: err}
	}
	return asked{text: result.Messages[0].Content.(*mcp.TextContent).Text, meta: result.Meta}
}

func (l *library) read(t *testing.T, uri string) asked {
	result, err := l.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	if err != nil {
		return asked{err: err}
	}
	return asked{text: result.Contents[0].Text, meta: result.Meta}
}

func (l *library) thing(t *testing.T, method string, size int) asked {
	result, err := mcp.CallCustomMethod[*thingParams, *thingResult](t.Context(), l.session, method, &thingParams{Size: size})
	if err != nil {
		return asked{err: err}
	}
	return asked{text: result.Thing, meta: result.Meta}
}

func (l *library) complete(t *testing.T) asked {
	result, err := l.session.Complete(t.Context(), &mcp.CompleteParams{
		Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "essay"}, Argument: mcp.CompleteParamsArgument{Name: "topic", Value: "m"},
	})
	if err != nil {
		return asked{err: err}
	}
	return asked{text: result.Completion.Values[0], meta: result.Meta}
}

var libraryPrices = []string{
	"server library", "provider acme",
	`price prompt:essay cel "size(args.topic) * 1000" max 0.02`, "price prompt:lett* 0.002",
	"price resource:docs://* 0.01", "free resource:docs://annual/index", "price resource:city://{name}/climate 0.03",
	"method " + thingMethod + " 0.004", "method vendor/hello free", "method completion/complete 0.001",
}

// TestItemsArePaid checks that prompts, resources and methods are charged by the rules
// that name them, like tools, with receipts as proof. Items without a rule are
// unaffected. A refusal is a JSON-RPC error that names the refused item and costs
// nothing. The test runs in protocol versions with and without sessions.
func TestItemsArePaid(t *testing.T) {
	t.Parallel()
	for _, stateless := range []bool{false, true} {
		t.Run(fmt.Sprintf("stateless %v", stateless), func(t *testing.T) {
			t.Parallel()
			g := binaries.StartGateway(t, harness.Site(startLibrary(t, stateless), libraryPrices...))
			_, key := g.NewAgent(t, "agent", "0.062")
			l := &library{gateway: g, name: "agent", session: connectLibrary(t, g, key.Secret)}
			if v := l.session.InitializeResult().ProtocolVersion; (v == "2026-07-28") != stateless {
				t.Fatalf("the client speaks %s", v)
			}
			l.visit(t)
			l.lists(t)
			paid := map[string]string{}
			for _, c := range g.Charges(t, "agent") {
				paid[c.Tool] += c.Amount.String() + " "
			}
			want := map[string]string{
				"prompt:essay": "0.004 ", "prompt:letter": "0.002 ", "resource:docs://annual/report": "0.01 ", "resource:city://Oslo/climate": "0.03 ",
				"method:" + thingMethod: "0.004 ", "method:completion/complete": "0.001 ",
			}
			if fmt.Sprint(paid) != fmt.Sprint(want) {
				t.Errorf("charges %v; want %v", paid, want)
			}
			metrics := g.Metrics(t)
			for _, entry := range []string{"prompt:essay", "prompt:lett*", "resource:docs://*", "resource:city://{name}/climate", "method:" + thingMethod} {
				if n := metrics[`farebox_charges_total{environment="live",result="captured",server="library",tool="`+entry+`"}`]; n != 1 {
					t.Errorf("%v captures are counted for the entry %s", n, entry)
				}
			}
			g.VerifyLedger(t)
		})
	}
}

func connectLibrary(t *testing.T, g *harness.Gateway, secret string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	for _, method := range []string{thingMethod, "vendor/hello", "vendor/unnamed"} {
		if err := mcp.AddSendingCustomMethod[*thingParams, *thingResult](client, method); err != nil {
			t.Fatal(err)
		}
	}
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: g.Endpoint(), HTTPClient: &http.Client{Transport: harness.Bearer{Secret: secret}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// visit requests an item of each kind, and at last a resource that costs more
// than the balance.
func (l *library) visit(t *testing.T) {
	for _, c := range []struct {
		name    string
		got     asked
		text    string
		item    string   // item in the receipt; "" for a free call
		refused []string // texts that the error must contain
		balance string
	}{
		{"a prompt by expression", l.prompt(t, "essay", "mice"), "Write about mice", "prompt:essay", nil, "0.058"},
		{"a prompt by pattern", l.prompt(t, "letter", "cats"), "Write about cats", "prompt:letter", nil, "0.056"},
		{"a prompt that no rule names", l.prompt(t, "poem", "dogs"), "Write about dogs", "", nil, "0.056"},
		{"a prompt that fails", l.prompt(t, "letter", "nothing"), "", "", []string{"there is nothing to write"}, "0.056"},
		{"a prompt above its maximum", l.prompt(t, "essay", "a topic of many letters"), "", "", []string{"above the most that it may be, 0.02"}, "0.056"},
		{"a resource by pattern", l.read(t, "docs://annual/report"), "text of docs://annual/report", "resource:docs://annual/report", nil, "0.046"},
		{"a free resource", l.read(t, "docs://annual/index"), "text of docs://annual/index", "", nil, "0.046"},
		{"a resource that no rule names", l.read(t, "news://today"), "text of news://today", "", nil, "0.046"},
		{"a resource of a template", l.read(t, "city://Oslo/climate"), "text of city://Oslo/climate", "resource:city://Oslo/climate", nil, "0.016"},
		{"one of another template", l.read(t, "city://Oslo/flag"), "text of city://Oslo/flag", "", nil, "0.016"},
		{"a resource in another spelling", l.read(t, "city://Osl%6F/climate"), "", "", []string{"normal form"}, "0.016"},
		{"a paid method", l.thing(t, thingMethod, 3), "xxx", "method:" + thingMethod, nil, "0.012"},
		{"a paid method that fails", l.thing(t, thingMethod, -1), "", "", []string{"a size below zero"}, "0.012"},
		{"a free method", l.thing(t, "vendor/hello", 2), "xx", "", nil, "0.012"},
		{"a method that no rule names", l.thing(t, "vendor/unnamed", 2), "", "", []string{"method not found: vendor/unnamed"}, "0.012"},
		{"a known method with a price", l.complete(t), "mice", "method:completion/complete", nil, "0.011"},
		{"too dear", l.read(t, "city://Rome/climate"), "", "", []string{
			`The resource "city://Rome/climate" was not read and nothing was charged`, "one call costs 0.03 USD", "only 0.011 USD available"}, "0.011"},
	} {
		if c.got.text != c.text || (c.got.err != nil) != (c.refused != nil) {
			t.Errorf("%s: got %q, %v; want %q", c.name, c.got.text, c.got.err, c.text)
		}
		for _, word := range c.refused {
			if c.got.err == nil || !strings.Contains(c.got.err.Error(), word) {
				t.Errorf("%s: %v; want %q in it", c.name, c.got.err, word)
			}
		}
		meta := harness.ReadMeta(t, c.got.meta)
		if (meta.Charge != nil) != (c.item != "") {
			t.Errorf("%s: _meta %v; want the receipt of %q", c.name, c.got.meta, c.item)
		} else if meta.Charge != nil {
			if r := readReceipt(t, meta.Receipt); r.Tool != c.item || r.Charge != meta.Charge.ID {
				t.Errorf("%s: receipt %+v", c.name, r)
			}
			if got := meta.Charge.Balance; got != amount(t, c.balance) {
				t.Errorf("%s: the balance after it is %s; want %s", c.name, got, c.balance)
			}
		}
	}
	if a := l.gateway.Account(t, l.name); a.Balance != amount(t, "0.011") || a.Reserved != 0 {
		t.Errorf("balance %s, reserved %s", a.Balance, a.Reserved)
	}
}

// lists checks that the lists show a price for each item that a rule names, and
// for no other item.
func (l *library) lists(t *testing.T) {
	got := map[string]any{}
	price := func(name string, meta mcp.Meta) { got[name] = meta["dev.farebox/price"] }
	for prompt, err := range l.session.Prompts(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		price(prompt.Name, prompt.Meta)
	}
	for resource, err := range l.session.Resources(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		price(resource.URI, resource.Meta)
	}
	for template, err := range l.session.ResourceTemplates(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		price(template.URITemplate, template.Meta)
	}
	cost := func(how, amount string) map[string]any { return map[string]any{how: amount, "currency": "USD"} }
	want := map[string]any{
		"essay": cost("max", "0.02"), "letter": cost("amount", "0.002"), "poem": nil,
		"docs://annual/report": cost("amount", "0.01"), "docs://annual/index": cost("amount", "0.00"), "news://today": nil,
		"city://{name}/climate": cost("amount", "0.03"), "city://{name}/flag": nil,
	}
	if encode(t, got) != encode(t, want) {
		t.Errorf("prices in lists: %s\nwant %s", encode(t, got), encode(t, want))
	}
}

// TestItemsAreReplayed checks that a prompt, a resource and a method that are requested
// twice with one idempotency key reach the server once and are charged once. The key is
// refused for other parameters.
func TestItemsAreReplayed(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, startLibrary(t, true))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, libraryPrices...))
	_, key := g.NewAgent(t, "agent", "0.10")
	body := func(id int, retry, method, params string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s,"_meta":{"dev.farebox/idempotency-key":%q}}}`, id, method, params, retry)
	}
	for i, c := range []struct{ method, params, other, balance string }{
		{"prompts/get", `"name":"essay","arguments":{"topic":"mice"}`, `"name":"essay","arguments":{"topic":"cats"}`, "0.096"},
		{"resources/read", `"uri":"docs://annual/report"`, `"uri":"city://Oslo/climate"`, "0.086"},
		{thingMethod, `"size":3`, `"size":4`, "0.082"},
	} {
		retry := fmt.Sprint("order-", i)
		before := len(recorder.Requests())
		first := post(t, g, key.Secret, body(1, retry, c.method, c.params))
		again := post(t, g, key.Secret, body(2, retry, c.method, c.params))
		other := post(t, g, key.Secret, body(3, retry, c.method, c.other))
		if first.Result == nil || again.Result == nil || first.Result.Meta.Receipt == "" || again.Result.Meta.Charge == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID ||
			string(again.ID) != "2" || !strings.Contains(again.Body, `"dev.farebox/replayed":true`) {
			t.Errorf("%s: %s and then %s", c.method, first.Body, again.Body)
		}
		if other.Error == nil || other.Code() != "IDEMPOTENCY_KEY_REUSED" || other.Status != 200 {
			t.Errorf("%s with other params: %s", c.method, other.Body)
		}
		if n := len(recorder.Requests()) - before; n != 1 {
			t.Errorf("%s: the server was asked %d times", c.method, n)
		}
		if a := g.Account(t, "agent"); a.Balance != amount(t, c.balance) || a.Reserved != 0 {
			t.Errorf("%s: balance %s, reserved %s; want %s", c.method, a.Balance, a.Reserved, c.balance)
		}
	}
	long := post(t, g, key.Secret, body(4, "long", "resources/read", `"uri":"docs://`+strings.Repeat("x", 1024)+`"`))
	if long.Error == nil || long.Status != 200 || long.Code() != "PARAMS_INVALID" || len(long.Body) > 500 {
		t.Errorf("a URI that is too long: %d %s", long.Status, long.Body)
	}
	g.VerifyLedger(t)
}
