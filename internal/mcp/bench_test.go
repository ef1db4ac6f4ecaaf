package mcp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// benchCall is a tools/call of about 1 KB in the form that clients of MCP 2026-07-28
// send.
var benchCall = []byte(`{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}},"sampling":{}},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"bench-client","version":"1.8.0"},"progressToken":17},` +
	`"name":"search_documents","arguments":{"query":"quarterly revenue of the northern region","limit":25,"offset":0,` +
	`"filters":{"year":[2024,2025,2026],"status":"final","archived":false,"owner":null},"sort":[{"field":"date","order":"desc"},{"field":"title","order":"asc"}],` +
	`"context":"` + strings.Repeat("The report should name the sources that it was made from. ", 6) + `","ratio":0.25}}}`)

// benchInto is the struct into which a gateway would unmarshal the call.
type benchInto struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		Name      string          `json:"name"`
		URI       string          `json:"uri"`
		Arguments json.RawMessage `json:"arguments"`
		Meta      struct {
			ProtocolVersion string `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
}

// BenchmarkDecode measures the strict decoding of a 1 KB call. It should take at most
// a quarter of the time of BenchmarkDecodeEncodingJSON.
func BenchmarkDecode(b *testing.B) {
	b.SetBytes(int64(len(benchCall)))
	b.ReportAllocs()
	for b.Loop() {
		if m, err := Decode(benchCall); err != nil || m.Name != "search_documents" {
			b.Fatal(m, err)
		}
	}
}

// BenchmarkDecodeEncodingJSON measures encoding/json on the same call, for
// comparison with BenchmarkDecode.
func BenchmarkDecodeEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(benchCall)))
	b.ReportAllocs()
	for b.Loop() {
		var m benchInto
		if err := json.Unmarshal(benchCall, &m); err != nil || m.Params.Name != "search_documents" {
			b.Fatal(m, err)
		}
	}
}

// BenchmarkDecodeManyKeys measures the kind of body that takes longest for its length:
// one object with as many keys as fit into 4 MiB.
func BenchmarkDecodeManyKeys(b *testing.B) {
	for _, escaped := range []string{"", `\u0061`} {
		b.Run("escaped="+fmt.Sprint(escaped != ""), func(b *testing.B) {
			body := manyKeys(4<<20, escaped)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// manyKeys returns a call of about the given size in bytes. Its arguments have many
// short keys, and each key begins with the given prefix.
func manyKeys(size int, prefix string) []byte {
	var s strings.Builder
	s.WriteString(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"":0`)
	for i := 0; s.Len() < size-64; i++ {
		fmt.Fprintf(&s, `,"%s%x":0`, prefix, uint32(i)*2654435761)
	}
	s.WriteString(`}}}`)
	return []byte(s.String())
}

// BenchmarkScanner classifies a 64 KiB result in pieces of 4 KiB.
func BenchmarkScanner(b *testing.B) {
	message := []byte(`{"result":{"content":[{"type":"text","text":"` + strings.Repeat("An answer of some length. ", 2500) + `"}]},"jsonrpc":"2.0","id":7}`)
	s := NewScanner(IntID(7))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		s.Reset(IntID(7))
		for rest := message; len(rest) > 0; {
			n := min(len(rest), 4096)
			s.Write(rest[:n])
			rest = rest[n:]
		}
		if s.End().Outcome != OutcomeResult {
			b.Fatal(s.End())
		}
	}
}

// BenchmarkEventScanner classifies an event with a result of about 64 KiB, in one
// piece.
func BenchmarkEventScanner(b *testing.B) {
	event := []byte("event: message\nid: 1\ndata: " + `{"result":{"content":[{"type":"text","text":"` + strings.Repeat("An answer of some length. ", 2500) + `"}]},"jsonrpc":"2.0","id":7}` + "\n\n")
	e := NewEventScanner(IntID(7))
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if n, done := e.Scan(event); !done || n != len(event) || e.Verdict().Class != ClassAnswer {
			b.Fatal(n, done, e.Verdict())
		}
	}
}
