package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// tracedServer is an MCP server with sessions that records the trace that each request
// belongs to. The name of a tool decides how its call is answered; any other request gets
// an empty result.
//
//	streamed    answers on an event stream
//	errs        answers with a JSON-RPC error
//	unwell      answers with a result that is an error
//	fails       answers with the status 500
//	breaks      breaks its answer off
//	polled      closes the stream before the answer, which a later GET gets
//	late        answers when the test allows it
type tracedServer struct {
	url  string
	late chan struct{} // closed when the tool "late" may answer

	mu   sync.Mutex
	seen map[string]tracedRequest // the requests, by the id of the message or, for a GET, by the event id
}

type tracedRequest struct {
	traceparent, tracestate []string // the values of these headers
	body                    string
}

// resultText is a part of all results and errors of a tracedServer. No trace may
// contain it.
const resultText = "the result of the tool"

func startTracedServer(t *testing.T) *tracedServer {
	s := &tracedServer{late: make(chan struct{}), seen: make(map[string]tracedRequest)}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	s.url = web.URL
	return s
}

// request returns the request with that id.
func (s *tracedServer) request(id string) (tracedRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.seen[id]
	return r, ok
}

func (s *tracedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Method == http.MethodPost {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := string(m.ID)
	if r.Method == http.MethodGet {
		id = r.Header.Get("Last-Event-ID")
	}
	s.mu.Lock()
	s.seen[id] = tracedRequest{r.Header["Traceparent"], r.Header["Tracestate"], string(body)}
	s.mu.Unlock()
	s.answer(w, r, m.Params.Name, id)
}

func (s *tracedServer) answer(w http.ResponseWriter, r *http.Request, tool, id string) {
	result := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]}}`, id, resultText)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet: // the server uses the id of a message as the event id
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: later\ndata: %s\n\n", result)
	case tool == "streamed":
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\ndata: %s\n\n", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"`+resultText+`"}}`, result)
	case tool == "errs":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":%q}}`, id, resultText)
	case tool == "unwell":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[{"type":"text","text":%q}]}}`, id, resultText)
	case tool == "fails":
		http.Error(w, resultText, http.StatusInternalServerError)
	case tool == "breaks":
		_, _ = io.WriteString(w, result[:len(result)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case tool == "polled":
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %s\nretry: 10\ndata: \n\n", id)
	case tool == "late":
		<-s.late
		_, _ = io.WriteString(w, result)
	default:
		h.Set("Mcp-Session-Id", "session-of-the-server")
		_, _ = io.WriteString(w, result)
	}
}
