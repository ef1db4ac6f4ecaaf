package mcp

import (
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
)

const modern = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`

// b64 returns the encoded form of a header value.
func b64(s string) string { return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?=" }

// header returns a header with the given pairs of name and value. A name may be
// repeated.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// TestCheckHeaders checks the era of each message: a version in the body takes
// precedence over the version header. It also checks that a stateless message is
// refused if its headers do not agree with its body. In a session, the MCP headers
// other than the version must be ignored.
func TestCheckHeaders(t *testing.T) {
	const v, met, nam = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"
	modernCall := call(`"name":"cheap",` + modern)
	modernList := `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{` + modern + `}}`
	modernRead := `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"file:///é",` + modern + `}}`
	modernPrompt := `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"=?base64?eA==?=",` + modern + `}}`
	modernTask := `{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"taskId":"t1",` + modern + `}}`
	oldCall := call(`"name":"cheap"`)
	notification := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	response := `{"jsonrpc":"2.0","id":7,"result":{}}`
	initialize := `{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}`
	tests := []struct {
		name, body string
		h          http.Header
		era        Era // expected era; 0 if an error is expected
		code       int
	}{
		{"all right", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "cheap"), EraStateless, 0},
		{"encoded name", modernCall, header(v, "2026-07-28", met, "tools/call", nam, b64("cheap")), EraStateless, 0},
		{"encoded method", modernCall, header(v, "2026-07-28", met, b64("tools/call"), nam, "cheap"), EraStateless, 0},
		{"no name needed", modernList, header(v, "2026-07-28", met, "tools/list"), EraStateless, 0},
		{"uri", modernRead, header(v, "2026-07-28", met, "resources/read", nam, b64("file:///é")), EraStateless, 0},
		{"name that looks encoded", modernPrompt, header(v, "2026-07-28", met, "prompts/get", nam, b64("=?base64?eA==?=")), EraStateless, 0},
		{"task", modernTask, header(v, "2026-07-28", met, "tasks/get", nam, "t1"), EraStateless, 0},
		{"notification without method header", notification, header(v, "2026-07-28"), EraStateless, 0},
		{"uri beyond ASCII as it is", modernRead, header(v, "2026-07-28", met, "resources/read", nam, "file:///é"), EraStateless, 0},
		{"unknown headers", modernList, header(v, "2026-07-28", met, "tools/list", "Mcp-Param-X", "\x01"), EraStateless, 0},
		{"notification", notification, header(v, "2026-07-28", met, "notifications/cancelled"), EraStateless, 0},
		{"a later version", call(`"name":"cheap","_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}`),
			header(v, "2027-01-01", met, "tools/call", nam, "cheap"), EraStateless, 0},

		{"no version header", modernCall, header(met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"older version header", modernCall, header(v, "2025-11-25", met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"later version header", modernCall, header(v, "2026-07-29", met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"version twice", modernCall, header(v, "2026-07-28", v, "2026-07-28", met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"version encoded", modernCall, header(v, b64("2026-07-28"), met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"no method header", modernCall, header(v, "2026-07-28", nam, "cheap"), 0, HeaderMismatch},
		{"lying method", modernCall, header(v, "2026-07-28", met, "tools/list", nam, "cheap"), 0, HeaderMismatch},
		{"method in capitals", modernCall, header(v, "2026-07-28", met, "Tools/Call", nam, "cheap"), 0, HeaderMismatch},
		{"method twice", modernCall, header(v, "2026-07-28", met, "tools/call", met, "tools/call", nam, "cheap"), 0, HeaderMismatch},
		{"no name header", modernCall, header(v, "2026-07-28", met, "tools/call"), 0, HeaderMismatch},
		{"lying name", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "expensive"), 0, HeaderMismatch},
		{"name twice", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "cheap", nam, "expensive"), 0, HeaderMismatch},
		{"lying encoded name", modernCall, header(v, "2026-07-28", met, "tools/call", nam, b64("expensive")), 0, HeaderMismatch},
		{"encoded name with other markers", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "=?BASE64?Y2hlYXA=?="), 0, HeaderMismatch},
		{"encoded name without padding", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "=?base64?Y2hlYXA?="), 0, HeaderMismatch},
		{"encoded name with loose bits", modernCall, header(v, "2026-07-28", met, "tools/call", nam, "=?base64?Y2hlYXB=?="), 0, HeaderMismatch},
		{"bytes that are no UTF-8", modernRead, header(v, "2026-07-28", met, "resources/read", nam, "file:///\xe9"), 0, HeaderMismatch},
		{"another composition", modernRead, header(v, "2026-07-28", met, "resources/read", nam, "file:///e\u0301"), 0, HeaderMismatch},
		{"plain value that looks encoded", modernPrompt, header(v, "2026-07-28", met, "prompts/get", nam, "=?base64?eA==?="), 0, HeaderMismatch},
		{"lying task", modernTask, header(v, "2026-07-28", met, "tasks/get", nam, "t2"), 0, HeaderMismatch},
		{"notification with a lying method", notification, header(v, "2026-07-28", met, "tools/call"), 0, HeaderMismatch},
		{"notification with an empty method", notification, header(v, "2026-07-28", met, ""), 0, HeaderMismatch},
		{"version missing in the body", oldCall, header(v, "2026-07-28", met, "tools/call", nam, "cheap"), 0, InvalidParams},
		{"response", response, header(v, "2026-07-28"), 0, InvalidRequest},
		{"session version in _meta, no header", call(`"name":"cheap","_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}`), header(), 0, HeaderMismatch},

		{"session", oldCall, header(v, "2025-11-25"), EraSession, 0},
		{"session without version", oldCall, header(), EraSession, 0},
		{"session with modern headers", oldCall, header(v, "2025-11-25", met, "tools/call", nam, "cheap"), EraSession, 0},
		{"session with lying headers", oldCall, header(v, "2025-06-18", met, "tools/list", met, "x", nam, "\x00"), EraSession, 0},
		{"session, version is no date", oldCall, header(v, "latest"), EraSession, 0},
		{"session, version is nearly a date", oldCall, header(v, "2026.07.28"), EraSession, 0},
		{"session response", response, header(v, "2025-11-25"), EraSession, 0},
		{"initialize selects the session", initialize, header(v, "2026-07-28"), EraSession, 0},
		{"session version twice", oldCall, header(v, "2025-11-25", v, "2026-07-28"), 0, HeaderMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Decode([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			era, err := CheckHeaders(tt.h, &m)
			if tt.code == 0 {
				if err != nil || era != tt.era {
					t.Errorf("%v, %v; want %v", era, err, tt.era)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code || e.ID != m.ID || e.Reason == "" || e.Error() != e.Reason {
				t.Errorf("%v, %v; want code %d with the id, and no position", era, err, tt.code)
			}
		})
	}
}

// TestKnownMethod checks that each era knows exactly its own methods for each kind of
// message.
func TestKnownMethod(t *testing.T) {
	const session, stateless = 1, 2
	requests := map[string]int{
		"initialize": session, "ping": session, "logging/setLevel": session,
		"resources/subscribe": session, "resources/unsubscribe": session,
		"server/discover": stateless, "subscriptions/listen": stateless,
		"tools/list": 3, "tools/call": 3, "prompts/list": 3, "prompts/get": 3, "resources/list": 3,
		"resources/templates/list": 3, "resources/read": 3, "completion/complete": 3,
		"tasks/get": 3, "tasks/list": session, "tasks/result": session, "tasks/cancel": 3, "tasks/update": stateless,
		"Tools/call": 0, "tools/call ": 0, "": 0, "roots/list": 0, "sampling/createMessage": 0, "elicitation/create": 0,
	}
	notifications := map[string]int{
		"notifications/initialized": session, "notifications/progress": session,
		"notifications/roots/list_changed": session, "notifications/cancelled": 3,
		"notifications/tools/list_changed": 0, "notifications/message": 0, "notifications/tasks/status": 0,
	}
	check := func(kind Kind, method string, want int) {
		t.Helper()
		m := &Message{Kind: kind, Method: method}
		if got := KnownMethod(EraSession, m); got != (want&session != 0) {
			t.Errorf("%v %q in a session: %v", kind, method, got)
		}
		if got := KnownMethod(EraStateless, m); got != (want&stateless != 0) {
			t.Errorf("%v %q stateless: %v", kind, method, got)
		}
		if KnownMethod(0, m) {
			t.Errorf("%v %q is known in no era", kind, method)
		}
	}
	for method, want := range requests {
		check(KindRequest, method, want)
		check(KindNotification, method, 0)
	}
	for method, want := range notifications {
		check(KindNotification, method, want)
		check(KindRequest, method, 0)
	}
	check(KindResponse, "", session)
}

// TestValidMethodName checks, for every byte, whether a method name may contain it.
func TestValidMethodName(t *testing.T) {
	for c := range 256 {
		name := "a" + string([]byte{byte(c)})
		want := c == '_' || c == '.' || c == '/' || c == '-' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if validMethodName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	if validMethodName("") {
		t.Error("an empty name is valid")
	}
}
