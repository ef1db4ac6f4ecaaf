package engine

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/share"
)

const (
	// maxSessionIDs bounds the ids of one session that may not be used again.
	maxSessionIDs = 1 << 16
	// sessionTTL is for how long an idle session is remembered.
	sessionTTL = 24 * time.Hour
)

// The reasons for which a request's id cannot be used.
var (
	// ErrIDTaken says that a request with this id is in flight in the session, or
	// that its stream may still be resumed.
	ErrIDTaken = errors.New("a request with this id was made in this session: each needs an id of its own")
	// ErrSessionFull says that a session has had maxSessionIDs streams that may be
	// resumed. Its client must begin a new session.
	ErrSessionFull = errors.New("the session has had too many requests")
)

// requests holds the ids of the requests of sessions that are in flight, or that
// may still be answered on a resumed stream. Servers find the stream of a
// response by its request's id, some as long as the session lives. So if two
// requests had the same id, the second could be a free call that gets the paid
// result of the first.
//
// All ids count towards a budget, a session's towards the share of its key. If
// the budget is used up although every holder stays within its share, the session
// that has been idle for longest is forgotten.
type requests struct {
	now    func() time.Time
	budget *share.Budget

	mu       sync.Mutex
	sessions map[string]*session
	idle     list.List // of sessions, the last used at the back
}

type session struct {
	name  string
	open  map[string]struct{} // in flight
	used  map[string]struct{} // may be resumed
	last  time.Time
	ids   share.Allocation // as many as in open and used
	place *list.Element
}

func newRequests(now func() time.Time, budget *share.Budget) *requests {
	return &requests{now: now, budget: budget, sessions: make(map[string]*session)}
}

// lock takes the id within a session of the holder. Besides the errors above, it
// fails with a share.RefusedError.
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

// unlock gives the id back; with resumable, it cannot be taken again.
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

// forgetIfEmpty forgets a session without ids.
func (r *requests) forgetIfEmpty(s *session) {
	if len(s.open)+len(s.used) == 0 {
		r.forget(s)
	}
}

// sweep forgets sessions that have been idle for sessionTTL. The caller holds the
// mutex.
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

// forgetIdlest forgets the session other than except that has been idle for
// longest, and reports whether there was one.
func (r *requests) forgetIdlest(except *session) bool {
	for e := r.idle.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*session); len(s.open) == 0 && s != except {
			r.forget(s)
			return true
		}
	}
	return false
}
