package mcp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// benchList returns a response to tools/list with the given number of tools, each about
// 400 bytes long.
func benchList(tools int) []byte {
	var s strings.Builder
	s.WriteString(`{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":[`)
	for i := range tools {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `{"name":"search_documents_%d","title":"Search documents","description":"Finds documents that match a query, newest first. Returns at most the given number of them.",`+
			`"inputSchema":{"type":"object","properties":{"query":{"type":"string","description":"What to look for"},"limit":{"type":"integer","minimum":1,"maximum":100}},"required":["query"],"additionalProperties":false},`+
			`"annotations":{"readOnlyHint":true,"openWorldHint":false}}`, i)
	}
	s.WriteString(`]}}`)
	return []byte(s.String())
}

// BenchmarkRewriteList rewrites a list of 100 tools, about 40 KB long, in four ways.
// The first changes nothing. The second adds a price to every item. The third removes
// every tenth item and adds a price to the others. The fourth removes all items.
func BenchmarkRewriteList(b *testing.B) {
	message := benchList(100)
	judges := map[string]func(string) (bool, []Field){
		"unchanged": func(string) (bool, []Field) { return true, nil },
		"priced":    func(string) (bool, []Field) { return true, price },
		"filtered":  func(name string) (bool, []Field) { return !strings.HasSuffix(name, "7"), price },
		"emptied":   func(string) (bool, []Field) { return false, nil },
	}
	for _, name := range []string{"unchanged", "priced", "filtered", "emptied"} {
		o := listRewrite()
		o.Judge = judges[name]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := RewriteList(message, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRewriteListEvent rewrites the list of BenchmarkRewriteList in an event with
// one data line.
func BenchmarkRewriteListEvent(b *testing.B) {
	event := []byte("event: message\ndata: " + string(benchList(100)) + "\n\n")
	o := listRewrite()
	o.Judge = func(name string) (bool, []Field) { return !strings.HasSuffix(name, "7"), price }
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := RewriteListEvent(event, o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRewriteListTiny measures the kind of list that takes longest for its
// length: very many short items, with every other item removed.
func BenchmarkRewriteListTiny(b *testing.B) {
	message := []byte(listAnswer(`"tools":[` + strings.Repeat(`{"name":"a"},{"name":"b"},`, 1<<15) + `{"name":"a"}]`))
	o := listRewrite()
	o.Judge = func(name string) (bool, []Field) { return name == "a", nil }
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := RewriteList(message, o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRewriteListEncodingJSON measures the same work as the filtered case of
// BenchmarkRewriteList, done with encoding/json.
func BenchmarkRewriteListEncodingJSON(b *testing.B) {
	message := benchList(100)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		var m struct {
			JSONRPC string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Result  map[string]any  `json:"result"`
		}
		if err := json.Unmarshal(message, &m); err != nil {
			b.Fatal(err)
		}
		tools := m.Result["tools"].([]any)
		kept := tools[:0]
		for _, tool := range tools {
			if item := tool.(map[string]any); !strings.HasSuffix(item["name"].(string), "7") {
				item["_meta"] = map[string]any{"dev.farebox/price": "0.05"}
				kept = append(kept, item)
			}
		}
		m.Result["tools"], m.Result["cacheScope"] = kept, "private"
		if _, err := json.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}
