package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/lines"
	"github.com/fareboxhq/farebox/internal/stdio/process"
)

// Codes of errors that this package makes. They are those of HTTP, and outside the range
// that JSON-RPC reserves.
const (
	codeCancelled   = 499 // as nginx has it
	codeTooMany     = http.StatusTooManyRequests
	codeBadGateway  = http.StatusBadGateway
	codeUnavailable = http.StatusServiceUnavailable
	codeTimeout     = http.StatusGatewayTimeout
)

// refusal is a reason why no process works on a request.
type refusal struct {
	status int // the status of the HTTP response, and the code of the JSON-RPC error
	reason string
	retry  time.Duration // after which the client may try again; 0 if unknown
}

func (r *refusal) Error() string { return r.reason }

var errClosing = &refusal{status: codeUnavailable, reason: "this server is being stopped: try again", retry: time.Second}

// group has the processes that the callers of one owner share.
type group struct {
	owner    string
	peers    []*peer
	starting chan struct{} // has a value while nobody starts a process
}

// failures counts how often in a row the processes of an owner have died young.
type failures struct {
	count int
	until time.Time // before which no process is started
}

// A process that dies within young has failed. From the second failure in a row on, the
// next start waits, twice as long each time.
const (
	young      = 10 * time.Second
	firstPause = time.Second
	lastPause  = time.Minute
)

// start starts a process for an account. A process of its own gets its session, and a
// shared one gets none.
func (s *Server) start(ctx context.Context, account, owner string, own *session) (*peer, error) {
	p := &peer{
		s: s, account: account, owner: owner, mixed: own == nil && account == "", session: own, began: clock.Now(), used: clock.Now(),
		ended: make(chan struct{}), calls: make(map[string]*call), tokens: make(map[string]*call),
	}
	for {
		evicted, err := s.reserve(p)
		if err == nil {
			break
		}
		if evicted == nil {
			return nil, err
		}
		select {
		case <-evicted.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	o := s.o.Process
	ready := make(chan struct{})
	o.TooLong = func(err *lines.TooLongError) { <-ready; p.tooLong(err) }
	o.Receive = func(line []byte) { <-ready; p.receive(line) } // not before p.proc is set
	proc, err := process.Start(o)
	if err != nil {
		s.mu.Lock()
		delete(s.peers, p)
		s.fail(p)
		s.mu.Unlock()
		close(p.ended)
		s.Logger().Error("a stdio server cannot be started", "error", err)
		return nil, &refusal{status: codeBadGateway, reason: "the server's program cannot be started"}
	}
	s.mu.Lock()
	p.proc = proc
	closing := s.closing
	s.mu.Unlock()
	close(ready)
	go p.await()
	if closing {
		proc.Stop()
		return nil, errClosing
	}
	return p, nil
}

// reserve counts a new process, or returns why there cannot be one. If a process has to
// end first, it is returned, too, and is about to end: that of the account's session that
// has been idle for longest.
func (s *Server) reserve(p *peer) (evicted *peer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, errClosing
	}
	if f := s.failures[failureOwner(p)]; f != nil {
		if wait := clock.Until(f.until); wait > 0 {
			return nil, &refusal{status: codeUnavailable, retry: wait, reason: "the server's program has ended too often just after its start"}
		}
	}
	of := 0
	for other := range s.peers {
		if other.account == p.account {
			of++
		}
	}
	switch {
	case p.account != "" && of >= s.o.MaxPerAccount:
		err = &refusal{status: codeTooMany, retry: 10 * time.Second, reason: fmt.Sprintf("this account has %d processes of the server, which is the most: end a session first", of)}
	case len(s.peers) >= s.o.MaxProcesses:
		err = &refusal{status: codeUnavailable, retry: 10 * time.Second, reason: fmt.Sprintf("all %d processes of the server are in use", len(s.peers))}
	default:
		s.peers[p] = true
		if s.reaper == nil {
			ctx, stop := context.WithCancel(context.Background())
			s.reaper = stop
			go s.reap(ctx)
		}
		return nil, nil
	}
	if victim := s.longestIdle(p.account); victim != nil {
		delete(s.sessions, victim.id)
		victim.end()
		victim.own.proc.Stop()
		return victim.own, err
	}
	return nil, err
}

// longestIdle returns the account's session without a request that has been idle for
// longest and has a process of its own, or nil. The caller holds the lock.
func (s *Server) longestIdle(account string) (longest *session) {
	var most time.Duration
	for _, session := range s.sessions {
		if session.own == nil || session.account != account || session.own.busy() > 0 {
			continue
		}
		if idle := session.idle(); idle > most {
			longest, most = session, idle
		}
	}
	return longest
}

// failureOwner returns the key under which failures of the process are counted.
func failureOwner(p *peer) string {
	if p.owner != "" {
		return p.owner
	}
	return ownerOf(p.account)
}

// fail notes that a process has died young. The caller holds the lock.
func (s *Server) fail(p *peer) {
	for owner, f := range s.failures { // those that have been quiet for long are forgotten
		if clock.Since(f.until) > lastPause {
			delete(s.failures, owner)
		}
	}
	owner := failureOwner(p)
	f := s.failures[owner]
	if f == nil {
		f = new(failures)
		s.failures[owner] = f
	}
	f.count++
	f.until = clock.Now()
	if f.count > 1 {
		f.until = f.until.Add(min(firstPause<<min(f.count-2, 10), lastPause))
	}
}

// await waits for the end of the process, and ends its calls and its session.
func (p *peer) await() {
	<-p.proc.Done()
	s := p.s
	s.mu.Lock()
	delete(s.peers, p)
	s.leaveGroup(p)
	switch {
	case p.proc.Stopped():
	case clock.Since(p.began) < young:
		s.fail(p)
	default:
		delete(s.failures, failureOwner(p))
	}
	if p.session != nil {
		delete(s.sessions, p.session.id)
	}
	s.mu.Unlock()
	if p.proc.Stopped() {
		s.Logger().Debug("a stdio server has ended", "pid", p.proc.PID(), "end", p.proc.Err().Error())
	} else {
		s.Logger().Warn("a stdio server has ended by itself", "pid", p.proc.PID(), "end", p.proc.Err().Error())
	}
	p.fail(codeBadGateway, p.proc.Err().Error())
	if p.session != nil {
		p.session.end()
	}
	close(p.ended)
}

// leaveGroup takes a shared process from its group, so that no new call comes to it. The
// caller holds the lock.
func (s *Server) leaveGroup(p *peer) {
	g := s.groups[p.owner]
	if g == nil {
		return
	}
	g.peers = slices.DeleteFunc(g.peers, func(other *peer) bool { return other == p })
	if len(g.peers) == 0 && len(g.starting) > 0 {
		delete(s.groups, p.owner)
	}
}

// ownerAll is the owner of processes that all accounts share.
const ownerAll = "all"

// ownerOf returns the owner of the processes that the sessions of an account share.
func ownerOf(account string) string {
	if account == "" {
		return ownerAll
	}
	return "account " + account
}

// errLegacy reports that the program does not speak 2026-07-28.
var errLegacy = errors.New("the server does not speak this version")

// acquire returns the shared process with the fewest calls. It starts one if there is
// none, or if all have calls and there may be more. hail makes the handshake with a new
// process.
func (s *Server) acquire(ctx context.Context, owner, account string, hail func(context.Context, *peer) error) (*peer, error) {
	s.mu.Lock()
	g := s.groups[owner]
	if g == nil {
		g = &group{owner: owner, starting: make(chan struct{}, 1)}
		g.starting <- struct{}{}
		s.groups[owner] = g
	}
	p, enough := g.pick(s.instances(owner))
	s.mu.Unlock()
	if enough {
		return p, nil
	}
	if p != nil { // it will do if another process is being started now
		select {
		case <-g.starting:
		default:
			return p, nil
		}
	} else {
		select {
		case <-g.starting:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { g.starting <- struct{}{} }()
	s.mu.Lock()
	again, enough := g.pick(s.instances(owner))
	s.mu.Unlock()
	if enough {
		return again, nil
	}
	if started, err := s.startShared(ctx, g, account, hail); err == nil || again == nil {
		return started, err
	}
	return again, nil
}

func (s *Server) startShared(ctx context.Context, g *group, account string, hail func(context.Context, *peer) error) (*peer, error) {
	if g.owner == ownerAll || g.owner == modernOwner(ownerAll) {
		account = ""
	}
	p, err := s.start(ctx, account, g.owner, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.StartTimeout)
	defer cancel()
	if err := hail(ctx, p); err != nil {
		p.proc.Stop()
		if errors.Is(err, context.DeadlineExceeded) {
			err = &refusal{status: codeTimeout, reason: fmt.Sprintf("the server's program has not answered within %s of its start", s.o.StartTimeout)}
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.peers = append(g.peers, p)
	s.groups[g.owner] = g
	return p, nil
}

// instances returns how many processes an owner may have.
func (s *Server) instances(owner string) int {
	if owner == ownerAll || owner == modernOwner(ownerAll) {
		return s.o.Instances
	}
	return 1
}

// pick returns the process with the fewest calls, or nil, and whether no other should be
// started. The caller holds the server's lock.
func (g *group) pick(most int) (least *peer, enough bool) {
	calls := 0
	for _, p := range g.peers {
		if n := p.busy(); least == nil || n < calls {
			least, calls = p, n
		}
	}
	if least != nil {
		least.touch() // so that it is not taken for idle now
	}
	return least, least != nil && (calls == 0 || len(g.peers) >= most)
}
