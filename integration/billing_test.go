package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// billingCaddyfile returns the Caddyfile of examples/billing with the server at the
// given base URL. If edit is not nil, it makes further changes.
func billingCaddyfile(t *testing.T, upstream string, edit *strings.Replacer) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "examples", "billing", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for from, to := range map[string]string{"localhost:{$BILLING_PORT:3002}": u.Host, "import ../../": "import " + binaries.Root + "/"} {
		if strings.Count(changed, from) != 1 {
			t.Fatalf("%q stands %d times in the Caddyfile; want once", from, strings.Count(changed, from))
		}
		changed = strings.Replace(changed, from, to, 1)
	}
	if edit == nil {
		return changed
	}
	if edit.Replace(changed) == changed {
		t.Fatal("the edit changed nothing in the Caddyfile")
	}
	return edit.Replace(changed)
}

// thing is a tool, resource or prompt of the billing server, with the scopes that a
// key needs for it. The things below are the table with which the tests compare the
// gateway: reading needs billing.read, writing needs billing.write, and the prompt
// needs both.
type thing struct {
	name  string
	needs []string
	costs bool
}

var (
	billingTools = []thing{
		{"invoice_statistics", []string{"billing.read"}, false},
		{"list_invoices", []string{"billing.read"}, false},
		{"overdue_invoices", []string{"billing.read"}, false},
		{"create_invoice", []string{"billing.write"}, false},
		{"send_reminder", []string{"billing.write"}, true},
	}
	billingInvoice  = thing{"invoice://1002", []string{"billing.read"}, false}
	billingTemplate = thing{"invoice://{id}", []string{"billing.read"}, false}
	billingPrompt   = thing{"payment_reminder", []string{"billing.read", "billing.write"}, false}

	billingArguments = map[string]any{
		"create_invoice": map[string]any{"customer": "Ember Foods", "cents": 100, "due": "2026-12-31"},
		"send_reminder":  map[string]any{"id": "1002"},
	}
)

// The scopes of the shipped catalogue. One of the scopes includes two other scopes.
var (
	billingScopes = []string{
		"billing.read", "billing.write", "billing.agent", "customers.read", "customers.write", "products.read", "products.write",
	}
	billingIncludes = map[string][]string{"billing.agent": {"billing.read", "billing.write"}}
)

// holder describes a key by its kind and its scopes.
type holder struct {
	kind   string
	scopes []string
}

func (h holder) String() string { return h.kind + " with " + strings.Join(h.scopes, " and ") }

// pays reports whether the key may be charged.
func (h holder) pays() bool { return h.kind == "agent" || slices.Contains(h.scopes, "agent:connect") }

// lacks returns the scopes that the thing x needs and the key lacks.
func (h holder) lacks(x thing) (lacking []string) {
	carried := slices.Clone(h.scopes)
	for _, s := range h.scopes {
		carried = append(carried, billingIncludes[s]...)
	}
	for _, need := range x.needs {
		if !slices.Contains(carried, need) {
			lacking = append(lacking, need)
		}
	}
	if x.costs && !h.pays() {
		lacking = append(lacking, "agent:connect")
	}
	return lacking
}

// holders returns keys of both kinds that may call servers. A key has one of four
// sets of scopes: one scope of the catalogue, two of them (with or without
// inheritance), all of them, or no scope of the catalogue.
func holders() (all []holder) {
	sets := [][]string{
		{"billing.read", "billing.write"}, {"billing.agent", "billing.read"}, {"billing.agent", "billing.write"}, {"billing.agent", "customers.read"},
		{"billing.read", "customers.write"}, {"billing.write", "products.write"}, {"customers.read", "products.read"}, billingScopes,
	}
	for _, s := range billingScopes {
		sets = append(sets, []string{s})
	}
	for _, set := range sets {
		all = append(all, holder{"agent", set}, holder{"personal", set}, holder{"personal", append(slices.Clone(set), "agent:connect")})
	}
	return append(all, holder{"agent", nil}, holder{"personal", []string{"agent:connect"}})
}

// TestEveryScopeOfTheCatalogue checks the scopes of a key, with their inheritance. They
// decide which tools the key may call, which resources it may read and which entries
// its lists show. The test covers every scope of the shipped catalogue and every thing
// that the billing server offers, in protocol versions with and without sessions. The
// test computes each expected outcome from the scopes in the table of things. A refused
// request never reaches the server and costs nothing.
func TestEveryScopeOfTheCatalogue(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"sessions": nil, "stateless": {"-stateless"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder := harness.Record(t, binaries.StartBilling(t, flags...))
			g := binaries.StartGateway(t, billingCaddyfile(t, recorder.URL, nil))
			g.CLI(t, nil, "account", "create", "alice")
			g.CLI(t, nil, "credit", "alice", "5.00", "--reason", "for the test")
			paid := 0
			for i, h := range holders() {
				command := []string{"--kind", h.kind, "--name", fmt.Sprint("key ", i)}
				for _, s := range h.scopes {
					command = append(command, "--scope", s)
				}
				w := &walk{gateway: g, recorder: recorder, holder: h, session: g.Connect(t, g.NewKey(t, "alice", command...).Secret, nil)}
				if v := w.session.InitializeResult().ProtocolVersion; (v == "2026-07-28") != (name == "stateless") {
					t.Fatalf("the client speaks %s", v)
				}
				paid += w.tools(t)
				w.invoices(t)
				w.prompts(t)
				w.notified(t)
			}
			charges := g.Charges(t, "alice")
			if len(charges) != paid || slices.ContainsFunc(charges, func(c harness.Charge) bool { return c.Tool != "send_reminder" || c.Amount != amount(t, "0.05") }) {
				t.Errorf("charges %+v; want %d reminders at 0.05", charges, paid)
			}
			g.VerifyLedger(t)
		})
	}
}

// walk tries everything that the server offers with one key.
type walk struct {
	gateway  *harness.Gateway
	recorder *harness.Recorder
	holder   holder
	session  *mcp.ClientSession
}

func (w *walk) tools(t *testing.T) (paid int) {
	var listed []string
	for tool, err := range w.session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatalf("%s: %v", w.holder, err)
		}
		listed = append(listed, tool.Name)
	}
	w.sees(t, "tools", listed, billingTools...)
	for _, tool := range billingTools {
		before := w.recorder.Calls(tool.name)
		arguments := billingArguments[tool.name]
		if arguments == nil {
			arguments = map[string]any{}
		}
		result, err := w.session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool.name, Arguments: arguments})
		if err != nil {
			t.Fatalf("%s calls %s: %v", w.holder, tool.name, err)
		}
		reached, lacking := w.recorder.Calls(tool.name)-before, w.holder.lacks(tool)
		meta := harness.ReadMeta(t, result.Meta)
		if len(lacking) == 0 {
			if result.IsError || reached != 1 || (meta.Charge != nil) != tool.costs {
				t.Errorf("%s may call %s: got %s, and the server was called %d times", w.holder, tool.name, harness.Text(result), reached)
			}
			if tool.costs {
				paid++
			}
			continue
		}
		if !result.IsError || reached != 0 || meta.Error == nil {
			t.Errorf("%s calls %s and lacks %v: %s, and the server was called %d times", w.holder, tool.name, lacking, harness.Text(result), reached)
			continue
		}
		w.told(t, tool.name, tool, meta, harness.Text(result))
	}
	return paid
}

func (w *walk) invoices(t *testing.T) {
	var listed []string
	for resource, err := range w.session.Resources(t.Context(), nil) {
		if err != nil {
			t.Fatalf("%s: %v", w.holder, err)
		}
		if resource.URI == billingInvoice.name { // all invoices need the same scopes, and the test adds invoices
			listed = append(listed, resource.URI)
		}
	}
	w.sees(t, "resources", listed, billingInvoice)
	listed = nil
	for template, err := range w.session.ResourceTemplates(t.Context(), nil) {
		if err != nil {
			t.Fatalf("%s: %v", w.holder, err)
		}
		listed = append(listed, template.URITemplate)
	}
	w.sees(t, "templates", listed, billingTemplate)
	_, err := w.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: billingInvoice.name})
	w.outcome(t, "resource:"+billingInvoice.name, billingInvoice, err)
}

func (w *walk) prompts(t *testing.T) {
	var listed []string
	for prompt, err := range w.session.Prompts(t.Context(), nil) {
		if err != nil {
			t.Fatalf("%s: %v", w.holder, err)
		}
		listed = append(listed, prompt.Name)
	}
	w.sees(t, "prompts", listed, billingPrompt)
	_, err := w.session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: billingPrompt.name, Arguments: map[string]string{"id": "1002"}})
	w.outcome(t, "prompt:"+billingPrompt.name, billingPrompt, err)
}

// notified subscribes to changes of an invoice, which needs the same scopes as
// reading it. In the protocol version without sessions it does nothing, because that
// version uses another request for subscriptions.
func (w *walk) notified(t *testing.T) {
	if w.session.InitializeResult().ProtocolVersion == "2026-07-28" {
		return
	}
	err := w.session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: billingInvoice.name})
	var failed *jsonrpc.Error
	if len(w.holder.lacks(billingInvoice)) == 0 && errors.As(err, &failed) && failed.Code == jsonrpc.CodeMethodNotFound {
		return // the gateway has let the request pass, and the server has refused it because it has no subscriptions
	}
	w.outcome(t, "resource:"+billingInvoice.name, billingInvoice, err)
}

// sees checks the entries of a list that the gateway returned. The list must show
// those of the given things that the key may use, and no other thing.
func (w *walk) sees(t *testing.T, list string, listed []string, all ...thing) {
	t.Helper()
	var want []string
	for _, x := range all {
		if len(w.holder.lacks(x)) == 0 {
			want = append(want, x.name)
		}
	}
	slices.Sort(listed)
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("%s sees the %s %v; want %v", w.holder, list, listed, want)
	}
}

// outcome checks the error err, which is the outcome of a request for the thing x.
// The request is not a tool call. It must succeed if the key has all scopes that the
// thing needs, and be refused otherwise.
func (w *walk) outcome(t *testing.T, name string, x thing, err error) {
	t.Helper()
	lacking := w.holder.lacks(x)
	if len(lacking) == 0 {
		if err != nil {
			t.Errorf("%s may use %s: got %v", w.holder, name, err)
		}
		return
	}
	var failed *jsonrpc.Error
	if !errors.As(err, &failed) || failed.Code != 403 {
		t.Errorf("%s asks for %s and lacks %v: %v", w.holder, name, lacking, err)
		return
	}
	var data struct {
		Meta harness.Meta `json:"_meta"`
	}
	if err := json.Unmarshal(failed.Data, &data); err != nil || data.Meta.Error == nil {
		t.Errorf("%s asks for %s: %s, %v", w.holder, name, failed.Data, err)
		return
	}
	w.told(t, name, x, data.Meta, failed.Message)
}

// told checks the content of a refusal. The _meta must name the refused item and
// every scope that it needs, and the text must name the missing scopes.
func (w *walk) told(t *testing.T, name string, x thing, meta harness.Meta, text string) {
	t.Helper()
	needs := slices.Clone(x.needs)
	if x.costs && !w.holder.pays() {
		needs = append(needs, "agent:connect")
	}
	if meta.Error.Code != "SCOPE_INSUFFICIENT" || meta.Error.Tool != name || !slices.Equal(meta.Error.Scopes, needs) {
		t.Errorf("%s is refused %s: %+v; want SCOPE_INSUFFICIENT and %v", w.holder, name, meta.Error, needs)
	}
	for _, lacking := range w.holder.lacks(x) {
		if !strings.Contains(text, lacking) || !strings.Contains(text, x.name) || !strings.Contains(text, "nothing was charged") {
			t.Errorf("%s is refused %s in the words %q; want %s in them", w.holder, name, text, lacking)
		}
	}
}

// TestCatalogueIsTheTables checks that the shipped catalogue declares exactly the
// scopes in billingScopes, so TestEveryScopeOfTheCatalogue covers all of them.
func TestCatalogueIsTheTables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "config", "scopes", "billing.caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(line, "\t") || words[0] == "default" {
			continue
		}
		declared = append(declared, words[0])
		if _, included, ok := strings.Cut(line, "includes "); ok != (billingIncludes[words[0]] != nil) || ok && !slices.Equal(strings.Fields(included), billingIncludes[words[0]]) {
			t.Errorf("the catalogue has %q; the table says that it includes %v", strings.TrimSpace(line), billingIncludes[words[0]])
		}
	}
	if !slices.Equal(declared, billingScopes) {
		t.Errorf("the catalogue declares %v; the table has %v", declared, billingScopes)
	}
}
