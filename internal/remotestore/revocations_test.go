package remotestore

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestFollow checks that changes arrive with their position, and that an unreadable
// response is an error, not an empty list.
func TestFollow(t *testing.T) {
	want := keys.Revocations{Digests: []keys.Digest{{1}, {2}}, Position: 9, Gap: true, More: true}
	s, f, _ := faked(t, gives(wire.RevocationsOf(want)))
	got, err := s.Follow(ctx(t), "n", -7, 2*time.Second)
	if err != nil || !slices.Equal(got.Digests, want.Digests) || got.Position != 9 || !got.Gap || !got.More {
		t.Errorf("%+v, %v", got, err)
	}
	if f.bodies[0] != `{"node":"n","seen":-1,"lease_ms":2000}` {
		t.Errorf("asked %q", f.bodies)
	}
	for _, text := range []string{"", "{", `{"digests":["x"],"position":1}`, `{"digests":[],"digests":[],"position":1}`} {
		f.plays(says(200, "application/json", text))
		_, err := s.Follow(ctx(t), "n", 9, 2*time.Second)
		unavailable(t, text, err)
	}
	f.plays(done)
	if err := s.Leave(ctx(t), "n"); err != nil || f.asked[0] != "DELETE /keys/revocations/nodes/n" {
		t.Errorf("%q, %v", f.asked, err)
	}
	if err := s.Confirm(ctx(t), "n"); err != nil || f.count() != 1 {
		t.Errorf("%q, %v", f.asked, err)
	}
}

// streams serves event streams with content that a test writes.
type streams struct {
	opened atomic.Int64
	query  atomic.Pointer[string]
	write  chan string // each text is sent on the stream; "" ends the stream
}

func (s *streams) serve(q *http.Request, _ []byte) (*http.Response, error) {
	s.opened.Add(1)
	s.query.Store(&q.URL.RawQuery)
	read, write := io.Pipe()
	go func() {
		defer write.Close()
		for {
			select {
			case text := <-s.write:
				if text == "" {
					return
				}
				if _, err := write.Write([]byte(text)); err != nil {
					return
				}
			case <-q.Context().Done():
				_ = write.CloseWithError(q.Context().Err())
				return
			}
		}
	}()
	return response(q, http.StatusOK, "text/event-stream; charset=utf-8", read), nil
}

// TestChangedIsFedByEvents checks that an event wakes callers that wait for changes.
// A stream that ends, or is silent for too long, is reopened from the last position
// after growing pauses.
func TestChangedIsFedByEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := &streams{write: make(chan string)}
		s, f, _ := streamed(t, events.serve, gives(wire.Revocations{Position: 42}))
		woken := func(c <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		if synctest.Wait(); *events.query.Load() != "" {
			t.Errorf("asked with %q before anything was read", *events.query.Load())
		}
		c := s.Changed()
		events.write <- ": still here\n\n"
		if woken(c) {
			t.Error("woken by a comment")
		}
		events.write <- "id: 43\ndata: " + strings.Repeat("x", 1<<17) + "\n\n"
		if !woken(c) {
			t.Error("not woken by an event")
		}
		if _, err := s.Follow(ctx(t), "n", 1, time.Second); err != nil {
			t.Fatal(err)
		}
		c = s.Changed()
		events.write <- ""
		time.Sleep(time.Second)
		if !woken(c) || events.opened.Load() != 2 || *events.query.Load() != "after=42" {
			t.Errorf("opened %d times, with %q", events.opened.Load(), *events.query.Load())
		}
		time.Sleep(quiet + time.Second)
		if n := events.opened.Load(); n != 3 {
			t.Errorf("a silent stream was kept: %d", n)
		}
		f.streams(func(q *http.Request, b []byte) (*http.Response, error) { events.opened.Add(1); return cut(q, b) })
		events.write <- ""
		before := events.opened.Load()
		time.Sleep(time.Hour)
		if n := events.opened.Load() - before; n < 3600/int64(2*pauseMost/time.Second) || n > 3600/int64(pauseMost/time.Second)*3 {
			t.Errorf("tried %d times in an hour", n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
