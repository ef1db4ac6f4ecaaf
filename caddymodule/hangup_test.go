package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestHangUpsAreOneLine checks that a client that hangs up is logged as exactly one
// line at INFO. This holds for a paid call, for a free call in both protocol eras (with
// and without sessions), for a list and for a stream. The line is not an error, and has
// no field twice.
func TestHangUpsAreOneLine(t *testing.T) {
	s := newLoggedSite(t)
	stateless := http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"slow_free"}}
	const meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	const gone, stream = "a call was abandoned", "a stream ended"
	lines, first := map[string]int{}, map[string]any{}
	for i, c := range []struct {
		method, body string
		header       http.Header
		message      string
	}{
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow 日本"}}`, nil, gone},
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow_free"}}`, nil, gone},
		{"POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow_free"` + meta + `}}`, stateless, gone},
		{"POST", `{"jsonrpc":"2.0","id":"slow","method":"tools/list"}`, nil, gone},
		{"GET", "", nil, stream},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, c.method, s.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if r.Header = c.header.Clone(); r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set("Authorization", "Bearer "+s.secret)
		r.Header.Set("Accept", "application/json, text/event-stream")
		if c.method == "POST" {
			r.Header.Set("Content-Type", "application/json")
		}
		done, reached := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			resp, err := s.client.Do(r)
			if c.method == "POST" {
				return // the client has hung up, so there is no response
			}
			if err != nil {
				t.Error(err)
				return
			}
			<-reached
			cancel() // the client leaves after the header of the stream has arrived
			resp.Body.Close()
		}()
		select {
		case <-s.seen:
			close(reached)
		case <-done:
			t.Fatalf("request %d did not reach the server", i)
		}
		if c.method == "POST" {
			cancel()
		}
		<-done
		cancel()
		// Wait for the record before the next request is sent, so that the records are
		// in order.
		lines[c.message]++
		awaited := 0
		s.line(t, c.message, func(record map[string]any) bool {
			if record["ts"] == first[c.message] || first[c.message] == nil {
				first[c.message], awaited = record["ts"], 0 // the log is read from its beginning again, so start to count again
			}
			awaited++
			return awaited == lines[c.message]
		})
	}
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for records := bufio.NewScanner(bytes.NewReader(text)); records.Scan(); {
		var record map[string]any
		if json.Unmarshal(records.Bytes(), &record) != nil || record["logger"] != "http.handlers.farebox" {
			continue
		}
		message, _ := record["msg"].(string)
		told[message]++
		if record["level"] != "info" || record["stacktrace"] != nil || record["farebox_server"] != nil || record["server"] != "weather" {
			t.Errorf("%v", record)
		}
	}
	if told[gone] != 4 || told[stream] != 1 || len(told) != 2 {
		t.Errorf("the log has %v; want one line for each of the clients that left", told)
	}
}
