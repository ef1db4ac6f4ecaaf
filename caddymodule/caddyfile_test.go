package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/fareboxhq/farebox/caddymodule/pricebook"
)

var update = flag.Bool("update", false, "write what adapting gives into the golden files")

const divider = "----------\n"

// TestAdapt checks the golden files. Each golden file is a Caddyfile, a line of dashes,
// and the JSON or the error that adapting the Caddyfile must give. Errors name the line
// and the allowed values.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, want, _ := strings.Cut(string(text), divider)
			got := adapt(config)
			if *update {
				if err := os.WriteFile(file, []byte(config+divider+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func adapt(config string) string {
	out, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, w := range warnings {
		b.WriteString(w.String() + "\n")
	}
	b.WriteString(indented(out))
	return b.String()
}

func indented(config []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, config, "", "\t"); err != nil {
		return err.Error()
	}
	return b.String() + "\n"
}

// TestCompileRefuses checks that a handler with an invalid config is refused with
// the reason, since a config in JSON has not passed the parsers of the Caddyfile.
func TestCompileRefuses(t *testing.T) {
	good := Handler{Server: "weather", Provider: "acme", Environments: []string{"live"}, Terms: pricebook.Terms{Unpriced: pricebook.Deny}, MaxBody: 1, MaxCall: 1}
	if err := good.compile(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Handler){
		"a server needs a name":                         func(h *Handler) { h.Server = "we ather" },
		"provider: account name":                        func(h *Handler) { h.Provider = "@funding" },
		"unknown environment":                           func(h *Handler) { h.Environments = []string{"prod"} },
		"is named twice":                                func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "1"}, {Tool: "a", Amount: "2"}} },
		`price of "a": "1e3"`:                           func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "1e3"}} },
		"below zero":                                    func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "-1"}} },
		`price of "a": "" is not an amount`:             func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a"}} },
		`price of "a": want an amount or an expression`: func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "1", CEL: "1", Max: "1"}} },
		`price of "a": max belongs to`:                  func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "1", Max: "1"}} },
		`price of "a": an expression needs a max: `:     func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", CEL: "1"}} },
		`price of "a": an expression needs a max above`: func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", CEL: "1", Max: "0"}} },
		`price of "a": max: "x" is not`:                 func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", CEL: "1", Max: "x"}} },
		`price of "a": its expression gives double: write micro-units as int`: func(h *Handler) {
			h.Prices = []pricebook.Price{{Tool: "a", CEL: "args.x * 0.5", Max: "1"}}
		},
		`price of "a": charge_on: unknown "never"`:   func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "a", Amount: "1", ChargeOn: []string{"never"}}} },
		`charge_on: abandoned alone`:                 func(h *Handler) { h.ChargeOn = []string{"abandoned"} },
		`price of "method:a": the prices of methods`: func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "method:a", Amount: "1"}} },
		`write prompt:NAME`:                          func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "prompts:a", Amount: "1"}} },
		`can never match: "*", which stands before`:  func(h *Handler) { h.Prices = []pricebook.Price{{Tool: "*", Amount: "1"}, {Tool: "a*", Amount: "2"}} },
		`deny is for notifications`:                  func(h *Handler) { h.Methods = []pricebook.Method{{Method: "vendor/thing", Amount: "deny"}} },
		`want deny or free`:                          func(h *Handler) { h.Methods = []pricebook.Method{{Method: "notifications/x", Amount: "0.01"}} },
		`which always pass`: func(h *Handler) {
			h.Methods = []pricebook.Method{{Method: "notifications/initialized", Amount: "deny"}}
		},
		`"notifications/x": it is named twice`: func(h *Handler) {
			h.Methods = []pricebook.Method{{Method: "notifications/x", Amount: "deny"}, {Method: "notifications/x", Amount: "free"}}
		},
		`"notifications/x/*": it can never match`: func(h *Handler) {
			h.Methods = []pricebook.Method{{Method: "notifications/x*", Amount: "deny"}, {Method: "notifications/x/*", Amount: "free"}}
		},
		`credentials: Cookie has another meaning`:    func(h *Handler) { h.Credentials = &Credentials{"Cookie"} },
		`credentials: mcp-name has another meaning`:  func(h *Handler) { h.Credentials = &Credentials{"mcp-name"} },
		`credentials: a header's name is`:            func(h *Handler) { h.Credentials = &Credentials{"X_API_Key"} },
		`method "tools/call": what it costs depends`: func(h *Handler) { h.Methods = []pricebook.Method{{Method: "tools/call", Amount: "1"}} },
		`method "a": want free or an amount`:         func(h *Handler) { h.Methods = []pricebook.Method{{Method: "a", Amount: ""}} },
		`price of "method:a": it is below zero`:      func(h *Handler) { h.Methods = []pricebook.Method{{Method: "a", Amount: "-1"}} },
		`method "a" is named twice`: func(h *Handler) {
			h.Methods = []pricebook.Method{{Method: "a", Amount: "1"}, {Method: "a", Amount: "free"}}
		},
		"unpriced: want deny":        func(h *Handler) { h.Unpriced = "maybe" },
		`origin "app.example.com"`:   func(h *Handler) { h.Origins = []string{"app.example.com"} },
		"max_body and max_call":      func(h *Handler) { h.MaxBody = -1 },
		"keepalive cannot be below":  func(h *Handler) { h.Keepalive = new(caddy.Duration(-1)) },
		`origin "https://a.example/`: func(h *Handler) { h.Origins = []string{"https://a.example/"} },
	} {
		h := good
		h.environments = nil
		change(&h)
		if err := h.compile(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestServersAgree checks that two handlers of one server must charge the same.
// Otherwise receipts, which name only the server, would not show which prices applied.
func TestServersAgree(t *testing.T) {
	app := new(App)
	one := &Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}}}
	for _, c := range []struct {
		other *Handler
		ok    bool
	}{
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}}}, true},
		{&Handler{Server: "mail", Provider: "other"}, true},
		{&Handler{Server: "weather", Provider: "other", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}}}, false},
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "2"}}}}, false},
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}, Unpriced: "free"}}, false},
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}, ChargeOn: []string{"started"}}}, false},
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1", ChargeOn: []string{"started"}}}}}, false},
		{&Handler{Server: "weather", Provider: "acme", Terms: pricebook.Terms{Prices: []pricebook.Price{{Tool: "a", Amount: "1"}}, Methods: []pricebook.Method{{Method: "m", Amount: "1"}}}}, false},
	} {
		app.handlers = []*Handler{one}
		if err := app.register(c.other); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.other, err)
		}
	}
}
