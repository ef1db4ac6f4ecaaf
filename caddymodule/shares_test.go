package caddymodule

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
)

// A body that one key could never hold is an error of the config, with what to
// do about it.
func TestMaxBodyIsHeld(t *testing.T) {
	for _, c := range []struct {
		body   int64
		limits *Limits
		ok     bool
	}{
		{defaultMaxBody, nil, true},
		{25 << 20, nil, true},
		{26 << 20, nil, false},
		{26 << 20, &Limits{Memory: 1 << 30}, true},
		{defaultMaxBody, &Limits{Memory: 16 << 20}, false},
	} {
		app := &App{Limits: c.limits}
		err := app.register(&Handler{Server: "weather", Provider: "acme", MaxBody: c.body})
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "raise limits memory or lower max_body") {
			t.Errorf("%d of %+v: %v", c.body, c.limits, err)
		}
	}
	if err := (&Limits{Calls: -1}).check(); err == nil {
		t.Error("a limit below zero passes")
	}
}

// What a call of a usual size costs for its shares and the reading of its body.
func BenchmarkReadMessage(b *testing.B) {
	b.ReportAllocs()
	h := &Handler{MaxBody: defaultMaxBody}
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"text":"` + strings.Repeat("x", 900) + `"}}}`
	r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	w := httptest.NewRecorder()
	key := &keys.Key{Account: "acct_0198f2c4", Lineage: "key_0198f2c5"}
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		x := newExchange(h, w, r, nil)
		x.key = key
		if x.enter() != nil || x.readMessage() != nil {
			b.Fatal("it is refused")
		}
		x.memory.Close()
		x.flight.Close()
	}
}
