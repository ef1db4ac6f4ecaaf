package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// state is a session as a request saw it when it was sent.
type state struct {
	id         string // Mcp-Session-Id; "" if the server has no sessions
	version    string // the negotiated protocol version; "" before initialize
	generation int    // the number of sessions before this one
}

// session is the client's session, which may be several sessions of the server in turn.
// It is safe for concurrent use.
type session struct {
	mu       sync.Mutex
	state    state
	hello    []byte            // the client's initialize
	ready    []byte            // the client's notifications/initialized; nil before it
	settings map[string][]byte // requests that a new session needs again
	safe     map[string]bool   // tools that may run twice
	stream   context.CancelFunc

	renewing sync.Mutex // held while a new session begins
	renewed  int        // for the ids of the bridge's own requests
}

func (s *session) now() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	return &state
}

// begun records a session that initialize has begun. version is the version in the
// result.
func (s *session) begun(hello []byte, id, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hello, s.settings = hello, make(map[string][]byte)
	s.state = state{id: id, version: version, generation: s.state.generation + 1}
}

func (s *session) initialized(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = body
}

// setSafe records whether a tool may run twice without harm, as the server says.
func (s *session) setSafe(tool string, safe bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.safe == nil {
		s.safe = make(map[string]bool)
	}
	s.safe[tool] = safe
}

func (s *session) isSafe(tool string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.safe[tool]
}

// remember records a request that has changed the session and succeeded.
func (s *session) remember(m *mcp.Message, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.settings == nil:
	case m.Method == "logging/setLevel":
		s.settings[m.Method] = body
	case m.Method == "resources/subscribe":
		s.settings["resource "+m.URI] = body
	case m.Method == "resources/unsubscribe":
		delete(s.settings, "resource "+m.URI)
	}
}

// isLost reports whether a response says that the session has ended. The status is 404
// by the specification; the official server-everything answers 400.
func (b *Bridge) isLost(status int, body []byte, seen *state) bool {
	if seen == nil || seen.id == "" {
		return false
	}
	return status == http.StatusNotFound || status == http.StatusBadRequest && bytes.Contains(bytes.ToLower(body), []byte("session"))
}

var errNoSession = errors.New("the server has ended the session, and the client has not begun one that can be repeated")

// renewTime bounds the beginning of a new session.
const renewTime = time.Minute

// renew begins a new session in place of the one that was seen, with the client's own
// initialize. If another call has done so already, it does nothing. The session belongs
// to all calls, so its beginning does not end with the call, or the stream, that needed
// it first.
func (b *Bridge) renew(seen *state) error {
	s := &b.session
	s.renewing.Lock()
	defer s.renewing.Unlock()
	s.mu.Lock()
	hello, ready, current := s.hello, s.ready, s.state.generation
	s.mu.Unlock()
	if current != seen.generation {
		return nil
	}
	if hello == nil {
		return errNoSession
	}
	b.notes.say("the session has ended; beginning a new one")
	ctx, cancel := context.WithTimeout(b.ctx, renewTime)
	defer cancel()
	result, err := b.ask(ctx, hello)
	if err != nil {
		return fmt.Errorf("begin a new session: %w", err)
	}
	s.mu.Lock()
	s.state = state{id: result.session, version: versionIn(result.message), generation: current + 1}
	s.mu.Unlock()
	if ready == nil {
		return nil
	}
	m := &mcp.Message{Kind: mcp.KindNotification, Method: "notifications/initialized"}
	if err := b.send(m, ready, false); err != nil {
		return fmt.Errorf("begin a new session: notifications/initialized %w", err)
	}
	b.listen()
	s.mu.Lock()
	settings := maps.Clone(s.settings) // calls add to it meanwhile
	s.mu.Unlock()
	for _, setting := range settings {
		if _, err := b.ask(ctx, setting); err != nil {
			b.notes.say("a setting of the old session could not be repeated: %v", err)
		}
	}
	return nil
}

// ask sends a request of the client again, under an id of the bridge's own, and returns
// its result.
func (b *Bridge) ask(ctx context.Context, body []byte) (result, error) {
	b.session.renewed++
	own := mcp.StringID("farebox-connect-" + strconv.Itoa(b.session.renewed))
	body, err := mcp.WithID(body, own)
	if err != nil {
		return result{}, err
	}
	m, err := mcp.Decode(body)
	if err != nil {
		return result{}, err
	}
	c := &call{m: &m, body: body, era: mcp.EraSession, ctx: ctx, sent: make(chan struct{})}
	r := b.attempt(c)
	switch {
	case r.state != answered:
		return r, r.reason()
	case r.verdict.Outcome == mcp.OutcomeError:
		return r, fmt.Errorf("the server answered %s", clip(r.message))
	}
	return r, nil
}

// versionIn returns the protocol version in the result of initialize.
func versionIn(message []byte) string {
	var m struct {
		Result struct {
			Version string `json:"protocolVersion"`
		} `json:"result"`
	}
	_ = json.Unmarshal(message, &m) // a result without a version leaves the header out
	return m.Result.Version
}

// endSession ends the session at the server.
func (b *Bridge) endSession() {
	seen := b.session.now()
	if seen.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), endTime)
	defer cancel()
	resp, err := b.authorized(ctx, func(token string) (*http.Response, error) {
		r, err := b.newRequest(ctx, http.MethodDelete, nil, seen, token)
		if err != nil {
			return nil, err
		}
		return b.http.Do(r)
	})
	if err != nil { // the server ends the session by itself
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}
