package exchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// BenchmarkReadMessage measures the cost of two steps of a usual call. The first step
// counts the call in the caller's shares. The second step reads and decodes the call's
// body.
func BenchmarkReadMessage(b *testing.B) {
	b.ReportAllocs()
	site := newSite()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_forecast","arguments":{"text":"` + strings.Repeat("x", 900) + `"}}}`
	r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	w := httptest.NewRecorder()
	caller := gate.Caller{Subject: "key_0198f2c5", Account: "acct_0198f2c4", Lineage: "key_0198f2c5"}
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		x := New(site, new(fakeHost), nil, w, r)
		x.caller = caller
		if x.enter() != nil {
			b.Fatal("it is refused")
		}
		if limited, refusal := x.readMessage(nil); limited != nil || refusal != nil {
			b.Fatal("it is refused")
		}
		x.memory.Close()
		x.flight.Close()
	}
}
