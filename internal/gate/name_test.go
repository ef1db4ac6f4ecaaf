package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// oddNames has unusual names that MCP's schema allows. It maps each of them to the name
// under which a charge has it.
var oddNames = map[string]string{
	"ns:tool": "ns:tool", "日本": "日本", "two words": "two words", "naïve": "naïve", "👩\u200d💻": "👩\u200d💻", `quo"ted`: `quo"ted`, "=1+1": "=1+1",
	"prompt:essay": "tool:prompt:essay", "docs://a": "tool:docs://a", strings.Repeat("語", 256): strings.Repeat("語", 256),
}

func jsonText(t *testing.T, text string) string {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(quoted)
}

// newMarket returns a bench with the given rules and a price for each name in oddNames.
func newMarket(t *testing.T, fallback pricing.Default, more ...pricing.Rule) *bench {
	t.Helper()
	b := newBench(t)
	rules := more
	for name := range oddNames {
		rules = append(rules, pricing.Rule{Pattern: items.Item{Name: name}.String(), Amount: 1_000})
	}
	var err error
	if b.policy.Prices, err = pricing.Compile(rules, fallback); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOddNamesArePaid checks that a tool can be listed, priced and charged under any
// name that MCP allows. The receipt and the charge of such a tool cannot be taken for
// those of another item.
func TestOddNamesArePaid(t *testing.T) {
	b := newMarket(t, pricing.Default{})
	secret := b.key(t, nil)
	list := b.List(callerFor(&keys.Key{Kind: keys.Agent}), mcp.ListTools)
	for name, charged := range oddNames {
		if keep, fields := list.Judge(name); !keep || len(fields) != 1 {
			t.Errorf("%q is not listed with its price", name)
		}
		call, refusal := b.call(t, secret, request("tools/call", `{"name":`+jsonText(t, name)+`}`))
		if refusal != nil {
			t.Errorf("%q: %v", name, refusal)
			continue
		}
		if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, []byte(`{}`)); refusal != nil || call.Tool() != charged {
			t.Errorf("%q: charged as %q, %v", name, call.Tool(), refusal)
		}
		stored, err := b.store.ChargeByID(context.Background(), call.ID())
		if err != nil || stored.Tool != charged {
			t.Errorf("%q: the books have %q, %v", name, stored.Tool, err)
		}
		call.Close(context.Background())
	}
}

// TestConfusableNamesAreRefused checks that spelling a priced or scoped name
// differently gets around neither the price nor the scope. Names that a server
// might mistake for a priced one are refused even if the price book allows unknown
// names. Names that the ledger cannot store are refused, too.
func TestConfusableNamesAreRefused(t *testing.T) {
	b := newMarket(t, pricing.Default{Allow: true}, pricing.Rule{Pattern: "delete", Amount: 1_000}, pricing.Rule{Pattern: "search_*", Amount: 1_000},
		pricing.Rule{Pattern: "Both", Amount: 1_000}, pricing.Rule{Pattern: "both", Amount: 2_000}, pricing.Rule{Pattern: "prompt:essay", Amount: 1_000})
	var err error
	if b.policy.Rights, err = NewRights(catalogue, []ScopeRule{{"secret_*", []string{"write"}}, {"prompt:poem", []string{"read"}}}, []string{"agent:connect"}); err != nil {
		t.Fatal(err)
	}
	secret := b.key(t, nil)
	for name, want := range map[string]Code{
		"Delete": ToolUnknown, "delete ": ToolUnknown, "ｄelete": ToolUnknown, "de\u200dlete": ToolUnknown, "SEARCH_x": ToolUnknown, "BOTH": ToolUnknown, "Naïve": ToolUnknown, "nai\u0308ve": ToolUnknown, "NS:tool": ToolUnknown,
		"Secret_x": ToolUnknown, "secret_x": ScopeInsufficient,
		"": ParamsInvalid, "a\x00": ParamsInvalid, "a\u202eb": ParamsInvalid, strings.Repeat("x", 257): ParamsInvalid,
		"delete": "", "Both": "", "both": "", "search_X": "", "undelete": "", "Other": "", "deletе": "", // the last name ends in a Cyrillic letter
	} {
		call, refusal := b.call(t, secret, request("tools/call", `{"name":`+jsonText(t, name)+`}`))
		if got := codeOf(refusal); got != want {
			t.Errorf("%q: %v, want %q", name, refusal, want)
		}
		if call != nil {
			call.Close(context.Background())
		}
	}
	for params, want := range map[string]Code{
		`{"name":"Essay"}`: ParamsInvalid, `{"name":"essay"}`: "", `{"name":"Poem"}`: ParamsInvalid, `{"name":"poem"}`: ScopeInsufficient, `{"name":"other"}`: "",
	} {
		call, refusal := b.call(t, secret, request("prompts/get", params))
		if got := codeOf(refusal); got != want {
			t.Errorf("prompt %s: %v, want %q", params, refusal, want)
		}
		if call != nil {
			call.Close(context.Background())
		}
	}
	if _, refusal := b.call(t, secret, request("completion/complete", `{"ref":{"type":"ref/prompt","name":"POEM"}}`)); codeOf(refusal) != ParamsInvalid {
		t.Errorf("a completion of a prompt in another spelling: %v", refusal)
	}
}

func codeOf(r *Refusal) Code {
	if r == nil {
		return ""
	}
	return r.Code
}

// TestLeftOutNamesAreLogged checks tools that are left out of the server's list
// because of their names. Each of these tools is logged once, with the reason. The
// rest of the list is unaffected.
func TestLeftOutNamesAreLogged(t *testing.T) {
	b := newMarket(t, pricing.Default{Allow: true}, pricing.Rule{Pattern: "delete", Amount: 1_000})
	var log bytes.Buffer
	b.deps.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	key := &keys.Key{Kind: keys.Agent}
	for range 2 {
		list := b.List(callerFor(key), mcp.ListTools)
		for name, want := range map[string]bool{"Delete": false, "a\x1b[2J": false, "delete": true, "日本": true, strings.Repeat("x", 3000): false} {
			if keep, _ := list.Judge(name); keep != want {
				t.Errorf("%q: %v", name, keep)
			}
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("want a line for each of three names:\n%s", log.String())
	}
	for _, want := range []string{`"name":"\"Delete\""`, `priced by \"delete\"`, `"name":"\"a\\x1b[2J\""`, "control characters", "at most 256 characters", `"server":"weather"`, `"kind":"tool"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in\n%s", want, log.String())
		}
	}
	list := b.List(callerFor(key), mcp.ListTools)
	for i := range 2 * maxLeftOut {
		list.Judge("delete" + strings.Repeat(" ", i+1))
	}
	if n := strings.Count(log.String(), "\n"); n != maxLeftOut {
		t.Errorf("a server can fill the log: %d lines", n)
	}
}
