package runtime

import (
	"errors"
	"sync"
	"time"
)

// Bounds of what is remembered of request ids.
const (
	// maxSessionIDs bounds the ids of one session that may not be used again.
	maxSessionIDs = 1 << 16
	// maxIDs bounds those of all sessions; beyond it, the sessions that have
	// been idle for longest are forgotten.
	maxIDs = 1 << 21
	// usedFor is for how long an idle session is remembered.
	usedFor = 24 * time.Hour
)

// Why a request's id cannot be used.
var (
	// ErrIDTaken says that a request with this id is under way in the session,
	// or that its stream may still be resumed.
	ErrIDTaken = errors.New("a request with this id was made in this session: each needs an id of its own")
	// ErrSessionFull says that a session has had so many streams that may be
	// resumed that no more can be told apart: its client has to begin a new one.
	ErrSessionFull = errors.New("the session has had too many requests")
)

// requests are the ids of the requests of sessions: those that are under way,
// and those whose answer may still come on a resumed stream. Servers find the
// stream of an answer by its request's id, some for as long as the session
// lives; so of two requests with the same one, the second could be a free call
// that gets the paid result of the first.
type requests struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[string]*session
	used     int // ids of all sessions
	claims   int // since the last sweep
}

// sweepEvery is after how many claims idle sessions are looked for.
const sweepEvery = 1 << 12

type session struct {
	open map[string]struct{} // under way
	used map[string]struct{} // may be resumed
	last time.Time
}

func newRequests(now func() time.Time) *requests {
	return &requests{now: now, sessions: make(map[string]*session)}
}

// claim takes the id within the session.
func (r *requests) claim(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claims++; r.claims >= sweepEvery {
		r.claims = 0
		r.sweep()
	}
	s := r.sessions[name]
	if s == nil {
		s = &session{open: make(map[string]struct{})}
		r.sessions[name] = s
	}
	_, open := s.open[id]
	_, used := s.used[id]
	switch {
	case open || used:
		return ErrIDTaken
	case len(s.used) >= maxSessionIDs:
		return ErrSessionFull
	}
	s.open[id], s.last = struct{}{}, r.now()
	return nil
}

// release gives the id back; with resumable, it cannot be taken again.
func (r *requests) release(name, id string, resumable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[name]
	delete(s.open, id)
	s.last = r.now()
	if resumable {
		if s.used == nil {
			s.used = make(map[string]struct{})
		}
		s.used[id] = struct{}{}
		if r.used++; r.used > maxIDs {
			r.forgetIdlest()
		}
	}
	if len(s.open)+len(s.used) == 0 {
		delete(r.sessions, name)
	}
}

// sweep forgets sessions that have been idle for long. The caller holds the
// mutex.
func (r *requests) sweep() {
	for name, s := range r.sessions {
		if len(s.open) == 0 && r.now().Sub(s.last) >= usedFor {
			r.forget(name, s)
		}
	}
}

func (r *requests) forget(name string, s *session) {
	r.used -= len(s.used)
	delete(r.sessions, name)
}

func (r *requests) forgetIdlest() {
	var idlest *session
	var of string
	for name, s := range r.sessions {
		if len(s.open) == 0 && (idlest == nil || s.last.Before(idlest.last)) {
			idlest, of = s, name
		}
	}
	if idlest != nil {
		r.forget(of, idlest)
	}
}
