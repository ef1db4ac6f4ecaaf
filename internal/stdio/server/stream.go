package server

import (
	"sync"

	"github.com/fareboxhq/farebox/internal/signal"
)

// event is a message on its way to a client.
type event struct {
	seq  int // from 1
	data []byte
}

// stream is a list of messages for a client: the answer to one request with the
// messages before it, or the messages without a request. They stay after they were sent, in
// bounded memory, so that a client can come back for them. It is safe for concurrent use.
type stream struct {
	number int64 // within its session; 0 for messages without a request
	max    int   // the bound of the kept messages in bytes

	changed signal.Broadcast
	mu      sync.Mutex
	events  []event
	last    int // the number of the latest event
	size    int // the size of the kept events in bytes
	readers int // the HTTP responses that are reading
	state   streamState
	code    string // the code of a JSON-RPC error that ended the stream
}

// streamState is the state of a stream.
type streamState uint8

const (
	running  streamState = iota
	complete             // the response has come
	unread               // nobody will read it
)

// add appends a message. The last one of a request is its response. Beyond the bound,
// the oldest messages are forgotten, but never the latest.
func (s *stream) add(data []byte, last bool, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != running {
		return
	}
	s.last++
	s.events = append(s.events, event{seq: s.last, data: data})
	s.size += len(data)
	for s.size > s.max && len(s.events) > 1 {
		s.forgetFirst()
	}
	if last {
		s.state, s.code = complete, code
	}
	s.changed.Notify()
}

func (s *stream) forgetFirst() {
	s.size -= len(s.events[0].data)
	s.events[0].data = nil
	s.events = s.events[1:]
}

// after returns the events after the one with the given number, and whether no more will
// come. If some of them were forgotten, whole is false.
func (s *stream) after(seq int) (events []event, ended, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole = seq >= s.last || len(s.events) > 0 && s.events[0].seq <= seq+1
	for i, e := range s.events {
		if e.seq > seq {
			events = append(events, s.events[i:]...)
			break
		}
	}
	return events, s.state != running, whole
}

// forget drops the events up to the one with the given number.
func (s *stream) forget(seq int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.events) > 0 && s.events[0].seq <= seq {
		s.forgetFirst()
	}
}

// leave drops everything, now and later.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.size = nil, 0
	if s.state == running {
		s.state = unread
	}
	s.changed.Notify()
}

// held returns the size of the kept events in bytes, and whether the stream has ended and
// nobody reads it.
func (s *stream) held() (size int, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.state != running && s.readers == 0
}

// read notes that a response reads the stream, until the returned function is called.
func (s *stream) read() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.readers--
	}
}

// errorCode returns the code of the JSON-RPC error that ended the stream, or "".
func (s *stream) errorCode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}
