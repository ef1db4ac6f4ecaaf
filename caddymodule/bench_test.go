package caddymodule

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// inProcess is a running farebox. Tests call its handler without a network, and the
// method inProcess.answer takes the place of the upstream.
type inProcess struct {
	handler *Handler
	server  *caddyhttp.Server
	secret  string
	ids     atomic.Int64
}

// newInProcess starts a farebox. Its price book has prices for the given tools or
// patterns, and after them a price for the tool "t".
func newInProcess(t testing.TB, others ...string) *inProcess {
	t.Helper()
	prices := make([]any, 0, len(others)+1)
	for _, tool := range append(others, "t") {
		prices = append(prices, map[string]any{"tool": tool, "amount": "0.0001"})
	}
	farebox := map[string]any{"handler": "farebox", "server": "weather", "provider": "acme", "unpriced": "free", "prices": prices}
	behind := map[string]any{"handler": "static_response"}
	if err := caddy.Load(configOf(t, freeAddress(t), filepath.Join(t.TempDir(), "f.db"), farebox, behind), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	app, err := caddy.ActiveContext().App("farebox")
	if err != nil {
		t.Fatal(err)
	}
	return &inProcess{handler: app.(*App).handlers[0], server: new(caddyhttp.Server), secret: fund(t)}
}

// answer is the upstream: it answers each request with 200 bytes of JSON.
func (p *inProcess) answer(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	id := body[bytes.Index(body, []byte(`"id":`))+5:]
	id = id[:bytes.IndexByte(id, ',')]
	text := append(append([]byte(`{"jsonrpc":"2.0","id":`), id...), `,"result":{"content":[{"type":"text","text":"`...)
	text = append(append(text, strings.Repeat("x", 200-len(text)-5)...), `"}]}}`...)
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = []string{"application/json"}, []string{strconv.Itoa(len(text))}
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(text)
	return err
}

// call makes a call of the tool with the argument, and returns the response.
func (p *inProcess) call(tool, argument string) (*httptest.ResponseRecorder, error) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"city":"%s"}}}`, p.ids.Add(1), tool, argument)
	r := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+p.secret)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, p.server)
	return w, p.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(p.answer))
}

func (p *inProcess) mustCall(t testing.TB, tool, argument string) {
	w, err := p.call(tool, argument)
	if err != nil || w.Code != http.StatusOK || strings.Contains(w.Body.String(), "dev.farebox/receipt") != (tool == "t") {
		t.Fatalf("%d %s, %v", w.Code, w.Body, err)
	}
}

// BenchmarkCall measures the whole handler without a network: a free and a paid call,
// from many goroutines. The measured time includes making the request and the response
// recorder.
func BenchmarkCall(b *testing.B) {
	p := newInProcess(b)
	for _, c := range []struct{ name, tool string }{{"free", "other"}, {"paid", "t"}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.mustCall(b, c.tool, "Oslo")
				}
			})
		})
	}
}

// BenchmarkCallByPrices measures how the number of prices in the price book affects the
// time of a free call. The called tool has no price in the book. The prices have either
// exact names or patterns.
func BenchmarkCallByPrices(b *testing.B) {
	for _, form := range []struct{ name, text string }{{"names", "tool_%d"}, {"patterns", "tool_%d_*"}} {
		for _, n := range []int{1, 100, 10_000} {
			others := make([]string, n)
			for i := range others {
				others[i] = fmt.Sprintf(form.text, i)
			}
			b.Run(fmt.Sprintf("%s=%d", form.name, n), func(b *testing.B) {
				p := newInProcess(b, others...)
				b.ReportAllocs()
				for b.Loop() {
					p.mustCall(b, "other", "Oslo")
				}
			})
		}
	}
}

// BenchmarkCallByBody measures how the time of a free call depends on the length of its
// request.
func BenchmarkCallByBody(b *testing.B) {
	p := newInProcess(b)
	for _, n := range []int{1 << 10, 16 << 10, 256 << 10, 4<<20 - 1<<10} {
		argument := strings.Repeat("x", n)
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				p.mustCall(b, "other", argument)
			}
		})
	}
}

// TestAllocationsOfACall checks that the number of allocations of a call stays within
// bounds. The bounds include the allocations that the test itself makes, for the
// request and the response recorder.
func TestAllocationsOfACall(t *testing.T) {
	p := newInProcess(t)
	for _, c := range []struct {
		tool string
		most float64
	}{{"other", 138}, {"t", 186}} {
		p.mustCall(t, c.tool, "Oslo")
		if n := testing.AllocsPerRun(200, func() { p.mustCall(t, c.tool, "Oslo") }); n > c.most {
			t.Errorf("a call of %q makes %v allocations, want at most %v", c.tool, n, c.most)
		} else {
			t.Logf("%q: %v allocations", c.tool, n)
		}
	}
}
