package engine

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/share"
)

// Bounds of what is remembered of request ids.
const (
	// maxSessionIDs bounds the ids of one session that may not be used again.
	maxSessionIDs = 1 << 16
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
//
// All ids count towards a budget: a session's count as its key's. Where nobody
// has more than his share and yet there is no room, the session that has been
// idle for longest is forgotten.
type requests struct {
	now    func() time.Time
	budget *share.Budget

	mu       sync.Mutex
	sessions map[string]*session
	idle     list.List // of sessions, those used last at the end
}

type session struct {
	name  string
	open  map[string]struct{} // under way
	used  map[string]struct{} // may be resumed
	last  time.Time
	ids   share.Allocation // as many as in open and used
	place *list.Element
}

func newRequests(now func() time.Time, budget *share.Budget) *requests {
	return &requests{now: now, budget: budget, sessions: make(map[string]*session)}
}

// claim takes the id within the session of somebody. Besides the errors above,
// it fails with a share.RefusedError.
func (r *requests) claim(who share.Holder, name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	s := r.sessions[name]
	if s == nil {
		s = &session{name: name, open: make(map[string]struct{})}
		r.budget.Open(&s.ids, who)
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
		r.tidy(s)
		return err
	}
	s.open[id] = struct{}{}
	r.touch(s)
	return nil
}

// release gives the id back; with resumable, it cannot be taken again.
func (r *requests) release(name, id string, resumable bool) {
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
	r.tidy(s)
}

func (r *requests) touch(s *session) {
	s.last = r.now()
	r.idle.MoveToBack(s.place)
}

// tidy forgets a session of which nothing is left.
func (r *requests) tidy(s *session) {
	if len(s.open)+len(s.used) == 0 {
		r.forget(s)
	}
}

// sweep forgets sessions that have been idle for long. The caller holds the
// mutex.
func (r *requests) sweep() {
	for e := r.idle.Front(); e != nil; {
		s := e.Value.(*session)
		if r.now().Sub(s.last) < usedFor {
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

// forgetIdlest forgets the session that has been idle for longest, but for that
// one, and reports whether there was any.
func (r *requests) forgetIdlest(but *session) bool {
	for e := r.idle.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*session); len(s.open) == 0 && s != but {
			r.forget(s)
			return true
		}
	}
	return false
}
