package intercept

import (
	"context"
	"io"
	"testing"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// BenchmarkResponse measures one paid response in each form, both short enough to be
// held whole and too long to hold.
func BenchmarkResponse(b *testing.B) {
	message, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}`))
	if err != nil {
		b.Fatal(err)
	}
	longResult := `{"jsonrpc":"2.0","id":7,"result":{"content":["` + long(4000) + `"]}}`
	for name, c := range map[string]struct{ kind, body string }{
		"json":        {typeJSON, result},
		"long-json":   {typeJSON, longResult},
		"events":      {typeEvents, event(progress) + event(progress) + event(result)},
		"long-events": {typeEvents, event(longResult)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := newWire()
				r := New(w, Options{
					ID: message.ID, Call: &books{wire: w}, Refuser: plain{}, Budget: NewBudget(1 << 20), Client: context.Background(), Hold: 1000,
				})
				r.Header().Set("Content-Type", c.kind)
				r.WriteHeader(200)
				_, _ = io.WriteString(r, c.body[:len(c.body)/2])
				_, _ = io.WriteString(r, c.body[len(c.body)/2:])
				r.Finish(nil)
			}
		})
	}
}
