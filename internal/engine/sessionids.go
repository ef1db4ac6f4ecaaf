package engine

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/share"
)

const (
	// maxSessionIDs bounds, for each session, the ids that cannot be used again.
	maxSessionIDs = 1 << 16
	// sessionTTL is how long an idle session is remembered.
	sessionTTL = 24 * time.Hour
)

// Reasons for which the id of a request cannot be used.
var (
	// ErrIDTaken means that a request with this id is in flight in the session, or that
	// its stream may still be resumed.
	ErrIDTaken = errors.New("a request with this id was made in this session: each needs an id of its own")
	// ErrSessionFull means that the session has had maxSessionIDs streams that may
	// still be resumed. The client must begin a new session.
	ErrSessionFull = errors.New("the session has had too many requests")
)

// requests holds the request ids of sessions: those in flight, and those that may
// still be answered on a resumed stream. A server finds the stream for a response by
// the request id. Some servers remember the ids for as long as the session lives. So
// if two requests of a session had the same id, the second could be a free call that
// gets the paid result of the first.
//
// Each id counts towards the budget, in the share of the key that owns the session.
// If the budget is used up although every holder stays within its share, the session
// that has been idle for longest is forgotten.
type requests struct {
	now    func() time.Time
	budget *share.Budget

	mu       sync.Mutex
	sessions map[string]*session
	idle     list.List // sessions, the most recently used at the back
}

type session struct {
	name  string
	open  map[string]struct{} // ids of requests in flight
	used  map[string]struct{} // ids with a stream that may be resumed
	last  time.Time
	ids   share.Allocation // one for each id in s.open and s.used
	place *list.Element
}

func newRequests(now func() time.Time, budget *share.Budget) *requests {
	return &requests{now: now, budget: budget, sessions: make(map[string]*session)}
}

// count returns the number of sessions with ids.
func (r *requests) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// lock takes the id within a session of the holder. It fails with ErrIDTaken,
// ErrSessionFull or a share.RefusedError.
func (r *requests) lock(holder share.Holder, name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	s := r.sessions[name]
	if s == nil {
		s = &session{name: name, open: make(map[string]struct{})}
		r.budget.Open(&s.ids, holder)
		s.place = r.idle.PushBack(s)
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
	err := s.ids.Take(1)
	if share.ClassOf(err) == share.All && r.forgetIdlest(s) {
		err = s.ids.Take(1)
	}
	if err != nil {
		r.forgetIfEmpty(s)
		return err
	}
	s.open[id] = struct{}{}
	r.touch(s)
	return nil
}

// unlock releases the id. If resumable is true, the id cannot be taken again.
func (r *requests) unlock(name, id string, resumable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[name]
	delete(s.open, id)
	r.touch(s)
	if resumable {
		if s.used == nil {
			s.used = make(map[string]struct{})
		}
		s.used[id] = struct{}{}
	} else {
		s.ids.Give(1)
	}
	r.forgetIfEmpty(s)
}

func (r *requests) touch(s *session) {
	s.last = r.now()
	r.idle.MoveToBack(s.place)
}

// forgetIfEmpty forgets the session if it has no ids.
func (r *requests) forgetIfEmpty(s *session) {
	if len(s.open)+len(s.used) == 0 {
		r.forget(s)
	}
}

// sweep forgets sessions that have been idle for sessionTTL. r.mu must be locked.
func (r *requests) sweep() {
	for e := r.idle.Front(); e != nil; {
		s := e.Value.(*session)
		if r.now().Sub(s.last) < sessionTTL {
			return
		}
		e = e.Next()
		if len(s.open) == 0 {
			r.forget(s)
		}
	}
}

func (r *requests) forget(s *session) {
	s.ids.Close()
	r.idle.Remove(s.place)
	delete(r.sessions, s.name)
}

// forgetIdlest forgets the session that has been idle for longest. It spares the given
// session, and every session with requests in flight. It reports whether it forgot a
// session.
func (r *requests) forgetIdlest(except *session) bool {
	for e := r.idle.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*session); len(s.open) == 0 && s != except {
			r.forget(s)
			return true
		}
	}
	return false
}
