package intercept

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// TestEventsWaitForCapture checks that events before the response pass immediately,
// and that the response waits for its capture. This holds wherever the stream is
// split and for every kind of line end.
func TestEventsWaitForCapture(t *testing.T) {
	for name, end := range map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"} {
		lines := func(s string) string { return strings.ReplaceAll(s, "\n", end) }
		before := lines(": hello\n\nid: 1\ndata:\n\n" + event(progress))
		stream := before + lines(event(result))
		want := before + lines(event(stamped))
		for at := range len(stream) {
			r := newRig(t, nil)
			if complete := r.upstream(200, asEvents, stream[:at], stream[at:]); !complete || r.out() != want {
				t.Fatalf("%s, split at %d: complete %v, sent\n%q, want\n%q", name, at, complete, r.out(), want)
			}
			if !r.books.captured || strings.Contains(r.books.before, "result") || r.books.flushed != len(r.books.before) {
				t.Fatalf("%s, split at %d: at the capture %q was out, %d bytes flushed", name, at, r.books.before, r.books.flushed)
			}
			if got := strings.TrimRight(r.books.before, "\r\n"); got != strings.TrimRight(before, "\r\n") {
				t.Fatalf("%s, split at %d: %q was out at the capture, want %q", name, at, got, before)
			}
		}
	}
}

// TestEventsByteByByte is TestEventsWaitForCapture with one byte per write.
func TestEventsByteByByte(t *testing.T) {
	stream := event(progress) + "retry: 10\n\n" + event(result)
	r := newRig(t, nil)
	if !r.upstream(200, asEvents, strings.Split(stream, "")...) || r.out() != event(progress)+"retry: 10\n\n"+event(stamped) {
		t.Errorf("sent %q", r.out())
	}
}

// TestHeadAndProgressAreFlushed checks that the head of a stream and its
// notifications reach the client immediately.
func TestHeadAndProgressAreFlushed(t *testing.T) {
	r := newRig(t, nil)
	r.Header().Set("Content-Type", "text/event-stream")
	r.WriteHeader(200)
	if r.wire.Code != 200 || !r.sentHead {
		t.Error("the head waits")
	}
	_, _ = r.Write([]byte(event(progress)))
	r.Flush()
	if r.wire.flushed != len(event(progress)) {
		t.Errorf("%d bytes flushed, want %d", r.wire.flushed, len(event(progress)))
	}
	r.end(nil)
}

// TestEventsWithoutResultAreFree checks that, on a stream, responses other than results
// pass without a charge.
func TestEventsWithoutResultAreFree(t *testing.T) {
	for _, body := range []string{toolError, rpcError, asking} {
		r := newRig(t, nil)
		if !r.upstream(200, asEvents, event(progress), event(body)) || r.out() != event(progress)+event(body) {
			t.Errorf("sent %q", r.out())
		}
		r.free()
	}
}

const refusedEvent = "data: refused UPSTREAM_FAILED\n\n"

// TestUnmatchedEvent checks that a message that cannot be matched to the request is
// replaced by a refusal. The refusal ends the stream without a charge, the upstream
// request is cancelled, and the rest of the stream is dropped.
func TestUnmatchedEvent(t *testing.T) {
	for name, body := range map[string]string{
		"foreign":   foreign,
		"malformed": `{"jsonrpc":"2.0","id":7,"result":`,
		"batch":     "[" + result + "]",
		"cut short": `{"jsonrpc":"2.0","id":7`,
		"two ids":   `{"jsonrpc":"2.0","id":8,"id":7,"result":{}}`,
		"two words": `{"jsonrpc":"2.0","id":7,"result":{"isError":true,"isError":false}}`,
		"Result":    `{"jsonrpc":"2.0","id":7,"method":"x","Result":{}}`,
		"task":      `{"jsonrpc":"2.0","id":7,"result":{"task":{"taskId":"1"}}}`,
	} {
		r := newRig(t, nil)
		complete := r.upstream(200, asEvents, event(progress), event(body), event(result))
		if !complete || r.out() != event(progress)+refusedEvent {
			t.Errorf("%s: complete %v, sent %q", name, complete, r.out())
		}
		if r.cut == 0 {
			t.Errorf("%s: the upstream goes on", name)
		}
		r.free()
	}
}

// TestSecondAnswerIsDropped checks that a request gets one response: later responses
// are dropped, while notifications still pass.
func TestSecondAnswerIsDropped(t *testing.T) {
	r := newRig(t, nil)
	more := strings.Repeat(event(result), 2) + event(progress) + event(foreign) + event(`{"x":"`+long(2000)+`"}`)
	if !r.upstream(200, asEvents, event(result), more) || r.out() != event(stamped)+event(progress) {
		t.Errorf("sent %q", r.out())
	}
	if !r.books.captured || len(r.books.outcomes) != 1 {
		t.Errorf("settled %d times", len(r.books.outcomes))
	}
}

// TestStreamEndsWithoutAnswer checks that a stream without a response ends in a
// refusal and is not charged.
func TestStreamEndsWithoutAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		last    string
		failure *gate.Refusal
		want    string
	}{
		"ends":                   {event(progress), nil, event(progress) + refusedEvent},
		"breaks":                 {event(progress), upstreamFailed("broke"), event(progress) + refusedEvent},
		"breaks in the answer":   {event(progress) + event(result)[:40], upstreamFailed("broke"), event(progress) + refusedEvent},
		"ends within the answer": {event(progress) + event(result)[:40], nil, event(progress) + refusedEvent},
		"ends in a notification": {"data: " + progress, nil, "data: " + progress + "\n\n" + refusedEvent},
		"ends in an empty event": {"data:\n", nil, "data:\n\n\n" + refusedEvent},
		"times out":              {event(progress), &gate.Refusal{Code: gate.UpstreamTimeout}, event(progress) + "data: refused UPSTREAM_TIMEOUT\n\n"},
	} {
		r := newRig(t, nil)
		r.Header().Set("Content-Type", "text/event-stream")
		_, _ = r.Write([]byte(c.last))
		if !r.end(c.failure) || r.out() != c.want {
			t.Errorf("%s: sent %q, want %q", name, r.out(), c.want)
		}
		r.free()
	}
}

// TestAnswerWithoutBlankLine checks a response without its blank line at the end of
// the stream. Clients accept such a response there, so it is charged.
func TestAnswerWithoutBlankLine(t *testing.T) {
	for _, cut := range []int{1, 2} {
		whole := event(result)
		r := newRig(t, nil)
		if !r.upstream(200, asEvents, whole[:len(whole)-cut]) || !r.books.captured {
			t.Errorf("cut %d: captured %v", cut, r.books.captured)
		}
		if !strings.HasPrefix(r.out(), "event: message\ndata: "+stamped+"\n\n") {
			t.Errorf("cut %d: sent %q", cut, r.out())
		}
	}
}

// TestLongEvent checks that an event too long to hold is captured before its first
// byte is sent.
func TestLongEvent(t *testing.T) {
	body := `{"jsonrpc":"2.0","result":{"content":["` + long(3000) + `"]},"id":7}`
	r := newRig(t, func(o *Options) { o.Hold = 1000 })
	stream := event(progress) + event(body)
	if !r.upstream(200, asEvents, stream[:600], stream[600:1500], stream[1500:]) || r.out() != stream {
		t.Errorf("sent %d bytes of %d", len(r.out()), len(stream))
	}
	if !r.books.captured || r.books.before != event(progress) {
		t.Errorf("captured %v, out before: %q", r.books.captured, r.books.before)
	}
}

// TestLongEventRefunds checks that the capture for a long event is refunded if the
// event turns out not to be a result of the request.
func TestLongEventRefunds(t *testing.T) {
	bulk := long(2000)
	for name, c := range map[string]struct {
		data     string
		complete bool
	}{
		"tool error":        {`{"jsonrpc":"2.0","result":{"content":["` + bulk + `"],"isError":true},"id":7}`, true},
		"foreign":           {`{"jsonrpc":"2.0","result":{"content":["` + bulk + `"]},"id":8}`, false}, // the stream is cut before the event's last byte
		"long notification": {`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + bulk + `"}}`, true},
	} {
		r := newRig(t, func(o *Options) { o.Hold = 1000 })
		if complete := r.upstream(200, asEvents, event(c.data)); complete != c.complete {
			t.Errorf("%s: complete is %v", name, complete)
		}
		r.free()
	}
	r := newRig(t, func(o *Options) { o.Hold = 1000 })
	r.Header().Set("Content-Type", "text/event-stream")
	_, _ = r.Write([]byte("data: {\"jsonrpc\":\"2.0\",\"result\":\"" + bulk))
	if r.end(upstreamFailed("broke")) {
		t.Error("an event that is out in part is called complete")
	}
	r.free()
}

// TestLongEventIsNeverWhole checks promise 1 of docs/promises.md: the client never gets
// the last byte of a long event that cannot be matched, wherever the event exceeds the
// limit Hold.
func TestLongEventIsNeverWhole(t *testing.T) {
	for name, data := range map[string]string{
		"foreign":   `{"jsonrpc":"2.0","result":{"content":["` + long(2000) + `"]},"id":8}`,
		"ambiguous": `{"jsonrpc":"2.0","result":{"isError":true,"content":["` + long(2000) + `"],"isError":false},"id":7}`,
		"two":       `{"jsonrpc":"2.0","method":"x","params":"` + long(2000) + `","result":{},"id":7}`,
	} {
		stream := event(data)
		for _, hold := range []int{1000, len(stream) - 2, len(stream) - 1} {
			for _, at := range []int{0, 500, hold, len(stream) - 1} {
				r := newRig(t, func(o *Options) { o.Hold = hold })
				complete := r.upstream(200, asEvents, stream[:at], stream[at:]+event(result))
				if complete && r.out() != refusedEvent || strings.Contains(r.out(), "\n\n") && r.out() != refusedEvent {
					t.Errorf("%s, hold %d, split at %d: complete %v, the end is %q", name, hold, at, complete, r.out()[len(r.out())-20:])
				}
				r.free()
			}
		}
	}
}

// TestLongNotificationThenAnswer checks that neither a long notification nor a long
// comment is charged. If one of them causes a capture, that capture is used for the
// response that follows, so the call is charged once.
func TestLongNotificationThenAnswer(t *testing.T) {
	for _, note := range []string{
		event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + long(2000) + `"}}`),
		": " + long(2000) + "\n\n",
	} {
		for body, captured := range map[string]bool{result: true, toolError: false} {
			r := newRig(t, func(o *Options) { o.Hold = 1000 })
			want := note + note + event(body)
			if captured && note[0] != ':' { // the note is a notification, which causes no capture: the response is captured as usual and has a receipt
				want = note + note + event(stamped)
			}
			if !r.upstream(200, asEvents, note, note, event(body)) || r.out() != want {
				t.Errorf("sent %d bytes of %d", len(r.out()), len(want))
			}
			if r.books.captured != captured {
				t.Errorf("captured is %v after %s", r.books.captured, body)
			}
		}
	}
}

// TestDetachedCallGoesOn checks a call with Options.Detached after its client has left.
// The upstream's response is read to its end without an error, and the call is not
// charged.
func TestDetachedCallGoesOn(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Detached = true })
	r.Header().Set("Content-Type", "text/event-stream")
	r.WriteHeader(200)
	r.wire.fail = context.Canceled
	for _, piece := range []string{event(progress), event(progress), event(result)} {
		if _, err := r.Write([]byte(piece)); err != nil {
			t.Fatalf("the upstream got an error: %v", err)
		}
		if err := r.FlushError(); err != nil {
			t.Fatalf("the upstream got an error: %v", err)
		}
	}
	r.end(nil)
	r.free()
}

// TestAttachedCallEnds checks that the upstream of a call without Options.Detached gets
// an error at the first write after the client has left.
func TestAttachedCallEnds(t *testing.T) {
	r := newRig(t, nil)
	r.Header().Set("Content-Type", "text/event-stream")
	r.WriteHeader(200)
	r.wire.fail = context.Canceled
	if _, err := r.Write([]byte(event(progress))); err == nil {
		t.Error("the upstream got no error")
	}
	r.end(upstreamFailed("gave up"))
	r.free()
}

// TestEventsThatAreNoResponse checks promise 2 of docs/promises.md: an event that is
// not an MCP message, is malformed, or has a type other than message does not prevent
// the response. Such an event passes unchanged if no client could take it for a
// response, and is left out otherwise. The response after the event passes and is
// charged. A stream opened by GET is filtered by the same rules.
func TestEventsThatAreNoResponse(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		passes bool
	}{
		"a ping":                        {"event: ping\ndata: 2026-11-29T10:00:00Z\n\n", true},
		"a ping without data":           {"event: ping\n\n", true},
		"a ping after its data":         {"data: {}\nevent: ping\n\n", true},
		"a status":                      {"event: status\ndata: {\"status\":\"no error\",\"sid\":1}\n\n", true},
		"words":                         {"event: log\ndata: the result is near\n\n", true},
		"a notification of a type":      {"event: note\ndata: " + progress + "\n\n", true},
		"an answer of a type":           {"event: other\ndata: " + result + "\n\n", false},
		"another's answer of a type":    {"event: other\ndata: " + foreign + "\n\n", false},
		"an answer in capitals":         {"event: other\ndata: {\"ID\":7,\"Result\":{}}\n\n", false},
		"an answer by escapes":          {"event: other\ndata: {\"\\u0069d\":7}\n\n", false},
		"an id of a type":               {"event: other\ndata: {\"id\":7}\n\n", false},
		"a task of a type":              {"event: other\ndata: {\"method\":\"notifications\\/tasks\",\"x\":1,}\n\n", false},
		"a batch of a type":             {"event: other\ndata: [" + result + "]\n\n", false},
		"comments":                      {": " + result + "\n\n", true},
		"an unknown field":              {"foo: bar\nbaz\n\n", true},
		"an unknown field in a message": {"foo: bar\ndata: " + progress + "\n\n", true},
		"no version":                    {event(`{"method":"notifications/progress"}`), true},
		"null for an id":                {event(`{"jsonrpc":"2.0","id":null,"method":"notifications/progress"}`), true},
		"a fraction for an id":          {event(`{"jsonrpc":"2.0","id":7.5,"method":"ping"}`), true},
		"a comma too many":              {event(`{"jsonrpc":"2.0","method":"x","params":{"a":1,}}`), true},
		"a tab in text":                 {event("{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":\"\t\"}"), true},
		"two methods":                   {event(`{"jsonrpc":"2.0","method":"x","method":"y"}`), true},
		"half a pair":                   {event(`{"jsonrpc":"2.0","method":"x","params":{"a":"\ud800"}}`), true},
		"a broken request":              {event(`{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":1,}}`), false},
		"two methods and an id":         {event(`{"jsonrpc":"2.0","id":7,"method":"x","Method":"y"}`), false},
		"a broken task":                 {event(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"a":1,}}`), false},
		"a result after an error":       {event(`{"jsonrpc":"2.0","method":"x","params":{,},"result":{}}`), false},
		"words in a message":            {event("hello"), false},
		"an end of another protocol":    {"data: [DONE]\n\n", false},
		"a string":                      {event(`"hello"`), false},
		"an object that says nothing":   {event(`{"a":1}`), false},
		"a guarded answer":              {"data: )]}'\ndata: " + result + "\n\n", false},
		"a line that names no field":    {"<p>hello</p>\n\n", false},
		"a field like data":             {"Data: hello\n\n", false},
		"a long event of a type":        {"event: log\ndata: " + long(3000) + "\n\n", false},
		"a long answer of a type":       {"event: log\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":\"" + long(3000) + "\"}}\n\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, end := range []string{"\n", "\r\n"} {
				leftOut := 0
				r := newRig(t, func(o *Options) { o.Hold, o.LeftOut = 1000, func(string) { leftOut++ } })
				first, answer := strings.ReplaceAll(c.events, "\n", end), event(result)
				want := event(stamped)
				if c.passes {
					want = first + want
				}
				if complete := r.upstream(200, asEvents, first+answer); !complete || strings.TrimLeft(r.out(), "\n") != want {
					t.Errorf("complete %v, sent %q, want %q", complete, r.out(), want)
				}
				if !r.books.captured || len(r.books.outcomes) != 1 || (leftOut == 0) != c.passes {
					t.Errorf("captured %v, %d settled, %d left out", r.books.captured, len(r.books.outcomes), leftOut)
				}
			}
			w, leftOut := newWire(), 0
			l := NewListener(w, nil, nil, NewBudget(1<<20), plain{}.Event, ours, func(string) { leftOut++ })
			l.Header().Set("Content-Type", "text/event-stream")
			_, err := l.Write([]byte(c.events + event(progress)))
			want := event(progress)
			if c.passes {
				want = c.events + want
			}
			if err != nil || w.Body.String() != want && len(c.events) < 2000 || (leftOut == 0) != c.passes && len(c.events) < 2000 {
				t.Errorf("on a stream of a GET: %v, sent %q, %d left out", err, w.Body.String(), leftOut)
			}
			l.Close()
		})
	}
}

// TestLongEventThatWasAMessage checks a long event that seems to have a type other
// than message, but turns out to be a message. The event may have been the response.
// It is therefore refused and not left out.
func TestLongEventThatWasAMessage(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Hold = 1000 })
	text := "event: log\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":\"" + long(3000) + "\"}}\nevent: message\n\n"
	if !r.upstream(200, asEvents, text[:2000], text[2000:]+event(result)) || r.out() != refusedEvent {
		t.Errorf("sent %q", r.out())
	}
	r.free()
}

// TestOtherTypeIsNoAnswer checks that an event of a type other than message at the
// end of a stream does not complete the call. A client could take this event for a
// response, so it is left out, and the call is not charged.
func TestOtherTypeIsNoAnswer(t *testing.T) {
	r := newRig(t, nil)
	if !r.upstream(200, asEvents, "event: other\ndata: "+result+"\n\n") || r.out() != refusedEvent {
		t.Errorf("sent %q", r.out())
	}
	r.free()
}

// TestNoRoomBehindTheAnswer checks promise 1 of docs/promises.md: a response that was
// sent stays charged, even if the budget has no room for the rest of its stream.
// Otherwise a caller could exhaust the budget and have every response refunded. No
// refusal follows the response, because a request has only one.
func TestNoRoomBehindTheAnswer(t *testing.T) {
	for _, resumable := range []bool{false, true} {
		r := newRig(t, func(o *Options) {
			if resumable {
				o.Seal = func(id []byte) []byte { return id }
			}
		})
		r.Header().Set("Content-Type", "text/event-stream")
		if _, err := io.WriteString(r.Interceptor, "id: 1\n"+event(result)); err != nil {
			t.Fatal(err)
		}
		answer := r.out()
		if !strings.Contains(answer, `"result"`) || !r.books.captured {
			t.Fatalf("sent %q, captured: %v", answer, r.books.captured)
		}
		other := r.budget.limit - r.budget.Used()
		if err := r.budget.Take(other); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(r.Interceptor, event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"`+long(1000)+`"}}`))
		complete := r.Finish(nil)
		r.budget.Give(other)
		if !complete || r.out() != answer || !r.books.captured || r.books.released+r.books.suspended != 0 {
			t.Errorf("resumable %v: sent %q after the answer; captured: %v, released %d times, suspended %d", resumable, r.out()[len(answer):], r.books.captured, r.books.released, r.books.suspended)
		}
		if r.budget.Used() != 0 {
			t.Errorf("%d bytes leaked", r.budget.Used())
		}
	}
}

// TestRefusalAfterEarlyCapture checks promise 2 of docs/promises.md: a refusal charges
// nothing. This holds even if the client could resume the stream, and even if the call
// was captured for an event that turned out not to be the response.
func TestRefusalAfterEarlyCapture(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Hold = 100
		o.Seal = func(id []byte) []byte { return id }
	})
	r.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(r.Interceptor, "id: 1\n"+event(progress)+"data: {\"jsonrpc\":\"2.0\",\"params\":{\"data\":\""+long(200))
	_, _ = io.WriteString(r.Interceptor, "\"},\"method\":\"notifications/message\"}\n\n")
	if !r.books.captured {
		t.Fatal("it was not captured early")
	}
	other := r.budget.limit - r.budget.Used()
	if err := r.budget.Take(other); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(r.Interceptor, event(result))
	r.Finish(nil)
	r.budget.Give(other)
	if !strings.HasSuffix(r.out(), "data: refused STORE_UNAVAILABLE\n\n") {
		t.Errorf("sent %q", r.out())
	}
	r.free()
}
