package pricing

import (
	"errors"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestQuoteByKind checks that a rule for items of one kind never prices an item of
// another kind. Items other than tools are free without a rule.
func TestQuoteByKind(t *testing.T) {
	b := compile(t, Default{Allow: true, Amount: 9},
		Rule{Pattern: "report", Amount: 1}, Rule{Pattern: "prompt:report", Amount: 2}, Rule{Pattern: "method:report", Amount: 3},
		Rule{Pattern: "prompt:draft/*", Amount: 4}, Rule{Pattern: "prompt:draft/free"},
		Rule{Pattern: "resource:docs://*.pdf", Amount: 5}, Rule{Pattern: "resource:docs://*", Amount: 6}, Rule{Pattern: "resource:docs://a/b.pdf", Amount: 7},
		Rule{Pattern: "resource:city://{name}/now{?units}", Amount: 8}, Rule{Pattern: "resource:https://[::1]/x?y=*", Amount: 9},
		Rule{Pattern: "prompt:long", CEL: "size(args.text) + size(tool)", Max: 100}, Rule{Pattern: "resource:len://*", CEL: "size(tool) + size(args)", Max: 100},
	)
	arguments := []byte(`{"text":"abc"}`)
	for _, c := range []struct {
		item  string
		want  ledger.Amount
		entry string
	}{
		{"report", 1, "report"}, {"prompt:report", 2, "prompt:report"}, {"method:report", 3, "method:report"}, {"resource:report", 0, Other},
		{"draft/x", 9, Other}, {"prompt:draft/x", 4, "prompt:draft/*"}, {"prompt:draft/x/y", 4, "prompt:draft/*"}, {"prompt:draft/free", 0, "prompt:draft/free"},
		{"prompt:long", 7, "prompt:long"}, {"method:other", 0, Other},
		{"resource:docs://a/c.pdf", 5, "resource:docs://*.pdf"}, {"resource:docs://a/b/c", 6, "resource:docs://*"}, {"resource:docs://a/b.pdf", 7, "resource:docs://a/b.pdf"},
		{"resource:docs:/", 0, Other}, {"resource:city://Oslo/now", 8, "resource:city://{name}/now{?units}"},
		{"resource:city://a/b/now?units=m", 8, "resource:city://{name}/now{?units}"}, {"resource:city://Oslo/later", 0, Other},
		{"resource:https://[::1]/x?y=1", 9, "resource:https://[::1]/x?y=*"}, {"resource:https://:/x?y=1", 0, Other}, {"resource:https://[::1]/xzy=1", 0, Other},
	} {
		item, err := items.Parse(c.item)
		if err != nil || item.String() != c.item {
			t.Fatalf("%s: %+v, %v", c.item, item, err)
		}
		q, err := b.Quote(t.Context(), item, arguments)
		if err != nil || q.Amount != c.want || q.Entry != c.entry || q.ChargeOn != Success {
			t.Errorf("%s: got %+v, %v; want %s by %q", c.item, q, err, c.want, c.entry)
		}
	}
	if q, err := b.Quote(t.Context(), items.Item{Kind: items.Resource, Name: "len://abc"}, nil); err != nil || q.Amount != 9 {
		t.Errorf("a resource's expression sees its URI and no arguments: got %+v, %v", q, err)
	}
	denying := compile(t, Default{})
	for _, kind := range []items.Kind{items.Prompt, items.Resource, items.Method} {
		if q, err := denying.Quote(t.Context(), items.Item{Kind: kind, Name: "x"}, nil); err != nil || q.Amount != 0 {
			t.Errorf("an unnamed %s: %+v, %v", kind, q, err)
		}
	}
}

// TestCompileRefusesItems checks that Compile refuses an invalid name. The error must
// contain the reason, or the form in which the name must be written.
func TestCompileRefusesItems(t *testing.T) {
	for pattern, want := range map[string]string{
		"prompt:": "name of a prompt", "resource:": "name of a resource", "tool:": "name of a tool", "Prompt:x": "write prompt:NAME", "prompts:x": "tool:prompts:x", "docs://a": "resource:URI",
		"a\x07": "can never match", "a*\x07": "can never match", "resource:a\nb*": "can never match", strings.Repeat("x", 257): "at most 256 characters", "\xff": "can never match",
		"prompt:a[": "cannot be read", "resource:a{": "a brace is not closed", "resource:{a{b}}": "a brace is not closed", "resource:a}": "a brace is not opened",
	} {
		if _, err := Compile([]Rule{{Pattern: pattern, Amount: 1}}, Default{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", pattern, err, want)
		}
	}
	twice := []Rule{{Pattern: "prompt:a", Amount: 1}, {Pattern: "a", Amount: 1}, {Pattern: "prompt:a", Amount: 2}}
	if _, err := Compile(twice, Default{}); err == nil || !strings.Contains(err.Error(), `prompt "a" is named twice`) {
		t.Errorf("twice: %v", err)
	}
	if _, err := Compile(twice[:2], Default{}); err != nil {
		t.Errorf("a prompt and a tool of one name: %v", err)
	}
}

// TestOfferTemplate checks that a template has a price only if a rule has exactly the
// template as its pattern. The price is that of the rule.
func TestOfferTemplate(t *testing.T) {
	b := compile(t, Default{}, Rule{Pattern: "resource:plain://x", Amount: 1}, Rule{Pattern: "resource:city://{name}", Amount: 2},
		Rule{Pattern: "resource:len://{x}", CEL: "size(tool)", Max: 5})
	for template, want := range map[string]Offer{
		"plain://x": {Amount: 1}, "city://{name}": {Amount: 2}, "len://{x}": {Amount: 5, Varies: true},
		"city://{name}/{day}": {}, "city://{other}": {}, "docs://{name}": {}, "": {},
	} {
		if got, ok := b.OfferTemplate(template); got != want || ok != (want != Offer{}) {
			t.Errorf("%s: got %+v, %v; want %+v", template, got, ok, want)
		}
	}
	if _, ok := b.Offer(items.Item{Kind: items.Prompt, Name: "x"}); ok {
		t.Error("a prompt that no rule names has an offer")
	}
	if _, ok := b.Offer(items.Item{Name: "x"}); ok {
		t.Error("a tool that is denied has an offer")
	}
}

// TestAmbiguous checks which URIs are ambiguous if some resource has a price. A URI is
// ambiguous if servers may take it for another one, unless a rule has exactly this URI
// as its name.
func TestAmbiguous(t *testing.T) {
	b := compile(t, Default{}, Rule{Pattern: "resource:docs://a", Amount: 1}, Rule{Pattern: "resource:docs://my file", Amount: 1})
	for _, uri := range []string{
		"docs://a", "docs://my file", "docs://Oslo/B?x=%2F&y=%C3%BC", "docs:a/b", "docs://u@a:80/x", "docs://[::1]:80/x", "docs://", "docs:///.../x", "file:///etc/hosts", "https://example.com/",
		"https://example.com:8443/A", "http://127.0.0.1/", "http://[::1]:1/", "urn:isbn:0451450523", "https://a.b2/", "https://example.com./", "x+y.z-1:q",
	} {
		if b.Ambiguous(uri) {
			t.Errorf("%s is ambiguous", uri)
		}
	}
	for _, uri := range []string{
		"", "docs", "Docs://a", "DOCS://a", "1x://a", "://a", " docs://a", "docs://a ", "docs://a\n", "do\tcs://a", "docs://%61", "docs://%c3%bc", "docs://ü", "docs://a%", "docs://a%4", "docs://a%zz",
		"docs://a:/x", "docs://@a/x", "docs://:@a/x", "docs://u:@a/x", "docs://u@v@a/x", "docs://a:080/x", "docs://a:8x/x", "docs://a:65536/x", "docs://[::0001]/x", "docs://[::1/x", "docs://a:?x",
		"docs://b/../a", "docs://./a", "docs://b/.", "docs://b/..", "docs://b/..?x", "docs://b/%2E%2E/a", `docs:\\a`, "docs://a#part", "docs://{a}", "docs://\x00", "docs://a\x7f",
		"https://example.com", "https:example.com/", "https:/example.com/", "https:///example.com/", "https://Example.com/", "https://example.com:443/", "https://example.com:/", "https://example.com:0443/", "https://example.com:8x/", "https://example.com:+8/", "https://example.com:65536/",
		"https://a@example.com/", "https://@example.com/", "https://ex%41mple.com/", "http://127.1/", "http://0x7f.0.0.1/", "http://127.0.0.1./", "http://2130706433/", "http://[0:0:0:0:0:0:0:1]/", "http://[::1/", "http://::1]/", "http://a:1:2/",
		"file://localhost/x", "file:/x", "ftp://x:21/", "wss://x:443/", "ws://x:80/", "http://x:80/",
	} {
		if !b.Ambiguous(uri) {
			t.Errorf("%q is not ambiguous", uri)
		}
	}
	for _, rules := range [][]Rule{nil, {{Pattern: "resource:docs://*"}}, {{Pattern: "prompt:a", Amount: 1}}} {
		if compile(t, Default{}, rules...).Ambiguous("DOCS://a") {
			t.Errorf("%v: no resource has a price, but one is refused", rules)
		}
	}
}

// TestUnpricedIsAboutTools checks that an item without a rule is denied only if it is a
// tool.
func TestUnpricedIsAboutTools(t *testing.T) {
	b := compile(t, Default{})
	if _, err := b.Quote(t.Context(), items.Item{Name: "x"}, nil); !errors.Is(err, ErrUnpriced) {
		t.Errorf("a tool: %v", err)
	}
	if got := items.Kind(7).String(); got != "Kind(7)" {
		t.Error(got)
	}
}
