package intercept

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
)

const beat = ": keepalive\n"

// keptAlive returns a rig that sends a comment after 25 quiet seconds.
func keptAlive(t *testing.T, change func(*Options)) *rig {
	return newRig(t, func(o *Options) {
		o.Keepalive = 25 * time.Second
		if change != nil {
			change(o)
		}
	})
}

// sent returns the bytes sent so far. It takes the lock that guards writes, because
// the timer writes too.
func (r *rig) sent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out()
}

func pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestQuietStreamIsKeptAlive checks that a quiet stream gets a comment 25 seconds after
// the last write. Comments come before and after the response, but not after the end of
// the stream. A comment is flushed, and has a write deadline like every other write.
func TestQuietStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := keptAlive(t, nil)
		r.Header().Set("Content-Type", "text/event-stream")
		r.WriteHeader(200)
		pause(24 * time.Second)
		if r.sent() != "" {
			t.Fatalf("too soon: %q", r.sent())
		}
		pause(2 * time.Second)
		if r.sent() != beat || r.wire.flushed != len(beat) || r.wire.armed {
			t.Fatalf("sent %q, %d flushed, deadline %t", r.sent(), r.wire.flushed, r.wire.armed)
		}
		pause(20 * time.Second)
		_, _ = io.WriteString(r, event(progress))
		pause(24 * time.Second) // now 44 s after the comment, but only 24 s after the event
		if r.sent() != beat+event(progress) {
			t.Fatalf("it does not count from the event: %q", r.sent())
		}
		pause(2 * time.Second)
		_, _ = io.WriteString(r, event(result))
		pause(26 * time.Second)
		want := beat + event(progress) + beat + event(stamped) + beat
		if r.sent() != want {
			t.Fatalf("sent %q, want %q", r.sent(), want)
		}
		r.end(nil)
		pause(time.Hour)
		if r.sent() != want {
			t.Errorf("it goes on after the end: %q", r.sent())
		}
	})
}

// TestNoCommentElsewhere checks that no comment is sent before a stream begins, in a
// response that is not a stream, or if comments are disabled.
func TestNoCommentElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := keptAlive(t, nil)
		pause(time.Hour)
		r.Header().Set("Content-Type", "application/json")
		r.WriteHeader(200)
		pause(time.Hour)
		_, _ = io.WriteString(r, result)
		pause(time.Hour)
		if r.sent() != "" || r.wire.flushed != 0 {
			t.Errorf("sent %q", r.sent())
		}
		if r.end(nil); r.sent() != stamped {
			t.Errorf("sent %q", r.sent())
		}
		r = newRig(t, nil)
		r.Header().Set("Content-Type", "text/event-stream")
		r.WriteHeader(200)
		pause(time.Hour)
		if r.end(nil); strings.Contains(r.sent(), beat) {
			t.Errorf("it is off, and sent %q", r.sent())
		}
	})
}

// TestNoCommentWithinAnEvent checks that no comment is sent while a long event has been
// sent in part, because the comment would land inside the event.
func TestNoCommentWithinAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := keptAlive(t, func(o *Options) { o.Hold = 100 })
		r.Header().Set("Content-Type", "text/event-stream")
		r.WriteHeader(200)
		text := event(strings.Replace(result, "[]", `["`+long(200)+`"]`, 1))
		_, _ = io.WriteString(r, text[:150])
		pause(time.Hour)
		_, _ = io.WriteString(r, text[150:])
		if r.sent() != text || !r.books.captured {
			t.Fatalf("captured %t, sent %q", r.books.captured, r.sent())
		}
		pause(26 * time.Second)
		if r.end(nil); r.sent() != text+beat {
			t.Errorf("sent %q", r.sent())
		}
	})
}

// TestByteOrderMarkBehindAComment checks that a byte order mark is removed if a
// comment precedes it. The mark would no longer be at the beginning of the stream,
// so the client would lose the event that it pays for. Without a comment the mark
// passes unchanged.
func TestByteOrderMarkBehindAComment(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := keptAlive(t, func(o *Options) { o.Seal = func(id []byte) []byte { return id } })
			r.Header().Set("Content-Type", "text/event-stream")
			r.WriteHeader(200)
			want := "\uFEFF" + event(progress)
			if quiet {
				pause(26 * time.Second)
				want = beat + event(progress)
			}
			for _, c := range []byte("\uFEFF" + event(progress)) {
				_, _ = r.Write([]byte{c})
			}
			if r.sent() != want {
				t.Errorf("sent %q, want %q", r.sent(), want)
			}
			r.end(nil)
		})
	}
}

// TestCommentFindsClientGone checks that a client counts as having left if a comment
// cannot be written to it. A call with Options.Detached continues, and any other call
// ends. Nothing further is sent.
func TestCommentFindsClientGone(t *testing.T) {
	for _, detached := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := keptAlive(t, func(o *Options) { o.Detached = detached })
			r.Header().Set("Content-Type", "text/event-stream")
			r.WriteHeader(200)
			r.mu.Lock()
			r.wire.fail = errors.New("gone")
			r.mu.Unlock()
			pause(26 * time.Second)
			if (r.cut == 0) != detached {
				t.Errorf("detached %t: the upstream was cancelled %d times", detached, r.cut)
			}
			r.mu.Lock()
			r.wire.fail = nil
			r.mu.Unlock()
			pause(time.Hour)
			_, _ = io.WriteString(r, event(result))
			r.end(nil)
			r.free()
			if r.sent() != "" {
				t.Errorf("detached %t: sent %q", detached, r.sent())
			}
		})
	}
}

// TestListenerIsKeptAlive checks that a stream opened by GET also gets comments,
// until it is closed.
func TestListenerIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<20), plain{}.Event, nil, nil)
		l.Keepalive(25 * time.Second)
		pause(time.Hour)
		if w.Body.Len() > 0 {
			t.Fatalf("before its head: %q", w.Body)
		}
		l.Header().Set("Content-Type", "text/event-stream")
		l.WriteHeader(200)
		pause(26 * time.Second)
		_, _ = io.WriteString(l, "\uFEFF"+event(progress))
		_, _ = io.WriteString(l, "event: mess")
		pause(26 * time.Second)
		_, _ = io.WriteString(l, "age\ndata: "+progress+"\n\n")
		if want := beat + event(progress) + beat + event(progress); w.Body.String() != want || !w.bounded || w.armed {
			t.Errorf("sent %q, want %q; bounded %t", w.Body, want, w.bounded)
		}
		l.Close()
		sent := w.Body.Len()
		pause(time.Hour)
		if w.Body.Len() != sent {
			t.Errorf("it goes on when it is closed: %q", w.Body)
		}
	})
}

// TestCommentsBesideEvents checks, for the race detector, that comments from the
// timer do not interfere with events from the proxy.
func TestCommentsBesideEvents(t *testing.T) {
	const n = 300
	r := keptAlive(t, func(o *Options) { o.Keepalive = time.Microsecond })
	l := NewListener(newWire(), nil, nil, NewBudget(1<<20), plain{}.Event, nil, nil)
	l.Keepalive(time.Microsecond)
	for _, w := range []http.ResponseWriter{r.Interceptor, l} {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		for range n {
			_, _ = io.WriteString(w, "event: message\nda")
			_, _ = io.WriteString(w, "ta: "+progress+"\n\n")
			w.(http.Flusher).Flush()
		}
	}
	l.Close()
	_, _ = io.WriteString(r, event(result))
	r.end(nil)
	for _, out := range []string{r.sent(), l.w.(*wire).Body.String()} {
		if got := strings.Count(strings.ReplaceAll(out, beat, ""), event(progress)); got != n {
			t.Errorf("%d whole events of %d", got, n)
		}
	}
}

// BenchmarkEventStream measures a call that is answered immediately by an event, with
// and without keepalive comments.
func BenchmarkEventStream(b *testing.B) {
	message, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}`))
	if err != nil {
		b.Fatal(err)
	}
	for name, every := range map[string]time.Duration{"off": 0, "25s": 25 * time.Second} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := newWire()
				t := New(w, Options{
					ID: message.ID, Call: &books{wire: w}, Refuser: plain{}, Budget: NewBudget(1 << 20), Client: context.Background(), Keepalive: every,
				})
				t.Header().Set("Content-Type", "text/event-stream")
				t.WriteHeader(200)
				_, _ = io.WriteString(t, event(result))
				t.Finish(nil)
			}
		})
	}
}
