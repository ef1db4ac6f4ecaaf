// Package server serves MCP servers that speak on stdin and stdout over HTTP, as
// streamable HTTP of all versions from 2025-03-26 (docs/adr/0052). It starts their
// processes when requests need them, and ends them when nobody uses them.
package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/process"
)

// Sharing says which sessions share a process.
type Sharing string

// The values of Sharing.
const (
	PerSession Sharing = "session" // each session has its own
	PerAccount Sharing = "account" // the sessions of an account share one
	Shared     Sharing = "shared"  // all sessions share them
)

// Options are the settings of a Server.
type Options struct {
	// Process describes the processes. Receive, TooLong and Logger are set by the
	// Server.
	Process process.Options

	Per            Sharing
	Instances      int           // the most processes that sessions share, with Shared
	MaxProcesses   int           // the most processes in all
	MaxPerAccount  int           // the most processes of one account
	Idle           time.Duration // how long a session without requests keeps its process
	StartTimeout   time.Duration // how long a process may take to answer its first request
	RequestTimeout time.Duration // how long it may take for any other; 0 for no limit
	Buffer         int           // bytes kept for each stream, and for the ended streams of a session
	StreamAfter    time.Duration // when a request without an answer gets an event stream, which can be resumed
}

// Server runs the processes of one stdio server. It is safe for concurrent use.
type Server struct {
	o      Options
	logger atomic.Pointer[slog.Logger]

	closed chan struct{} // closed when Close begins
	shut   func()
	active sync.WaitGroup // requests for which a process works

	mu       sync.Mutex
	closing  bool
	sessions map[string]*session
	peers    map[*peer]bool
	groups   map[string]*group
	failures map[string]*failures
	legacy   time.Time // until then the program is known not to speak 2026-07-28
	reaper   context.CancelFunc
}

// New returns a Server. It starts nothing until a request comes. Close must be called.
func New(o Options, logger *slog.Logger) *Server {
	s := &Server{
		o: o, closed: make(chan struct{}), sessions: make(map[string]*session), peers: make(map[*peer]bool),
		groups: make(map[string]*group), failures: make(map[string]*failures),
	}
	s.shut = sync.OnceFunc(func() { close(s.closed) })
	s.SetLogger(logger)
	s.o.Process.Logger = s.Logger
	return s
}

// SetLogger replaces the logger, because a config's logger ends with the config.
func (s *Server) SetLogger(logger *slog.Logger) { s.logger.Store(logger) }

// Logger returns the current logger.
func (s *Server) Logger() *slog.Logger { return s.logger.Load() }

// Counts returns the numbers of processes and sessions.
func (s *Server) Counts() (processes, sessions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers), len(s.sessions)
}

// Close accepts no new sessions, gives the running calls the grace of the processes, and
// then ends the processes. It returns when the last one has ended.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	if s.reaper != nil {
		s.reaper()
	}
	s.mu.Unlock()
	s.shut()
	finished := make(chan struct{})
	go func() { defer close(finished); s.active.Wait() }()
	timer := time.NewTimer(s.o.Process.Grace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
	}
	s.mu.Lock()
	var left []*peer
	for p := range s.peers {
		left = append(left, p)
		if p.proc != nil { // otherwise start ends it
			p.proc.Stop()
		}
	}
	for _, session := range s.sessions {
		session.end()
	}
	clear(s.sessions)
	s.mu.Unlock()
	for _, p := range left {
		<-p.ended
	}
}

// enter notes that a request is being served. It reports false while the server closes.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.active.Add(1)
	return true
}

// session returns the session of an account, or nil.
func (s *Server) session(id, account string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.sessions[id]
	if found == nil || found.account != account {
		return nil
	}
	return found
}

// maxSessions is how many sessions of an account may share processes.
const maxSessions = 1000

// addSession makes a session known, or returns why it cannot be.
func (s *Server) addSession(session *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errClosing
	}
	of := 0
	for _, other := range s.sessions {
		if session.own == nil && other.account == session.account {
			of++
		}
	}
	if of >= maxSessions {
		return &refusal{status: codeTooMany, retry: 10 * time.Second, reason: "this account has too many sessions: end one first"}
	}
	s.sessions[session.id] = session
	return nil
}

// endSession ends a session, and its own process.
func (s *Server) endSession(session *session) {
	s.mu.Lock()
	delete(s.sessions, session.id)
	s.mu.Unlock()
	session.end()
	if session.own != nil {
		session.own.proc.Stop()
		return
	}
	for _, c := range session.unanswered() { // otherwise a hung call keeps a shared process for ever
		c.peer.expire(c)
	}
}

// broadcast gives a notification to all sessions that share the processes of an owner.
func (s *Server) broadcast(owner string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		if session.own == nil && session.owner == owner {
			session.listener.add(raw, false, "")
		}
	}
}

// reapEvery is the longest time between two looks for idle sessions and processes.
const reapEvery = 30 * time.Second

// reap ends sessions and shared processes that are idle.
func (s *Server) reap(ctx context.Context) {
	for clock.Sleep(ctx, max(min(s.o.Idle/4, reapEvery), time.Millisecond)) == nil {
		s.mu.Lock()
		var sessions []*session
		for _, session := range s.sessions {
			if session.idle() > s.o.Idle {
				sessions = append(sessions, session)
			}
		}
		for p := range s.peers {
			if p.session == nil && p.proc != nil && p.idle() > s.o.Idle {
				s.leaveGroup(p)
				p.proc.Stop()
			}
		}
		s.mu.Unlock()
		for _, session := range sessions {
			s.endSession(session)
		}
	}
}
