package intercept

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// TestRelay checks that statuses and error texts pass through a Relay. A body with a
// result never passes, wherever the body is split.
func TestRelay(t *testing.T) {
	refused := `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`
	for name, c := range map[string]struct {
		status int
		media  string
		body   string
		want   string
	}{
		"accepted":                {202, "", "", ""},
		"a result of something":   {200, "application/json", result, ""},
		"a stream":                {200, "text/event-stream", event(result), ""},
		"no content":              {204, "", "", ""},
		"an error":                {400, "application/json", refused, refused},
		"an error without a type": {400, "", refused, refused},
		"an error in words":       {404, "text/plain; charset=utf-8", "session not found", "session not found"},
		"a result with an error":  {400, "Application/JSON; charset=utf-8", result, ""},
		"a stream with an error":  {500, "text/event-stream", event(result), ""},
		"a long error":            {500, "application/json", strings.Repeat(" ", maxError) + refused, ""},
	} {
		for at := range len(c.body) + 1 {
			if at > 200 { // a long body is only split near its beginning, to save time
				break
			}
			w := newWire()
			r := NewRelay(w, func(h http.Header) { h.Set("X-Head", "1") })
			if c.media != "" {
				r.Header().Set("Content-Type", c.media)
			}
			r.Header().Set("Content-Length", strconv.Itoa(len(c.body)))
			r.WriteHeader(http.StatusEarlyHints)
			if r.SentHead() {
				t.Fatal("103 was taken for the final head")
			}
			r.WriteHeader(c.status)
			for _, piece := range []string{c.body[:at], c.body[at:]} {
				if _, err := io.Copy(r, strings.NewReader(piece)); err != nil {
					t.Fatal(err)
				}
			}
			r.Finish()
			if w.Code != c.status || w.Body.String() != c.want || !r.SentHead() || r.Withheld() || w.Header().Get("X-Head") != "1" {
				t.Fatalf("%s, split at %d: %d %q, want %d %q", name, at, w.Code, w.Body.String(), c.status, c.want)
			}
			if length := w.Header().Get("Content-Length"); length != "" && length != strconv.Itoa(len(c.want)) {
				t.Fatalf("%s: the length is %s of %d", name, length, len(c.want))
			}
		}
	}
}

// TestRelayWithholds checks that a switch of protocols is withheld, because it would
// open a tunnel. An invalid status is withheld, too. If the upstream sends no
// response, no head is sent either.
func TestRelayWithholds(t *testing.T) {
	w := newWire()
	r := NewRelay(w, nil)
	r.WriteHeader(http.StatusSwitchingProtocols)
	_, _ = io.WriteString(r, "tunnel")
	_, _, err := http.NewResponseController(r).Hijack()
	if r.Finish(); !r.Withheld() || r.SentHead() || w.Body.Len() != 0 || !errors.Is(err, errHijack) {
		t.Errorf("a tunnel was let through: %q, %v", w.Body.String(), err)
	}
	w = newWire()
	r = NewRelay(w, nil)
	r.WriteHeader(42)
	if _, err := io.WriteString(r, result); err != nil || !r.Withheld() || r.SentHead() || w.Body.Len() != 0 {
		t.Errorf("status 42: withheld %t, sent %q, %v", r.Withheld(), w.Body.String(), err)
	}
	r = NewRelay(newWire(), nil)
	if r.Finish(); r.SentHead() {
		t.Error("a head was made up")
	}
}

// TestListenerDropsAnswers checks that on a stream opened by GET the server's own
// messages pass and responses to calls do not, wherever the stream is split.
func TestListenerDropsAnswers(t *testing.T) {
	request := `{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}`
	stream := ": hi\n\n" + event(result) + event(progress) + event(rpcError) + event(request) + event("no json") + event(foreign)
	want := ": hi\n\n" + event(progress) + event(request)
	for at := range len(stream) {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<30), plain{}.Event, ours, nil)
		l.Header().Set("Content-Type", "text/event-stream")
		l.WriteHeader(200)
		for _, piece := range []string{stream[:at], stream[at:]} {
			if _, err := io.Copy(l, strings.NewReader(piece)); err != nil {
				t.Fatal(err)
			}
		}
		if w.Body.String() != want {
			t.Fatalf("split at %d: sent %q", at, w.Body.String())
		}
	}
}

// TestListenerWithholds checks that a reply to GET that is not an event stream is
// withheld, because it could hide a response.
func TestListenerWithholds(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"json": asJSON, "nothing": nil,
		"encoded": {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"},
	} {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<30), plain{}.Event, ours, nil)
		for n, v := range header {
			l.Header().Set(n, v)
		}
		_, _ = io.WriteString(l, result)
		if !l.Withheld() || l.SentHead() || w.Body.Len() > 0 {
			t.Errorf("%s: sent %q", name, w.Body.String())
		}
	}
	for _, withheld := range []http.ResponseWriter{NewRelay(newWire(), nil), NewListener(newWire(), nil, nil, NewBudget(1<<30), plain{}.Event, ours, nil)} {
		if err := http.NewResponseController(withheld).Flush(); err != nil { // there are no bytes to flush before the head
			t.Error(err)
		}
	}
	w := newWire() // an error must pass: a server without streams for GET answers 405
	l := NewListener(w, nil, nil, NewBudget(1<<30), plain{}.Event, ours, nil)
	l.WriteHeader(http.StatusMethodNotAllowed)
	_, _ = io.WriteString(l, "no streams here")
	if l.Finish(); w.Code != http.StatusMethodNotAllowed || w.Body.String() != "no streams here" {
		t.Errorf("got %d %q", w.Code, w.Body.String())
	}
}

// TestListenerBounds checks that an endless event does not exhaust memory.
func TestListenerBounds(t *testing.T) {
	budget := NewBudget(1 << 30)
	l := NewListener(newWire(), nil, nil, budget, plain{}.Event, ours, nil)
	l.Header().Set("Content-Type", "text/event-stream")
	l.WriteHeader(200)
	var err error
	for written := 0; err == nil; written += 1 << 16 {
		if written > 2*DefaultHold {
			t.Fatal("it holds bytes without bound")
		}
		_, err = io.WriteString(l, long(1<<16))
	}
	if budget.Used() == 0 {
		t.Error("what it holds is not counted")
	}
	if l.Close(); budget.Used() != 0 {
		t.Errorf("%d bytes leaked", budget.Used())
	}
}

// TestListenerLeavesLongEventsOut checks a stream opened by GET. An event is left
// out of the stream if it is too long to hold and has a type other than message. The
// stream continues, and no memory stays in use.
func TestListenerLeavesLongEventsOut(t *testing.T) {
	w, budget, leftOut := newWire(), NewBudget(1<<30), 0
	l := NewListener(w, nil, nil, budget, plain{}.Event, ours, func(string) { leftOut++ })
	l.Header().Set("Content-Type", "text/event-stream")
	for _, piece := range []string{"event: log\ndata: " + long(DefaultHold-100), long(1000), "\n\n" + event(progress)} {
		if _, err := io.WriteString(l, piece); err != nil {
			t.Fatal(err)
		}
	}
	if w.Body.String() != event(progress) || leftOut != 1 || budget.Used() != 0 {
		t.Errorf("sent %.100q, %d left out, %d held", w.Body.String(), leftOut, budget.Used())
	}
	l.Close()
}

// TestOldTransportIsRefused checks that the first event of the HTTP+SSE transport
// (MCP 2024-11-05) ends the stream with a reason, in every spelling of the event.
func TestOldTransportIsRefused(t *testing.T) {
	for _, event := range []string{
		"event: endpoint\ndata: /message?sessionId=1\n\n", "event:endpoint\r\ndata: /message\r\n\r\n",
		"id: 1\ndata: /message\nevent: endpoint\n\n",
	} {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<30), plain{}.Event, ours, nil)
		l.Header().Set("Content-Type", "text/event-stream")
		if _, err := l.Write([]byte(event)); err == nil {
			t.Errorf("%q: the stream goes on", event)
		}
		if got := w.Body.String(); got != "data: refused REQUEST_UNSUPPORTED\n\n" || w.flushed != len(got) {
			t.Errorf("%q: the client got %q", event, got)
		}
		l.Close()
	}
}
