package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// taskServer is an MCP server with tools that run as tasks and ask for input, in the
// forms of protocol versions with and without sessions. The server does not separate
// callers, and announces every task to every client, because separation is the
// gateway's job.
type taskServer struct {
	url string

	mu        sync.Mutex
	tasks     map[string]*serverTask
	order     []string
	seen      map[string]int // number of requests, by method
	listeners map[chan string]bool
}

type serverTask struct {
	tool, status string
}

func startTaskServer(t *testing.T) *taskServer {
	t.Helper()
	s := &taskServer{tasks: map[string]*serverTask{}, seen: map[string]int{}, listeners: map[chan string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // runs before Close, which waits for open connections
	s.url = server.URL
	return s
}

// requests returns the number of requests of this method that the server has
// seen.
func (s *taskServer) requests(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[method]
}

// end ends a task as completed, failed (with an error of the tool) or cancelled.
func (s *taskServer) end(id, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	task := s.tasks[id]
	task.status = status
	for listener := range s.listeners {
		listener <- id
	}
}

// taskRequest has the fields of a request that a taskServer reads.
type taskRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name         string           `json:"name"`
		URI          string           `json:"uri"`
		Task         *json.RawMessage `json:"task"`
		TaskID       string           `json:"taskId"`
		RequestState *string          `json:"requestState"`
		Meta         map[string]any   `json:"_meta"`
	} `json:"params"`
}

func (r *taskRequest) stateless() bool {
	return r.Params.Meta["io.modelcontextprotocol/protocolVersion"] != nil
}

func (s *taskServer) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.listen(w, r, &taskRequest{})
		return
	}
	var request taskRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.seen[request.Method]++
	s.mu.Unlock()
	if request.Method == "subscriptions/listen" {
		s.listen(w, r, &request)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, request.ID, s.answer(&request))
}

func (s *taskServer) answer(r *taskRequest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case "tools/call", "prompts/get", "resources/read":
		return s.call(r)
	case "tasks/list":
		var list []string
		for _, id := range s.order {
			list = append(list, s.task(id, r.stateless(), false))
		}
		return `"result":{"nextCursor":"c-2","kept":true,"tasks":[` + strings.Join(list, ",") + `]}`
	}
	task := s.tasks[r.Params.TaskID]
	switch {
	case task == nil:
		return `"error":{"code":-32602,"message":"the server knows no such task"}`
	case r.Method == "tasks/get":
		return `"result":` + s.task(r.Params.TaskID, r.stateless(), true)
	case r.Method == "tasks/cancel":
		task.status = "cancelled"
		if r.stateless() {
			return `"result":{"resultType":"complete"}`
		}
		return `"result":` + s.task(r.Params.TaskID, false, true)
	case r.Method == "tasks/update":
		return `"result":{"resultType":"complete"}`
	case r.Method == "tasks/result" && task.status == "working":
		return `"error":{"code":-32002,"message":"not yet"}`
	case r.Method == "tasks/result":
		return `"result":` + task.result()
	}
	return `"error":{"code":-32601,"message":"method not found"}`
}

// call asks for input, accepts a task, or returns an empty result, depending on
// the name and on the request.
func (s *taskServer) call(r *taskRequest) string {
	name := r.Params.Name + r.Params.URI
	switch {
	case strings.HasPrefix(name, "ask") && r.Params.RequestState == nil:
		return `"result":{"resultType":"input_required","requestState":"state of \"` + name + `\"","inputRequests":{}}`
	case strings.HasPrefix(name, "ask"):
		return fmt.Sprintf(`"result":{"resultType":"complete","content":[{"type":"text","text":%q}]}`, "answered "+*r.Params.RequestState)
	case !r.stateless() && r.Params.Task == nil:
		return `"result":{"content":[]}`
	}
	id := fmt.Sprintf("task-%d", len(s.tasks)+1)
	s.tasks[id] = &serverTask{tool: name, status: "working"}
	s.order = append(s.order, id)
	if r.stateless() {
		return `"result":` + strings.Replace(s.task(id, true, false), `"complete"`, `"task"`, 1)
	}
	return `"result":{"task":` + s.task(id, false, false) + `}`
}

func (t *serverTask) result() string {
	return fmt.Sprintf(`{"content":[{"type":"text","text":"the result of %s"}],"isError":%v}`, t.tool, t.status == "failed")
}

// task returns the description of a task. If detailed is true and the task has a
// result, the description contains the result.
func (s *taskServer) task(id string, stateless, detailed bool) string {
	task := s.tasks[id]
	const at = `"createdAt":"2026-11-22T00:00:00Z","lastUpdatedAt":"2026-11-22T00:00:00Z"`
	if !stateless {
		return fmt.Sprintf(`{"taskId":%q,"status":%q,"ttl":60000,%s}`, id, task.status, at)
	}
	result := ""
	if detailed && (task.status == "completed" || task.status == "failed") {
		result = `,"result":` + task.result()
	}
	status := strings.Replace(task.status, "failed", "completed", 1) // a task that ends with an error of its tool is completed
	return fmt.Sprintf(`{"resultType":"complete","taskId":%q,"status":%q,"ttlMs":60000,%s%s}`, id, status, at, result)
}

// listen announces every task that ends, until the client leaves.
func (s *taskServer) listen(w http.ResponseWriter, r *http.Request, request *taskRequest) {
	ended := make(chan string, 16)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodPost {
		fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{}}\n\n")
	} else {
		fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n")
	}
	s.mu.Lock()
	s.listeners[ended] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, ended)
	}()
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case id := <-ended:
			s.mu.Lock()
			method := "notifications/tasks/status"
			if request.stateless() {
				method = "notifications/tasks"
			}
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":%q,\"params\":%s}\n\n", method, s.task(id, request.stateless(), true))
			s.mu.Unlock()
			_ = http.NewResponseController(w).Flush()
		}
	}
}
