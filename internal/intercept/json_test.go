package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestJSONWaitsForCapture checks that no byte of a paid JSON response is sent before
// its capture, wherever the body is split.
func TestJSONWaitsForCapture(t *testing.T) {
	for at := range len(result) {
		r := newRig(t, nil)
		complete := r.upstream(200, map[string]string{"Content-Type": "application/json", "Content-Length": "48", "Etag": "x", "X-Kept": "y"}, result[:at], result[at:])
		if !complete || r.out() != stamped || !r.books.captured {
			t.Fatalf("split at %d: complete %v, captured %v, sent %q", at, complete, r.books.captured, r.out())
		}
		if r.books.before != "" || r.wire.Code != 200 {
			t.Fatalf("split at %d: %q was out before the capture", at, r.books.before)
		}
		h := r.wire.Result().Header
		if h.Get("Content-Length") != fmt.Sprint(len(stamped)) || h.Get("Etag") != "" || h.Get("X-Kept") != "y" {
			t.Fatalf("header %v", h)
		}
	}
}

// TestJSONWithoutResultIsFree checks that a response that is not a result passes
// unchanged and is not charged.
func TestJSONWithoutResultIsFree(t *testing.T) {
	for _, c := range []struct {
		status  int
		body    string
		outcome mcp.Outcome
	}{
		{200, toolError, mcp.OutcomeToolError},
		{200, rpcError, mcp.OutcomeError},
		{200, asking, mcp.OutcomeInputRequired},
	} {
		r := newRig(t, nil)
		if complete := r.upstream(c.status, asJSON, c.body); !complete || r.out() != c.body {
			t.Errorf("%v: complete %v, sent %q", c.outcome, complete, r.out())
		}
		if len(r.books.outcomes) != 1 || r.books.outcomes[0] != c.outcome {
			t.Errorf("settled as %v, want %v", r.books.outcomes, c.outcome)
		}
		r.free()
	}
}

// TestForgedReceiptsAreDropped checks that the upstream cannot set the _meta fields
// that are reserved for the gateway, whether the response is charged or not.
func TestForgedReceiptsAreDropped(t *testing.T) {
	forge := func(s string) string {
		return strings.Replace(s, `"result":{`, `"result":{"_meta":{"a":1,"dev.farebox/receipt":"F","dev.farebox/error":{}},`, 1)
	}
	for body, charged := range map[string]bool{result: true, toolError: false, asking: false} {
		for kind, head := range map[string]map[string]string{"JSON": asJSON, "event": asEvents} {
			want, sent := strings.Replace(body, `"result":{`, `"result":{"_meta":{"a":1},`, 1), forge(body)
			if charged {
				want = strings.Replace(want, `"a":1`, `"a":1,"dev.farebox/receipt":"R"`, 1)
			}
			if kind == "event" {
				want, sent = event(want), event(sent)
			}
			r := newRig(t, nil)
			if !r.upstream(200, head, sent) || r.out() != want || r.books.captured != charged {
				t.Errorf("%s: captured %v, sent %q, want %q", kind, r.books.captured, r.out(), want)
			}
		}
	}
}

// TestErrorStatusPasses checks that the upstream's own errors pass unchanged and are
// not charged.
func TestErrorStatusPasses(t *testing.T) {
	for _, c := range []struct {
		status int
		header map[string]string
		body   string
	}{
		{400, asJSON, rpcError},
		{404, asJSON, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`},
		{404, map[string]string{"Content-Type": "text/plain"}, "session not found"},
		{500, nil, ""},
		{503, asJSON, `{"detail":"busy"}`},
	} {
		r := newRig(t, nil)
		complete := r.upstream(c.status, c.header, c.body)
		if !complete || r.wire.Code != c.status || r.out() != c.body {
			t.Errorf("%d %q: complete %v, got %d %q", c.status, c.body, complete, r.wire.Code, r.out())
		}
		r.free()
	}
}

// TestWithheld checks that a body that cannot be recognised as the response is
// withheld as a whole and is not charged.
func TestWithheld(t *testing.T) {
	batch := "[" + result + "]"
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
	}{
		"foreign id":           {200, asJSON, foreign},
		"id as text":           {200, asJSON, strings.Replace(result, "7", `"7"`, 1)},
		"id as float":          {200, asJSON, strings.Replace(result, "7", "7.0", 1)},
		"no id":                {200, asJSON, `{"jsonrpc":"2.0","result":{}}`},
		"null id":              {200, asJSON, strings.Replace(result, "7", "null", 1)},
		"two results":          {200, asJSON, `{"jsonrpc":"2.0","id":7,"result":{},"result":{"isError":true}}`},
		"result and error":     {200, asJSON, `{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}`},
		"folded key":           {200, asJSON, `{"jsonrpc":"2.0","id":7,"Result":{},"error":{"code":1,"message":""}}`},
		"batch":                {200, asJSON, batch},
		"notification":         {200, asJSON, progress},
		"trailing document":    {200, asJSON, result + result},
		"cut short":            {200, asJSON, result[:20]},
		"empty":                {200, asJSON, ""},
		"task":                 {200, asJSON, `{"jsonrpc":"2.0","id":7,"result":{"task":{"taskId":"1"}}}`},
		"unknown result type":  {200, asJSON, `{"jsonrpc":"2.0","id":7,"result":{"resultType":"other"}}`},
		"encoded":              {200, map[string]string{"Content-Type": "application/json", "Content-Encoding": "gzip"}, result},
		"other charset":        {200, map[string]string{"Content-Type": "application/json; charset=utf-16"}, result},
		"plain text":           {200, map[string]string{"Content-Type": "text/plain"}, result},
		"no type":              {200, nil, result},
		"accepted":             {202, nil, ""},
		"created":              {201, asJSON, result},
		"no content":           {204, nil, ""},
		"redirect":             {307, map[string]string{"Location": "http://127.0.0.1:1/"}, ""},
		"tunnel":               {101, map[string]string{"Upgrade": "websocket"}, ""},
		"result in an error":   {400, asJSON, result},
		"events in an error":   {500, asEvents, event(result)},
		"foreign in an error":  {400, asJSON, foreign},
		"id twice in an error": {400, asJSON, strings.Replace(result, `"id":7`, `"id":8,"id":7`, 1)},
		"events that are JSON": {200, asEvents, result + "\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			if !r.upstream(c.status, c.header, c.body) {
				t.Error("the refusal is incomplete")
			}
			if strings.HasPrefix(name, "events that") { // the head of an event stream has been sent already
				if r.out() != refusedEvent {
					t.Errorf("sent %q", r.out())
				}
				r.free()
				return
			}
			if r.wire.Code != 502 || r.out() != "refused UPSTREAM_FAILED" {
				t.Errorf("got %d %q", r.wire.Code, r.out())
			}
			if h := r.wire.Result().Header; h.Get("Location") != "" || h.Get("Content-Encoding") != "" || h.Get("Upgrade") != "" {
				t.Errorf("the upstream's header is in the refusal: %v", h)
			}
			r.free()
		})
	}
}

// TestJSONCaptureFails checks that a failed capture withholds the response.
func TestJSONCaptureFails(t *testing.T) {
	r := newRig(t, nil)
	r.books.refusal = &gate.Refusal{Code: gate.ChargeFailed}
	if !r.upstream(200, asJSON, result) || r.out() != "refused CHARGE_FAILED" {
		t.Errorf("sent %q", r.out())
	}
	r.free()
}

// TestClientLeaves checks that a client that leaves before the capture is not
// charged. A client that leaves during the capture is refunded, because no byte of
// the response was sent.
func TestClientLeaves(t *testing.T) {
	for name, when := range map[string]func(*rig){
		"before": func(r *rig) { r.leave() },
		"during": func(r *rig) { r.books.during = r.leave },
	} {
		for _, kind := range []map[string]string{asJSON, asEvents} {
			for _, detached := range []bool{true, false} {
				r := newRig(t, func(o *Options) { o.Detached = detached })
				when(r)
				body := result
				if kind["Content-Type"] == typeEvents {
					body = event(result)
				}
				if r.upstream(200, kind, body) {
					t.Errorf("%s: the connection was not cut", name)
				}
				if strings.Contains(r.out(), "result") || strings.Contains(r.out(), "refused") {
					t.Errorf("%s, %s: sent %q", name, kind["Content-Type"], r.out())
				}
				r.free()
			}
		}
	}
}

// TestLongJSON checks that a response too long to hold is captured before its first
// byte is sent, and then streams unchanged.
func TestLongJSON(t *testing.T) {
	body := `{"jsonrpc":"2.0","result":{"content":["` + long(5000) + `"]},"id":7}`
	r := newRig(t, func(o *Options) { o.Hold = 1000 })
	complete := r.upstream(200, map[string]string{"Content-Type": "application/json", "Content-Length": "9"}, body[:900], body[900:3000], body[3000:])
	if !complete || r.out() != body || !r.books.captured || r.books.before != "" {
		t.Errorf("complete %v, captured %v, %d bytes out before the capture", complete, r.books.captured, len(r.books.before))
	}
	if r.wire.Result().Header.Get("Content-Length") != "" {
		t.Error("a length that may be wrong was sent")
	}
}

// TestLongJSONRefunds checks that a long response is refunded if it turns out not to be
// a result of the request. If the response is not a message, or breaks off, the
// connection is cut as well.
func TestLongJSONRefunds(t *testing.T) {
	head := `{"jsonrpc":"2.0","result":{"content":["` + long(2000) + `"]`
	for name, c := range map[string]struct {
		tail     string
		failure  *gate.Refusal
		complete bool
	}{
		"tool error": {`,"isError":true},"id":7}`, nil, true},
		"foreign":    {`},"id":8}`, nil, false},
		"malformed":  {`},"id":7`, nil, false},
		"broken off": {``, upstreamFailed("broke"), false},
	} {
		r := newRig(t, func(o *Options) { o.Hold = 1000 })
		r.Header().Set("Content-Type", "application/json")
		r.WriteHeader(200)
		_, _ = io.WriteString(r.Interceptor, head)
		if !r.books.captured {
			t.Errorf("%s: not captured before it streamed", name)
		}
		_, _ = io.WriteString(r.Interceptor, c.tail)
		if complete := r.end(c.failure); complete != c.complete {
			t.Errorf("%s: complete is %v", name, complete)
		}
		r.free()
	}
}

// TestLongJSONCaptureFails checks that a long response is not sent if it cannot be
// captured.
func TestLongJSONCaptureFails(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Hold = 100 })
	r.books.refusal = &gate.Refusal{Code: gate.ChargeFailed}
	if !r.upstream(200, asJSON, `{"x":"`+long(400), long(400)) || r.out() != "refused CHARGE_FAILED" {
		t.Errorf("sent %q", r.out())
	}
}

// TestBudget checks that a call is refused without a charge when the budget is
// exhausted.
func TestBudget(t *testing.T) {
	for kind, body := range map[string]string{"application/json": result, "text/event-stream": event(result)} {
		r := newRig(t, nil)
		other := r.budget.limit - 10
		if r.budget.Take(other) != nil {
			t.Fatal("the budget is smaller than it says")
		}
		r.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(r.Interceptor, body)
		r.Finish(nil)
		if !strings.Contains(r.out(), "refused STORE_UNAVAILABLE") || strings.Contains(r.out(), "result") {
			t.Errorf("sent %q", r.out())
		}
		r.budget.Give(other)
		if r.budget.Used() != 0 {
			t.Errorf("%d bytes leaked", r.budget.Used())
		}
		r.free()
	}
}

// TestUpstreamFails checks that the client gets a refusal when the upstream's handler
// fails.
func TestUpstreamFails(t *testing.T) {
	for name, c := range map[string]struct {
		failure *gate.Refusal
		want    string
	}{
		"refused":       {&gate.Refusal{Code: gate.UpstreamFailed}, "refused UPSTREAM_FAILED"},
		"timed out":     {&gate.Refusal{Code: gate.UpstreamTimeout}, "refused UPSTREAM_TIMEOUT"},
		"wrote nothing": {nil, "refused UPSTREAM_FAILED"},
	} {
		r := newRig(t, nil)
		if !r.end(c.failure) || r.out() != c.want {
			t.Errorf("%s: sent %q", name, r.out())
		}
		r.free()
	}
	r := newRig(t, nil) // the upstream breaks off in the middle of a body
	r.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(r.Interceptor, result[:30])
	if !r.end(upstreamFailed("broke")) || r.out() != "refused UPSTREAM_FAILED" {
		t.Errorf("broken off: sent %q", r.out())
	}
	r.free()
}

// TestNoWayAround checks that nothing bypasses the Interceptor: not ReadFrom, a
// flush, a hijack or an informational head.
func TestNoWayAround(t *testing.T) {
	r := newRig(t, nil)
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(http.StatusEarlyHints)
	if _, err := io.Copy(r.Interceptor, strings.NewReader(result)); err != nil {
		t.Fatal(err)
	}
	rc := http.NewResponseController(r.Interceptor)
	if err := rc.Flush(); err != nil || r.out() != "" || r.wire.Flushed {
		t.Errorf("a flush let %q out (%v)", r.out(), err)
	}
	if _, _, err := rc.Hijack(); !errors.Is(err, errHijack) {
		t.Errorf("hijacked: %v", err)
	}
	if !r.end(nil) || r.out() != stamped {
		t.Errorf("sent %q", r.out())
	}
}

// TestWriteFailsAfterCapture checks that a failed write to the client ends the
// response. The charge stands, because some bytes may have reached the client.
func TestWriteFailsAfterCapture(t *testing.T) {
	r := newRig(t, nil)
	r.wire.fail = context.DeadlineExceeded
	if r.upstream(200, asJSON, result) {
		t.Error("a response that was not written is called complete")
	}
	if !r.books.captured || !r.wire.bounded {
		t.Errorf("captured %v, deadline set %v", r.books.captured, r.wire.bounded)
	}
}

// TestTwoTypesAreWithheld checks that a body with two content types or encodings is
// withheld, because the client might not read it in the same way as the gateway.
func TestTwoTypesAreWithheld(t *testing.T) {
	for name, values := range map[string][]string{
		"Content-Type":     {"text/event-stream", "application/json"},
		"Content-Encoding": {"identity", "gzip"},
	} {
		r := newRig(t, nil)
		r.Header().Set("Content-Type", "application/json")
		r.Header()[name] = values
		r.WriteHeader(200)
		_, _ = io.WriteString(r.Interceptor, result)
		if !r.end(nil) || r.out() != "refused UPSTREAM_FAILED" {
			t.Errorf("%s: sent %q", name, r.out())
		}
		r.free()
	}
}

// TestTrailersAreDropped checks that trailers are dropped, because they arrive after
// the verdict.
func TestTrailersAreDropped(t *testing.T) {
	for kind, body := range map[string]string{"application/json": result, "text/event-stream": event(rpcError)} {
		r := newRig(t, nil)
		r.Header().Set("Content-Type", kind)
		r.Header().Set("Trailer", "X-Late")
		r.WriteHeader(200)
		_, _ = io.WriteString(r.Interceptor, body)
		r.Header().Set("X-Late", result)
		r.Header().Set(http.TrailerPrefix+"X-Later", result)
		r.end(nil)
		h := r.Header()
		if h.Get(http.TrailerPrefix+"X-Later") != "" || h.Get("Trailer") != "" || kind == "application/json" && h.Get("X-Late") != "" {
			t.Errorf("%s: header %v", kind, h)
		}
	}
}

// TestLongAnswerIsNotRefundedToLeavingClient checks that a client that breaks off a
// long response after its capture pays for it. The client may have read all that it
// wanted.
func TestLongAnswerIsNotRefundedToLeavingClient(t *testing.T) {
	head := `{"jsonrpc":"2.0","result":{"content":["` + long(2000)
	for kind, body := range map[string]string{"application/json": head, "text/event-stream": "data: " + head} {
		for _, how := range []string{"leaves", "cannot be written to"} {
			r := newRig(t, func(o *Options) { o.Hold = 1000 })
			r.Header().Set("Content-Type", kind)
			r.WriteHeader(200)
			_, _ = io.WriteString(r.Interceptor, body)
			if how == "leaves" {
				r.leave()
			} else {
				r.wire.fail = io.ErrClosedPipe
				_, _ = io.WriteString(r.Interceptor, "more")
			}
			if r.end(upstreamFailed("cancelled")) || !r.books.captured {
				t.Errorf("%s, %s: captured is %v", kind, how, r.books.captured)
			}
		}
	}
}
