package server

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// TestLateAnswer: an answer that comes after its call has ended without one never becomes
// the answer to another call. The id of the first call stays taken until then: otherwise a
// free call would return the result of a call that was not charged.
func TestLateAnswer(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.RequestTimeout = 300 * time.Millisecond })
	c := b.visit("alice")
	if _, body := c.post(toolCall(7, "hold", "", 0)); !strings.Contains(body, "not answered within") {
		t.Fatalf("the first call gets %s", body)
	}
	if _, body := c.post(toolCall(7, "echo", "second", 0)); !strings.Contains(body, "a request with this id is running") {
		t.Errorf("a second call with the id gets %s", body)
	}
	c.post(`{"jsonrpc":"2.0","method":"notifications/release"}`)
	eventually(t, "the id can be used again", func() bool {
		_, body := c.post(toolCall(7, "echo", "third", 0))
		if strings.Contains(body, "released") {
			t.Fatalf("another call gets the late answer: %s", body)
		}
		return resultText(body) == "third"
	})
}

// TestRemove: the end of a call leaves a later call with the same id alone.
func TestRemove(t *testing.T) {
	first, second := &call{sent: jsontext.Value("7")}, &call{sent: jsontext.Value("7")}
	p := &peer{calls: map[string]*call{keyOf(second.sent): second}, order: []*call{second}}
	p.remove(first)
	if p.calls[keyOf(second.sent)] != second || len(p.order) != 1 {
		t.Error("the later call is lost")
	}
	p.remove(second)
	if len(p.calls) != 0 || len(p.order) != 0 {
		t.Error("the call stays")
	}
}

// TestPrimedOnce: a stream that has begun with an event of the server is not primed with an
// earlier id afterwards, because a client that resumes would get that event twice.
func TestPrimedOnce(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.StreamAfter, o.RequestTimeout = 200*time.Millisecond, 600*time.Millisecond })
	_, body := b.visit("alice").post(toolCall(7, "ask", "", 0))
	asked := strings.Index(body, "sampling/createMessage")
	if asked < 0 || strings.Contains(body[asked:], "-0\n") {
		t.Errorf("the stream is %s", body)
	}
}

// TestClosedOutput: a program that has closed its stdout gives its calls an error, although
// it lives on.
func TestClosedOutput(t *testing.T) {
	const hello = `read l; echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}'; read l; read l; `
	b := open(t, stdiotest.Plain, func(o *Options) {
		o.Process.Command = []string{"/bin/sh", "-c", hello + "exec >&-; exec sleep 60"}
		o.Process.Grace = time.Second
	})
	if status, body := b.visit("alice").post(toolCall(7, "echo", "", 0)); !strings.Contains(body, `"error"`) {
		t.Errorf("the call gets %d %s", status, body)
	}
}

// TestManySessions: the sessions of an account that share processes are bounded.
func TestManySessions(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.Per, o.Instances = Shared, 1 })
	for range maxSessions {
		(&client{b: b, account: "alice"}).post(initialize)
	}
	if status, body := (&client{b: b, account: "alice"}).post(initialize); status != codeTooMany {
		t.Errorf("one more session gets %d %s", status, body)
	}
	b.visit("bob")
	if n, sessions := b.server.Counts(); n != 1 || sessions != maxSessions+1 {
		t.Errorf("%d processes, %d sessions", n, sessions)
	}
}

// TestAbandoned: a call that its client has left does not keep a shared process for ever.
func TestAbandoned(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.Per, o.Instances, o.Idle = Shared, 1, 200*time.Millisecond })
	c := b.visit("alice")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, strings.NewReader(toolCall(7, "hang", "", 0)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}, "Account": {"alice"}, headerSession: {c.session}}
	left := make(chan error, 1)
	go func() { _, err := http.DefaultClient.Do(r); left <- err }()
	busy := func() (calls int) {
		b.server.mu.Lock()
		defer b.server.mu.Unlock()
		for p := range b.server.peers {
			calls += p.busy()
		}
		return calls
	}
	eventually(t, "the call runs", func() bool { return busy() == 1 })
	leave()
	if err := <-left; err == nil {
		t.Error("the client got an answer")
	}
	eventually(t, "no call is left", func() bool { return busy() == 0 })
}

// TestLongNotification: a message that farebox would not let pass on the session's stream
// does not block the messages after it.
func TestLongNotification(t *testing.T) {
	b := open(t, stdiotest.Plain, nil)
	s := &session{listener: &stream{max: 8 << 20}}
	p := &peer{s: b.server, session: s}
	p.route(&message{kind: notification, method: "notifications/message", raw: make([]byte, maxListened+1)})
	p.route(&message{kind: notification, method: "notifications/message", raw: make([]byte, maxListened)})
	if events, _, _ := s.listener.after(0); len(events) != 1 || len(events[0].data) != maxListened {
		t.Errorf("%d events", len(events))
	}
	contains(t, b.log.String(), "too long for its session's stream")
}
