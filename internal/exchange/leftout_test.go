package exchange

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// TestLeftOutIsLogged checks a list with items that cannot be read. Such an item is
// left out of the list, and a log line names it. The rest of the list is unaffected.
// A server cannot fill the log with such items.
func TestLeftOutIsLogged(t *testing.T) {
	catalogue, err := keys.NewCatalogue(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := gate.NewRights(catalogue, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "*"}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	site := newSite()
	site.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	site.Gate = gate.New(gate.Policy{Server: "weather", Secrets: &keys.DefaultFormat, Prices: book, Rights: rights}, gate.Deps{Now: clock.Now, Logger: site.Logger})
	x := New(site, new(fakeHost), nil, httptest.NewRecorder(), httptest.NewRequest("POST", "/mcp", nil))
	x.caller = gate.CallerOf(&keys.Key{Account: "acct_1", Kind: keys.Agent, Environment: keys.Live})
	x.message = mcp.Message{ID: mcp.IntID(7), Method: "tools/list"}

	broken := `{"name":"` + strings.Repeat("é", 200) + `","name":"x"},`
	list := `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a","Name":"b"},{"name":"good"},` + strings.Repeat(broken, 40) + `{"name":"last"}]}}`
	got, err := x.rewriter(mcp.ListTools)([]byte(list), false)
	if err != nil || strings.Count(string(got), `"name":"good"`) != 1 || strings.Count(string(got), `"name"`) != 2 {
		t.Errorf("%s, %v", got, err)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for _, want := range []string{`"server":"weather"`, `"list":"tools"`, `"index":0`, `"name":"a"`, `"reason":"a key differs from`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
	if len(lines) != maxLeftOut || !strings.Contains(lines[1], strings.Repeat("é", 128)+`…"`) {
		t.Errorf("%d lines, the second is %s", len(lines), lines[1])
	}

	log.Reset()
	leftOut := x.leftOut()
	for range 100 {
		leftOut("it is no message")
	}
	if text := log.String(); strings.Count(text, "\n") != maxLeftOut || !strings.Contains(text, `"reason":"it is no message"`) {
		t.Errorf("the log has %s", text)
	}
}
