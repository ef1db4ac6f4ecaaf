package gate

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// newShop returns a bench with prices for all kinds of items.
func newShop(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	book, err := pricing.Compile([]pricing.Rule{
		{Pattern: "prompt:essay", Amount: 1_000}, {Pattern: "prompt:wide *", Amount: 1_000}, {Pattern: "prompt:by_length", CEL: "size(args.text) * 2", Max: 20_000}, {Pattern: "prompt:gift"}, {Pattern: "prompt:gift_*"},
		{Pattern: "prompt:*", Amount: 2_000},
		{Pattern: "resource:docs://{name}", Amount: 3_000}, {Pattern: "resource:docs://free"}, {Pattern: "resource:by:*", CEL: "size(args) + size(tool)", Max: 20_000},
		{Pattern: "method:vendor/thing", Amount: 4_000}, {Pattern: "method:vendor/hello"}, {Pattern: "method:completion/complete", Amount: 500},
	}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	b.policy.Prices = book
	return b
}

func request(method, params string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
}

// TestAdmitItems checks prompts, resources and methods. If a rule names such an
// item, the item is paid like a tool, under a name that includes its kind. Without a
// rule, the item is free if the protocol has the method, and unknown otherwise.
func TestAdmitItems(t *testing.T) {
	b := newShop(t)
	secret := b.key(t, nil)
	long := strings.Repeat("x", items.MaxName)
	for _, c := range []struct {
		method, params string
		code           Code
		tool           string // the item of the charge; "" for a free call
		price          string
	}{
		{"prompts/get", `{"name":"essay","arguments":{"a":"b"}}`, "", "prompt:essay", "0.001"},
		{"prompts/get", `{"name":"essay","task":{}}`, "", "prompt:essay", "0.001"},
		{"prompts/get", `{"name":"by_length","arguments":{"text":"abc"}}`, "", "prompt:by_length", "0.000006"},
		{"prompts/get", `{"name":"by_length","arguments":{}}`, PriceRefused, "", ""},
		{"prompts/get", `{"name":"by_length","arguments":[]}`, PriceRefused, "", ""},
		{"prompts/get", `{"name":"gift"}`, "", "", ""},
		{"prompts/get", `{"name":"gift_` + strings.Repeat("t", items.MaxName) + `"}`, ParamsInvalid, "", ""},
		{"prompts/get", `{"name":"wide é"}`, "", "prompt:wide é", "0.001"},
		{"prompts/get", `{"name":"a/b"}`, "", "prompt:a/b", "0.002"},
		{"prompts/get", `{"name":"` + long + `"}`, "", "prompt:" + long, "0.002"},
		{"prompts/get", `{"name":"` + long + `x"}`, ParamsInvalid, "", ""},
		{"prompts/get", `{"name":"a\u001b[2J"}`, ParamsInvalid, "", ""},
		{"prompts/get", `{"name":"a\u202eb"}`, ParamsInvalid, "", ""},
		{"prompts/get", `{"name":"essay","_meta":{"dev.farebox/max-price":"0.0009"}}`, PriceAboveMax, "", ""},
		{"prompts/get", `{"name":"gift","_meta":{"dev.farebox/max-price":"dear"}}`, "", "", ""},
		{"resources/read", `{"uri":"docs://a/b"}`, "", "resource:docs://a/b", "0.003"},
		{"resources/read", `{"uri":"docs://free"}`, "", "", ""},
		{"resources/read", `{"uri":"other://a"}`, "", "", ""},
		{"resources/read", `{"uri":"DOCS://a"}`, ParamsInvalid, "", ""},
		{"resources/read", `{"uri":" docs://a"}`, ParamsInvalid, "", ""},
		{"resources/read", `{"uri":"other://../docs"}`, ParamsInvalid, "", ""},
		{"resources/read", `{"uri":"by:abc","arguments":{"a":1}}`, "", "resource:by:abc", "0.000006"},
		{"resources/read", `{"uri":"docs://` + long[:items.MaxName-7] + `"}`, "", "resource:docs://" + long[:items.MaxName-7], "0.003"},
		{"resources/read", `{"uri":"docs://` + long[:items.MaxName-6] + `"}`, ParamsInvalid, "", ""},
		{"resources/read", `{"uri":"other://` + long + `"}`, "", "", ""},
		{"vendor/thing", `{"a":1}`, "", "method:vendor/thing", "0.004"},
		{"vendor/hello", `{}`, "", "", ""},
		{"vendor/other", `{}`, MethodUnknown, "", ""},
		{"Vendor/thing", `{}`, MethodUnknown, "", ""},
		{"prompt:essay", `{}`, MethodUnknown, "", ""},
		{"completion/complete", `{"ref":{"type":"ref/prompt","name":"essay"}}`, "", "method:completion/complete", "0.0005"},
		{"prompts/list", `{}`, "", "", ""},
		{"resources/subscribe", `{"uri":"docs://a"}`, "", "", ""},
		{"tools/call", `{"name":"essay"}`, ToolUnknown, "", ""},
	} {
		name := c.method + " " + c.params[:min(len(c.params), 60)]
		call, refusal := b.call(t, secret, request(c.method, c.params))
		switch {
		case refusal != nil || c.code != "":
			if refusal == nil || refusal.Code != c.code {
				t.Errorf("%s: got %v, want %s", name, refusal, c.code)
			}
		case call.Tool() != c.tool || call.Paid() != (c.tool != "") || c.price != "" && call.Price().String() != c.price:
			t.Errorf("%s: got %q for %s; want %q for %s", name, call.Tool(), call.Price(), c.tool, c.price)
		}
		if call != nil {
			call.Close(context.Background())
		}
	}
	for _, notification := range []string{`"vendor/thing"`, `"vendor/hello"`, `"prompts/get","params":{"name":"essay"}`} {
		if _, refusal := b.call(t, secret, `{"jsonrpc":"2.0","method":`+notification+`}`); refusal == nil || refusal.Code != MethodUnknown {
			t.Errorf("the notification %s: %v", notification, refusal)
		}
	}
	if held := b.balance(t, false).Reserved; held != 0 {
		t.Errorf("%s is still reserved", held)
	}
}

// TestMethodRulesHoldInBothEras checks a method that a rule names. The method passes in
// both protocol eras (with and without sessions), even if neither has it.
func TestMethodRulesHoldInBothEras(t *testing.T) {
	b := newShop(t)
	m, err := mcp.Decode([]byte(request("vendor/hello", "{}")))
	if err != nil {
		t.Fatal(err)
	}
	caller, refusal := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + b.key(t, nil)})
	if refusal != nil {
		t.Fatal(refusal)
	}
	for _, era := range []mcp.Era{mcp.EraSession, mcp.EraStateless} {
		if _, refusal := b.Admit(context.Background(), &caller, era, &m); refusal != nil {
			t.Errorf("%s: %v", era, refusal)
		}
	}
}

// TestReceiptOfTheLongestName checks that the receipt for the longest name can be
// verified, even if JSON escapes each of its characters.
func TestReceiptOfTheLongestName(t *testing.T) {
	b := newShop(t)
	uri := "docs://" + strings.Repeat("&", items.MaxName-len("docs://"))
	call, refusal := b.call(t, b.key(t, nil), request("resources/read", `{"uri":"`+uri+`"}`))
	if refusal != nil {
		t.Fatal(refusal)
	}
	defer call.Close(context.Background())
	fields, refusal := call.Settle(context.Background(), mcp.OutcomeResult, []byte(`{}`))
	if refusal != nil || len(fields) != 2 {
		t.Fatal(fields, refusal)
	}
	var jws string
	if err := json.Unmarshal(fields[1].Value, &jws); err != nil {
		t.Fatal(err)
	}
	receipt, err := ledger.VerifyReceipt(jws, b.deps.Signer.Public())
	if err != nil || receipt.Tool != "resource:"+uri {
		t.Errorf("%d bytes: %v", len(jws), err)
	}
}

// TestIdempotencyKeysOfItems checks that an idempotency key belongs to one request.
// Using the key again with another URI, or with other params of a method, is an
// error.
func TestIdempotencyKeysOfItems(t *testing.T) {
	b := newShop(t)
	secret := b.key(t, nil)
	const meta = `"_meta":{"dev.farebox/idempotency-key":"`
	for i, c := range []struct{ method, first, other string }{
		{"resources/read", `"uri":"docs://a"`, `"uri":"docs://b"`},
		{"vendor/thing", `"x":1`, `"x":2`},
		{"prompts/get", `"name":"essay","arguments":{"a":"1"}`, `"name":"essay","arguments":{"a":"2"}`},
	} {
		key := meta + string(rune('a'+i)) + `"}`
		call, refusal := b.call(t, secret, request(c.method, `{`+c.first+`,`+key+`}`))
		if refusal != nil {
			t.Fatal(c.method, refusal)
		}
		if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, []byte(`{"jsonrpc":"2.0","id":1,"result":{"n":1}}`)); refusal != nil {
			t.Fatal(c.method, refusal)
		}
		again, refusal := b.call(t, secret, request(c.method, `{`+key+`,`+c.first+`}`))
		if refusal != nil {
			t.Fatal(c.method, refusal)
		}
		if response, replayed, err := again.Replay(mcp.IntID(7)); !replayed || err != nil || !strings.Contains(string(response), `"id":7,"result":{`) || !strings.Contains(string(response), "dev.farebox/replayed") {
			t.Errorf("%s: %s, %v, %v", c.method, response, replayed, err)
		}
		if _, refusal := b.call(t, secret, request(c.method, `{`+c.other+`,`+key+`}`)); refusal == nil || refusal.Code != IdempotencyKeyReused {
			t.Errorf("%s of something else: %v", c.method, refusal)
		}
	}
}

// TestListsOfItems checks that lists show the prices of items that rules name, and
// hide nothing.
func TestListsOfItems(t *testing.T) {
	b := newShop(t)
	for list, items := range map[mcp.List]map[string]string{
		mcp.ListPrompts: {"essay": `{"amount":"0.001","currency":"USD"}`, "gift": `{"amount":"0.00","currency":"USD"}`,
			"by_length": `{"max":"0.02","currency":"USD"}`, "a/b": `{"amount":"0.002","currency":"USD"}`},
		mcp.ListResources:         {"docs://x": `{"amount":"0.003","currency":"USD"}`, "docs://free": `{"amount":"0.00","currency":"USD"}`, "other://x": "", "DOCS://x": ""},
		mcp.ListResourceTemplates: {"docs://{name}": `{"amount":"0.003","currency":"USD"}`, "docs://{id}": "", "docs://free": `{"amount":"0.00","currency":"USD"}`},
	} {
		r := b.List(callerFor(&keys.Key{Kind: keys.Agent}), list)
		if r.PerCaller {
			t.Errorf("%s: the prices are the same for all, so the list is, too", list)
		}
		for name, want := range items {
			keep, fields := r.Judge(name)
			got := ""
			if len(fields) == 1 && fields[0].Name == "dev.farebox/price" {
				got = string(fields[0].Value)
			}
			if !keep || got != want {
				t.Errorf("%s %s: %v %s, want %s", list, name, keep, got, want)
			}
		}
	}
}
