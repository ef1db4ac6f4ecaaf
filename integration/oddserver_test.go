package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// oddServer is an MCP server with a behaviour that each request selects. A call
// selects it by the argument "odd". A request for a list selects it by the cursor,
// and a notification selects it by the parameter "odd". The server answers all other
// requests correctly, under /mcp/session for the versions up to 2025-11-25 and under
// /mcp/stateless for 2026-07-28.
type oddServer struct {
	raw       *harness.RawServer
	oddities  []oddity
	elsewhere string // URL of another server, the target of redirects

	mu       sync.Mutex
	ran      map[string]int // number of requests, by token
	sessions int
}

// odd is one request that asks an oddServer for an oddity.
type odd struct {
	*harness.RawExchange
	server *oddServer
	id     string // the request's id, exactly as it was written
	events bool   // true if the answer must be an event stream, false for JSON
}

func startOddServer(t *testing.T, oddities []oddity) *oddServer {
	s := &oddServer{oddities: oddities, ran: map[string]int{}}
	elsewhere := harness.ServeRaw(t, func(e *harness.RawExchange) { s.serve(e) })
	s.elsewhere = elsewhere.URL
	s.raw = harness.ServeRaw(t, s.serve)
	return s
}

// oddToken encodes the number n of an oddity, its form, and the number of the call.
func oddToken(n int, events bool, run int64) string { return fmt.Sprintf("%d.%t.%d", n, events, run) }

// runs returns the number of requests with this token.
func (s *oddServer) runs(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran[token]
}

// oddRequest holds the members the server reads from a request.
type oddRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Odd       string         `json:"odd"`
		Cursor    string         `json:"cursor"`
		Arguments map[string]any `json:"arguments"`
	} `json:"params"`
}

func (r *oddRequest) token() string {
	if token, ok := r.Params.Arguments["odd"].(string); ok {
		return token
	}
	return r.Params.Odd + r.Params.Cursor
}

func (s *oddServer) serve(e *harness.RawExchange) {
	body, err := io.ReadAll(e.Request.Body)
	if err != nil {
		return // the client has disconnected
	}
	if !strings.HasPrefix(e.Request.URL.Path, "/mcp/") { // clients look for an authorization server at other paths
		send(e, oddHead("404 Not Found", "Content-Length: 0\r\n"))
		return
	}
	switch e.Request.Method {
	case http.MethodGet:
		send(e, oddHead("405 Method Not Allowed", "Allow: POST\r\nContent-Length: 0\r\n"))
		return
	case http.MethodDelete:
		send(e, oddHead("200 OK", "Content-Length: 0\r\n"))
		return
	case http.MethodOptions:
		send(e, oddHead("204 No Content", "Access-Control-Allow-Methods: POST\r\nAccess-Control-Allow-Headers: "+e.Request.Header.Get("Access-Control-Request-Headers")+"\r\n"))
		return
	}
	var r oddRequest
	if err := json.Unmarshal(body, &r); err != nil {
		sendJSON(e, "400 Bad Request", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`)
		return
	}
	if token := r.token(); token != "" {
		s.playOdd(e, &r, token)
		return
	}
	s.behave(e, &r)
}

// playOdd answers with the oddity that the token names.
func (s *oddServer) playOdd(e *harness.RawExchange, r *oddRequest, token string) {
	s.mu.Lock()
	s.ran[token]++
	s.mu.Unlock()
	parts := strings.Split(token, ".")
	n, err := strconv.Atoi(parts[0])
	if err != nil || len(parts) != 3 || n >= len(s.oddities) {
		sendJSON(e, "400 Bad Request", `{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no such oddity"}}`)
		return
	}
	o := &odd{RawExchange: e, server: s, id: string(r.ID), events: parts[1] == "true"}
	if strings.HasSuffix(e.Request.URL.Path, "/") { // the client has followed a redirect
		o.answer(oddGood)
		return
	}
	s.oddities[n].play(o)
}

// behave answers a request as the protocol prescribes.
func (s *oddServer) behave(e *harness.RawExchange, r *oddRequest) {
	stateless := strings.Contains(e.Request.URL.Path, "/stateless")
	const about = `"capabilities":{"tools":{}},"serverInfo":{"name":"odd","version":"1.0.0"}`
	result := ""
	switch {
	case len(r.ID) == 0:
		send(e, oddHead("202 Accepted", "Content-Length: 0\r\n"))
		return
	case r.Method == "initialize" && !stateless:
		result = `{"protocolVersion":"2025-11-25",` + about + `}`
	case r.Method == "server/discover" && stateless:
		result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private",` + about + `}`
	case r.Method == "tools/list":
		result = oddList(`{"name":"free","inputSchema":{"type":"object"}}`)
	case r.Method == "ping":
		result = `{}`
	default:
		sendJSON(e, "404 Not Found", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, r.ID))
		return
	}
	text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, r.ID, result)
	session := ""
	if r.Method == "initialize" {
		s.mu.Lock()
		s.sessions++
		session = fmt.Sprintf("Mcp-Session-Id: odd-%d\r\n", s.sessions)
		s.mu.Unlock()
	}
	send(e, oddHead("200 OK", session, jsonType, fmt.Sprintf("Content-Length: %d\r\n", len(text)))+text)
}

func send(e *harness.RawExchange, text string) { _, _ = io.WriteString(e, text) }

func sendJSON(e *harness.RawExchange, status, text string) {
	send(e, oddHead(status, jsonType, fmt.Sprintf("Content-Length: %d\r\n", len(text)))+text)
}

// oddHead returns a correct response head with these additional fields. The
// body ends with the connection.
func oddHead(status string, fields ...string) string {
	return "HTTP/1.1 " + status + "\r\nConnection: close\r\n" + strings.Join(fields, "") + "\r\n"
}

const eventsType = "Content-Type: text/event-stream\r\n"

// Placeholders in the texts of oddities for values that differ between
// requests.
const (
	hereID   = "$ID"   // the request's id
	hereGood = "$GOOD" // an event with a good answer
	hereType = "$TYPE" // the member resultType, if the version has it
	hereLong = "$LONG" // more text than the gateway buffers for one answer
)

const (
	oddGood   = `{"jsonrpc":"2.0","id":$ID,"result":{$TYPE"content":[{"type":"text","text":"the answer"}]}}`
	oddListed = `{"jsonrpc":"2.0","id":$ID,"result":$LIST}`
)

// oddList returns a list result with these tools.
func oddList(tools string) string {
	return `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[` + tools + `]}`
}

// filled returns the text with its placeholders replaced.
func (o *odd) filled(text string) string {
	text = strings.ReplaceAll(text, hereGood, event(oddGood))
	kind := ""
	if strings.Contains(o.Request.URL.Path, "/stateless") {
		kind = `"resultType":"complete",`
	}
	text = strings.NewReplacer(hereType, kind, hereID, o.id, "$HOST", o.Request.Host, "$PATH", o.Request.URL.Path,
		"$ELSEWHERE", o.server.elsewhere).Replace(text)
	return strings.Replace(text, hereLong, longText, 1)
}

var longText = strings.Repeat("x", 1100<<10)

// answer sends a message in the form that the client asked for: as JSON or as an event.
func (o *odd) answer(message string) {
	message = o.filled(message)
	if o.events {
		send(o.RawExchange, oddHead("200 OK", eventsType)+event(message))
		return
	}
	send(o.RawExchange, oddHead("200 OK", jsonType, fmt.Sprintf("Content-Length: %d\r\n", len(message)))+message)
}
