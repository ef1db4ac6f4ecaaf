package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// session is a client's session (MCP 2025-11-25 and earlier, streamable HTTP, "Session
// Management"). It is safe for concurrent use.
type session struct {
	id, account string
	version     string // the negotiated version
	own         *peer  // nil if the session shares processes
	owner       string // the processes that it shares
	listener    *stream
	gone        chan struct{} // closed at the end of the session
	end         func()

	mu       sync.Mutex
	calls    map[string]*call // the running calls by the client's id
	streams  []*stream        // those that a client can come back to
	numbers  int64            // the number of the latest stream
	sent     int              // the number of the last event of listener that was sent
	replace  func()           // ends the open GET; nil without one
	attached int              // the HTTP requests that are being served
	used     time.Time        // when the latest request came or ended
}

// newStream returns the stream of a request.
func (s *session) newStream(bound int) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers++
	return &stream{number: s.numbers, max: bound}
}

// keep makes the stream one that a client can come back to. The oldest ones that have
// ended are forgotten when all together exceed the bound.
func (s *session) keep(st *stream, bound int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams = append(s.streams, st)
	s.trim(bound)
}

// finished notes that the response of a stream has come, or that a client has read it.
func (s *session) finished(bound int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim(bound)
}

// trim forgets streams that have ended, but never the latest. The caller holds the lock.
func (s *session) trim(bound int) {
	total, spared, kept := 0, false, s.streams[:0]
	for i := len(s.streams) - 1; i >= 0; i-- {
		size, ended := s.streams[i].held()
		total += size
		latest := ended && !spared
		spared = spared || ended
		if ended && !latest && (total > bound || len(s.streams)-i > maxStreams) {
			s.streams[i].leave()
			s.streams[i] = nil
		}
	}
	for _, st := range s.streams {
		if st != nil {
			kept = append(kept, st)
		}
	}
	clear(s.streams[len(kept):])
	s.streams = kept
}

// maxStreams is the number of ended streams that a session keeps.
const maxStreams = 64

// stream returns the stream with the number, or nil.
func (s *session) stream(number int64) *stream {
	if number == 0 {
		return s.listener
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		if st.number == number {
			return st
		}
	}
	return nil
}

// attach notes that an HTTP request of the session is being served, until the returned
// function is called.
func (s *session) attach() (detach func()) {
	s.count(1)
	return func() { s.count(-1) }
}

func (s *session) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached += n
	s.used = clock.Now()
}

// idle returns for how long the session has had no request, or 0 if it has one.
func (s *session) idle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached > 0 {
		return 0
	}
	return clock.Since(s.used)
}

// listen makes the caller the only one that gets the stream of the session, and returns
// the number of the last event that was sent on it. The channel is closed when another
// caller takes the stream over.
func (s *session) listen() (sent int, replaced <-chan struct{}, end func()) {
	c := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replace != nil {
		s.replace()
	}
	replace := sync.OnceFunc(func() { close(c) })
	s.replace = replace
	return s.sent, c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-c: // another caller has it
		default:
			s.replace = nil
		}
	}
}

// listening reports whether the stream of the session is open.
func (s *session) listening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replace != nil
}

// delivered notes that events of the session's stream were sent.
func (s *session) delivered(seq int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = max(s.sent, seq)
}

// begin adds a running call. It reports false if a call with this id is running.
func (s *session) begin(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[keyOf(c.id)] != nil {
		return false
	}
	s.calls[keyOf(c.id)] = c
	return true
}

// finish removes a running call.
func (s *session) finish(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[keyOf(c.id)] == c {
		delete(s.calls, keyOf(c.id))
	}
	s.used = clock.Now()
}

// running returns the running call with the id, or nil.
func (s *session) running(key string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[key]
}

// unanswered returns the running calls.
func (s *session) unanswered() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.calls))
}
