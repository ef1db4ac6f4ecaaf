package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// serveTest serves the handler until the test ends, and returns its address and a
// counter of its requests.
func serveTest(t *testing.T, handler fasthttp.RequestHandler) (address string, requests *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = &atomic.Int64{}
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		requests.Add(1)
		handler(ctx)
	}}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(listener) // ends when the listener is closed
		close(done)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String(), requests
}

// TestClosedLoop checks that every call reaches the server exactly once and is counted,
// for all forms of answers.
func TestClosedLoop(t *testing.T) {
	for _, c := range []call{{tool: freeTool}, {tool: streamTool, stream: true}, {tool: freeTool, stateless: true}} {
		address, requests := serveTest(t, answerCall)
		l := newLoad(target{address: address, call: c}, 3)
		warm, err := l.warmUp()
		if err != nil || warm != 3*warmUpCalls {
			t.Fatalf("%+v: %d calls to warm up, %v", c, warm, err)
		}
		calls, elapsed, err := l.run(t.Context(), 20*time.Millisecond)
		if err != nil || int64(warm+calls) != requests.Load() {
			t.Errorf("%+v: %d and %d calls, %d requests, %v", c, warm, calls, requests.Load(), err)
		}
		if elapsed < 20*time.Millisecond {
			t.Errorf("%+v: it took %s", c, elapsed)
		}
		l.close()
	}
}

// TestWrongAnswersFail checks that one wrong answer fails a turn, in closed loop and in
// open loop. It also checks that a broken connection fails a turn, and that the client
// does not send the request a second time.
func TestWrongAnswersFail(t *testing.T) {
	var count atomic.Int64
	wrong := func(ctx *fasthttp.RequestCtx) {
		answerCall(ctx)
		if count.Add(1) == 5 {
			ctx.SetBodyString(strings.Replace(string(ctx.Response.Body()), "rain", "snow", 1))
		}
	}
	address, _ := serveTest(t, wrong)
	where := target{address: address, call: call{tool: freeTool}}
	l := newLoad(where, 2)
	defer l.close()
	if _, _, err := l.run(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), "lacks the result") {
		t.Errorf("closed loop: got %v", err)
	}
	count.Store(0)
	if _, err := runOpen(t.Context(), where, 2, 1000, time.Minute); err == nil || !strings.Contains(err.Error(), "lacks the result") {
		t.Errorf("open loop: got %v", err)
	}
	broken, requests := serveTest(t, func(ctx *fasthttp.RequestCtx) {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(net.Conn) {}) // Hijack closes the connection without an answer
	})
	b := newLoad(target{address: broken, call: call{tool: freeTool}}, 1)
	defer b.close()
	if _, err := b.warmUp(); err == nil || requests.Load() != 1 {
		t.Errorf("broken connection: %d requests, %v", requests.Load(), err)
	}
}

// TestOpenLoop checks that calls are made at the rate, and that all of them are counted.
func TestOpenLoop(t *testing.T) {
	address, requests := serveTest(t, answerCall)
	got, err := runOpen(t.Context(), target{address: address, call: call{tool: freeTool}}, 4, 200, 250*time.Millisecond)
	if err != nil || int64(got.calls) != requests.Load() || got.wanted != 200 {
		t.Fatalf("%+v, %d requests, %v", got, requests.Load(), err)
	}
	if got.calls < 30 || got.calls > 70 { // 60 calls are expected: 0.3 s, including the lead, at 200 calls/s
		t.Errorf("%d calls in 0.3 s at 200 calls/s", got.calls)
	}
	if got.p50 <= 0 || got.p99 < got.p50 {
		t.Errorf("p50 %s, p99 %s", got.p50, got.p99)
	}
}

// TestOpenLoopRepeatedID checks that an answer is an error if its id was answered
// before, or was never used in a request.
func TestOpenLoopRepeatedID(t *testing.T) {
	for _, id := range []string{"1000000000", "1999999999"} {
		address, _ := serveTest(t, func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("application/json")
			ctx.SetBody(appendAnswer(nil, []byte(id), false))
		})
		if _, err := runOpen(t.Context(), target{address: address, call: call{tool: freeTool}}, 2, 1000, time.Minute); err == nil || !strings.Contains(err.Error(), "was not used, or is answered twice") {
			t.Errorf("%s: got %v", id, err)
		}
	}
}

// TestAuthorizer checks that the authorization server accepts only requests with the
// right bearer token.
func TestAuthorizer(t *testing.T) {
	for header, want := range map[string]int{"Bearer good": 200, "Bearer bad": 401, "good": 401, "": 401, "Bearer ": 401} {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.Set("Authorization", header)
		authorizer("good")(&ctx)
		if got := ctx.Response.StatusCode(); got != want {
			t.Errorf("%q: got %d; want %d", header, got, want)
		}
	}
}
