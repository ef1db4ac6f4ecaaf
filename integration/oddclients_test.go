package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// outcome is the outcome of a call as its client returned it.
type outcome struct {
	// kind is the short form shown in the table: "result", "tool error", "list",
	// "error -32602", "HTTP 502", "fails", "hangs".
	kind string
	// detail is everything the client returned, except for values that differ from
	// call to call and the additions of Farebox in _meta.
	detail string
	// code is the code of a Farebox refusal.
	code string
	// lost is true if the client's session was unusable after the call.
	lost bool
}

// question is one request for a client to make.
type question struct {
	ask   asking
	token string // identifies the oddity, its form and the call
	tool  string
}

// place is an endpoint with the key and protocol version to use.
type place struct {
	url, secret string
	stateless   bool
	hand        int // the caller's number; each caller asks one question at a time
}

// version returns the place's protocol version.
func (p place) version() string {
	if p.stateless {
		return "2026-07-28"
	}
	return "2025-11-25"
}

// oddClient is an MCP client.
type oddClient interface {
	// ask sends the question once in an open session. It waits for the answer, but no
	// longer than the given time.
	ask(ctx context.Context, patience time.Duration, p place, q question) (outcome, error)
}

// short returns a short text unchanged. It reduces a long text to its beginning, length
// and hash. Long texts can still be compared by these three values.
func short(text string) string {
	const enough = 2000
	if len(text) <= enough {
		return text
	}
	return fmt.Sprintf("%s… %d bytes, %x", text[:60], len(text), sha256.Sum256([]byte(text)))
}

// address matches the address of a test's server or gateway.
var address = regexp.MustCompile(`(?:localhost|127\.0\.0\.1):\d+`)

// requestID matches a message's id in the text of a client.
var requestID = regexp.MustCompile(`(\\?"id\\?":\\?"?)\d+`)

// settle replaces the values in o.detail that differ from call to call, such as ids
// and addresses. The outcomes of different calls can then be compared.
func (o *outcome) settle(q question) outcome {
	o.detail = requestID.ReplaceAllString(short(o.detail), "${1}ID")
	o.detail = address.ReplaceAllString(o.detail, "HOST")
	if q.tool != "" {
		quoted := strings.Trim(fmt.Sprintf("%q", q.tool), `"`)
		o.detail = strings.NewReplacer(q.token, "TOKEN", q.tool, "TOOL", quoted, "TOOL", strings.ReplaceAll(quoted, `\`, `\\`), "TOOL").Replace(o.detail)
	}
	return *o
}

// ofError returns the outcome for a JSON-RPC error with this data.
func ofError(code int64, message string, data json.RawMessage) outcome {
	var own struct {
		Meta struct {
			Error struct {
				Code string `json:"code"`
			} `json:"dev.farebox/error"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(data, &own) // other servers may put anything in data
	return outcome{kind: fmt.Sprint("error ", code), detail: message + " " + plainJSON(data), code: own.Meta.Error.Code}
}

// ofResult returns the outcome for a result.
func ofResult(raw json.RawMessage) outcome {
	var r struct {
		IsError any             `json:"isError"`
		Tools   json.RawMessage `json:"tools"`
		Meta    struct {
			Error struct {
				Code string `json:"code"`
			} `json:"dev.farebox/error"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(raw, &r) // a result that does not parse is still a result
	o := outcome{kind: "result", detail: plainJSON(raw), code: r.Meta.Error.Code}
	switch {
	case r.Tools != nil:
		o.kind, o.detail = "list", plainJSON(raw)
	case r.IsError == true:
		o.kind = "tool error"
	}
	return o
}

// plainJSON returns JSON text in a canonical form, without the additions of
// Farebox. It returns other text unchanged.
func plainJSON(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil || d.More() {
		return string(raw)
	}
	out, err := json.Marshal(withoutOwn(value))
	if err != nil {
		return string(raw)
	}
	return string(out)
}

// withoutOwn removes the values that Farebox adds or sets: Farebox's own members of
// _meta, and the cacheScope of a list.
func withoutOwn(value any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = withoutOwn(v[i])
		}
	case map[string]any:
		if _, ok := v["tools"]; ok {
			delete(v, "cacheScope")
		}
		for name, member := range v {
			v[name] = withoutOwn(member)
			if meta, ok := v[name].(map[string]any); ok && name == "_meta" && len(meta) == 0 {
				delete(v, name)
			}
			if strings.HasPrefix(name, "dev.farebox/") {
				delete(v, name)
			}
		}
	}
	return value
}

// sessions holds the clients' open sessions by place. A session is reused as long as
// its calls succeed.
type sessions[S any] struct {
	mu   sync.Mutex
	open map[place]S
}

// take removes a place's session and gives the caller exclusive use of it.
func (s *sessions[S]) take(p place) (session S, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok = s.open[p]
	delete(s.open, p)
	return session, ok
}

func (s *sessions[S]) keep(p place, session S) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[place]S{}
	}
	s.open[p] = session
}

// goOddClient uses the official Go SDK.
type goOddClient struct{ sessions sessions[*mcp.ClientSession] }

func (c *goOddClient) ask(ctx context.Context, patience time.Duration, p place, q question) (outcome, error) {
	if q.ask == notifies {
		return outcome{}, errors.ErrUnsupported
	}
	session, ok := c.sessions.take(p)
	if !ok {
		var err error
		if session, err = goConnect(ctx, p); err != nil {
			return outcome{}, fmt.Errorf("connect: %w", err)
		}
	}
	o := goAsk(ctx, patience, session, q)
	if o.kind == "result" || o.kind == "list" {
		c.sessions.keep(p, session)
		return o.settle(q), nil
	}
	if o.kind != "hangs" {
		_, err := session.ListTools(ctx, nil)
		o.lost = err != nil
	}
	_ = session.Close() // the session may already be lost
	return o.settle(q), nil
}

func goConnect(ctx context.Context, p place) (*mcp.ClientSession, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	return client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   p.url,
		HTTPClient: &http.Client{Transport: harness.Bearer{Secret: p.secret, Base: unshared()}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: p.version()})
}

// unshared returns a transport without keep-alive, because a kept connection
// could be one that the server is about to close.
func unshared() http.RoundTripper { return &http.Transport{DisableKeepAlives: true} }

func goAsk(ctx context.Context, patience time.Duration, session *mcp.ClientSession, q question) outcome {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var result any
	var err error
	if q.ask == lists {
		result, err = session.ListTools(ctx, &mcp.ListToolsParams{Cursor: q.token})
	} else {
		result, err = session.CallTool(ctx, &mcp.CallToolParams{Name: q.tool, Arguments: map[string]any{"odd": q.token}})
	}
	var rpc *jsonrpc.Error
	switch {
	case err == nil:
		raw, err := json.Marshal(result)
		if err != nil {
			return outcome{kind: "fails", detail: err.Error()}
		}
		return ofResult(raw)
	case ctx.Err() != nil:
		return outcome{kind: "hangs"}
	case errors.As(err, &rpc) && rpc.Code != 0:
		return ofError(rpc.Code, rpc.Message, rpc.Data)
	}
	return outcome{kind: "fails", detail: err.Error()}
}

// rawOddClient speaks plain HTTP, reports everything it receives, and parses
// JSON with encoding/json.
type rawOddClient struct {
	sessions sessions[string]
	ids      atomic.Int64
}

var rawHTTP = &http.Client{
	Transport:     unshared(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c *rawOddClient) ask(ctx context.Context, patience time.Duration, p place, q question) (outcome, error) {
	session, ok := c.sessions.take(p)
	if !ok && !p.stateless && q.ask != preflights {
		resp, err := c.post(ctx, p, "", "initialize", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`)
		if err != nil {
			return outcome{}, err
		}
		defer resp.Body.Close()
		if session = resp.Header.Get("Mcp-Session-Id"); session == "" {
			return outcome{}, fmt.Errorf("initialize: %s", resp.Status)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := 700_000 + c.ids.Add(1) // unique in the session, and unlike any other number in a message
	resp, err := c.send(ctx, p, session, id, q)
	var o outcome
	if err == nil {
		defer resp.Body.Close()
		o, err = c.read(resp, id, q)
	}
	o.detail = strings.ReplaceAll(o.detail, strconv.FormatInt(id, 10), "ID")
	switch {
	case ctx.Err() != nil:
		o = outcome{kind: "hangs"}
	case err != nil:
		o = outcome{kind: "fails", detail: "the connection"}
	case session != "" && (o.kind == "result" || o.kind == "list"):
		c.sessions.keep(p, session)
	}
	return o.settle(q), nil
}

func (c *rawOddClient) send(ctx context.Context, p place, session string, id int64, q question) (*http.Response, error) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	extra := ""
	if p.stateless {
		extra = "," + meta
	}
	token, tool := jsonText(q.token), jsonText(q.tool)
	switch q.ask {
	case preflights:
		r, err := http.NewRequestWithContext(ctx, http.MethodOptions, p.url, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Origin", oddOrigin)
		r.Header.Set("Access-Control-Request-Method", http.MethodPost)
		r.Header.Set("Access-Control-Request-Headers", "authorization,content-type,mcp-param-region")
		return rawHTTP.Do(r)
	case lists:
		return c.post(ctx, p, session, "tools/list", "", fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list","params":{"cursor":%s%s}}`, id, token, extra))
	case notifies:
		return c.post(ctx, p, session, "notifications/vendor/heat", "", `{"jsonrpc":"2.0","method":"notifications/vendor/heat","params":{"odd":`+token+extra+`}}`)
	}
	return c.post(ctx, p, session, "tools/call", q.tool, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%s,"arguments":{"odd":%s}%s}}`, id, tool, token, extra))
}

// oddOrigin is the origin of a web page that is allowed to call the gateway.
const oddOrigin = "https://app.example.com"

func (*rawOddClient) post(ctx context.Context, p place, session, method, name, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+p.secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("MCP-Protocol-Version", p.version())
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	if p.stateless {
		r.Header.Set("Mcp-Method", method)
		if name != "" {
			r.Header.Set("Mcp-Name", headerText(name))
		}
	}
	return rawHTTP.Do(r)
}

// read reads a response until it ends.
func (c *rawOddClient) read(resp *http.Response, id int64, q question) (outcome, error) {
	if q.ask == preflights {
		allowed := strings.Contains(strings.ToLower(resp.Header.Get("Access-Control-Allow-Headers")), "mcp-param-region")
		return outcome{kind: fmt.Sprintf("HTTP %d", resp.StatusCode), detail: fmt.Sprint("allowed: ", allowed)}, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil && len(body) == 0 {
		return outcome{}, err
	}
	where := ""
	for _, name := range []string{"Location", "Content-Location", "Link"} {
		if value := resp.Header.Get(name); value != "" {
			where += fmt.Sprintf("\n%s: %s", name, value)
		}
	}
	o := c.judge(resp, id, body)
	o.detail += where
	if err != nil {
		o.detail += "\ncut"
	}
	return o, nil
}

func (c *rawOddClient) judge(resp *http.Response, id int64, body []byte) outcome {
	kind := resp.Header.Get("Content-Type")
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return outcome{kind: "unreadable", detail: encoding} // a client without a decoder cannot read the answer
	}
	if strings.HasPrefix(strings.ToLower(kind), "text/event-stream") {
		return c.judgeEvents(id, body)
	}
	o := outcome{kind: fmt.Sprint("HTTP ", resp.StatusCode)}
	message, ok := readMessage(id, body)
	if ok {
		o.code, o.detail = message.code, message.detail
		if resp.StatusCode == http.StatusOK {
			o.kind = message.kind
		}
	} else {
		o.detail = string(body)
		if resp.StatusCode == http.StatusOK {
			o.kind = "unreadable"
		}
	}
	return o
}

// judgeEvents puts each event into the detail of the outcome, and takes the outcome's
// kind from the first response.
func (*rawOddClient) judgeEvents(id int64, body []byte) outcome {
	o := outcome{kind: "no answer"}
	for _, e := range readEvents(string(body)) {
		m, ok := readMessage(id, []byte(e.data))
		if !ok {
			m.detail = e.data
		}
		o.detail += fmt.Sprintf("%s: %s\n", e.kind, m.detail)
		if ok && m.kind != "unreadable" && o.kind == "no answer" && e.kind == "message" {
			o.kind, o.code = m.kind, m.code
		}
	}
	return o
}

// readMessage parses a JSON-RPC response to the request with this id. It reports
// false if the text is not JSON.
func readMessage(id int64, text []byte) (outcome, bool) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if !json.Valid(text) {
		return outcome{}, false
	}
	var m struct {
		ID     any             `json:"id"`
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int64           `json:"code"`
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	err := json.Unmarshal(text, &m)
	o := outcome{kind: "unreadable"}
	switch {
	case err != nil || m.ID != float64(id):
	case m.Error != nil:
		o = ofError(m.Error.Code, m.Error.Message, m.Error.Data)
	case m.Result != nil:
		o = ofResult(m.Result)
	}
	o.detail = plainJSON(text)
	return o, true
}

// streamEvent is an event of a stream.
type streamEvent struct{ kind, data string }

var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// readEvents parses a stream by the rules of the HTML standard.
func readEvents(stream string) (events []streamEvent) {
	var e streamEvent
	lines := strings.Split(lineEnds.Replace(strings.TrimPrefix(stream, "\uFEFF")), "\n")
	any := false
	for _, line := range lines[:len(lines)-1] { // without the rest after the last line ending
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && any:
			if e.kind == "" {
				e.kind = "message"
			}
			e.data = strings.TrimSuffix(e.data, "\n")
			events, e, any = append(events, e), streamEvent{}, false
		case field == "event":
			e.kind = value
		case field == "data":
			e.data += value + "\n"
			any = true
		}
		if line == "" {
			e.kind = ""
		}
	}
	return events
}

func jsonText(text string) string {
	out, _ := json.Marshal(text) // no error, because a string can always be marshalled
	return string(out)
}
