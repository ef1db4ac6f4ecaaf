package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Recorder is a proxy between the gateway and an MCP server. It passes all traffic
// on unchanged, records the gateway's requests, and can hold answers back.
type Recorder struct {
	// URL is the recorder's base URL.
	URL string

	mu       sync.Mutex
	requests []Recorded
	hold     chan struct{} // if not nil, answers wait until this channel is closed
}

// Recorded is a request that the gateway sent.
type Recorded struct {
	HTTPMethod string
	Header     http.Header
	Body       []byte
	Method     string // the method of the JSON-RPC message in the body, or ""
	Tool       string // the tool that a tools/call names, or ""
}

// Record starts a recorder in front of the server at the given base URL.
func Record(t testing.TB, upstream string) *Recorder {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recorder{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = target.Host
		},
		FlushInterval:  -1,
		ModifyResponse: r.keepBack,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the gateway has closed the connection
		}
		r.note(req, body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // runs before server.Close, which waits for open connections
	r.URL = server.URL
	return r
}

func (r *Recorder) note(req *http.Request, body []byte) {
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	_ = json.Unmarshal(body, &message) // a body that is not a message has no method
	rec := Recorded{HTTPMethod: req.Method, Header: req.Header.Clone(), Body: body, Method: message.Method}
	if message.Method == "tools/call" {
		rec.Tool = message.Params.Name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, rec)
}

// Requests returns the requests recorded so far.
func (r *Recorder) Requests() []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Recorded(nil), r.requests...)
}

// Calls returns how many calls of the tool were sent to the server.
func (r *Recorder) Calls(tool string) int {
	n := 0
	for _, req := range r.Requests() {
		if req.Tool == tool {
			n++
		}
	}
	return n
}

// HoldAnswers holds answers back until the returned function is called. The hold
// applies to event streams that begin after the call of HoldAnswers. Notifications
// still pass.
func (r *Recorder) HoldAnswers() (release func()) {
	hold := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = hold
	return sync.OnceFunc(func() { close(hold) })
}

func (r *Recorder) keepBack(resp *http.Response) error {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold == nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return nil
	}
	body := resp.Body
	pr, pw := io.Pipe()
	go func() {
		defer body.Close()
		pw.CloseWithError(relayEvents(pw, bufio.NewReader(body), hold, resp.Request.Context().Done()))
	}()
	resp.Body = pr
	return nil
}

// relayEvents copies an event stream, one event at a time. An event with an answer
// waits until the channel hold is closed.
func relayEvents(w io.Writer, r *bufio.Reader, hold, gone <-chan struct{}) error {
	var event []byte
	for {
		line, err := r.ReadBytes('\n')
		event = append(event, line...)
		if err == nil && len(bytes.TrimRight(line, "\r\n")) > 0 {
			continue // only an empty line ends the event
		}
		if bytes.Contains(event, []byte(`"result":`)) || bytes.Contains(event, []byte(`"error":`)) {
			select {
			case <-hold:
			case <-gone:
				return io.ErrUnexpectedEOF
			}
		}
		if _, err := w.Write(event); err != nil {
			return err
		}
		if err != nil {
			return err // io.EOF is the regular end
		}
		event = event[:0]
	}
}
