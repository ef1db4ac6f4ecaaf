package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/stdio/process"
)

// The headers of streamable HTTP.
const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "MCP-Protocol-Version"
	headerEvent   = "Last-Event-ID"
)

// The versions with sessions, and the first one without.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

const (
	versionModern = "2026-07-28"
	versionPrimed = "2025-11-25" // the first version in which clients read an event without data
)

// Serve answers an HTTP request of an account, or of an unknown caller ("").
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, account string) {
	if r.Method != http.MethodPost && (r.Method != http.MethodGet && r.Method != http.MethodDelete || r.Header.Get(headerVersion) >= versionModern) {
		w.Header().Set("Allow", "GET, POST, DELETE")
		writeError(w, http.StatusMethodNotAllowed, nil, -32600, "this method is not one of this version's")
		return
	}
	if !s.enter() {
		s.refuse(w, nil, errClosing)
		return
	}
	switch r.Method {
	case http.MethodPost:
		defer s.active.Done()
		s.post(w, r, account)
	case http.MethodGet:
		s.active.Done() // an open stream holds up no end
		s.get(w, r, account)
	default:
		defer s.active.Done()
		if session := s.find(w, r, account, nil); session != nil {
			s.endSession(session)
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

// post serves a message.
func (s *Server) post(w http.ResponseWriter, r *http.Request, account string) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, nil, -32600, "Content-Type must be application/json")
		return
	}
	if !accepts(r, "application/json") || !accepts(r, "text/event-stream") {
		writeError(w, http.StatusNotAcceptable, nil, -32600, "Accept must have application/json and text/event-stream")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.o.Process.MaxLine)))
	if err != nil {
		status := http.StatusBadRequest
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		writeError(w, status, nil, -32600, "the message cannot be read: "+err.Error())
		return
	}
	m, err := parse(body, strict)
	if err != nil {
		code := -32700
		if errors.Is(err, errNoMessage) {
			code = -32600 // also a batch
		}
		writeError(w, http.StatusBadRequest, nil, code, "want one JSON-RPC message: "+err.Error())
		return
	}
	version := text(get(m.params, keyMeta, keyVersion))
	switch {
	case m.method != methodInitialize && (version != "" || r.Header.Get(headerVersion) >= versionModern):
		s.postModern(w, r, account, m, version)
	case m.method == methodInitialize && m.kind == request:
		s.initialize(w, r, account, m)
	default:
		if session := s.find(w, r, account, m.id); session != nil {
			s.postLegacy(w, r, session, m)
		}
	}
}

// accepts reports whether the request accepts a media type.
func accepts(r *http.Request, want string) bool {
	all := strings.Join(r.Header.Values("Accept"), ",")
	group, _, _ := strings.Cut(want, "/")
	for part := range strings.SplitSeq(all, ",") {
		kind, _, err := mime.ParseMediaType(part)
		if err == nil && (kind == want || kind == "*/*" || kind == group+"/*") {
			return true
		}
	}
	return false
}

// find returns the session of a request. Without a session, it answers the request.
func (s *Server) find(w http.ResponseWriter, r *http.Request, account string, id jsontext.Value) *session {
	if version := r.Header.Get(headerVersion); version != "" && !slices.Contains(legacyVersions, version) {
		writeError(w, http.StatusBadRequest, id, -32600, headerVersion+" is not a version of MCP with sessions")
		return nil
	}
	name := r.Header.Get(headerSession)
	if name == "" {
		writeError(w, http.StatusBadRequest, id, -32600, headerSession+" is missing: begin with initialize")
		return nil
	}
	session := s.session(name, account)
	if session == nil {
		writeError(w, http.StatusNotFound, id, http.StatusNotFound, "the session has ended: begin a new one")
	}
	return session
}

// initialize begins a session.
func (s *Server) initialize(w http.ResponseWriter, r *http.Request, account string, m *message) {
	session := &session{
		id: id.New("stdio_"), account: account, calls: make(map[string]*call), listener: &stream{max: s.o.Buffer}, gone: make(chan struct{}),
	}
	session.end = sync.OnceFunc(func() { close(session.gone) })
	defer session.attach()()
	var answer []byte
	var err error
	if s.o.Per == PerSession {
		answer, err = s.initializeOwn(r.Context(), session, m)
	} else {
		answer, err = s.initializeShared(r.Context(), session, m)
	}
	if err != nil {
		s.refuse(w, m.id, err)
		return
	}
	result := get(answer, "result")
	if result == nil {
		session.end()
		if session.own != nil {
			session.own.proc.Stop()
		}
		writeMessage(w, http.StatusOK, answer)
		return
	}
	session.version = text(get(result, "protocolVersion"))
	if err := s.addSession(session); err != nil {
		s.refuse(w, m.id, err)
		return
	}
	w.Header().Set(headerSession, session.id)
	writeMessage(w, http.StatusOK, answer)
}

// initializeOwn starts the process of a session and returns its response.
func (s *Server) initializeOwn(ctx context.Context, session *session, m *message) ([]byte, error) {
	p, err := s.start(ctx, session.account, "", session)
	if err != nil {
		return nil, err
	}
	session.own = p
	ctx, cancel := context.WithTimeout(ctx, s.o.StartTimeout)
	defer cancel()
	answer, err := p.ask(ctx, &call{session: session, id: m.id, method: m.method, stream: session.newStream(s.o.Buffer)}, m)
	if err != nil {
		p.proc.Stop()
		if errors.Is(err, context.DeadlineExceeded) {
			err = &refusal{status: codeTimeout, reason: "the server's program has not answered within " + s.o.StartTimeout.String() + " of its start"}
		}
	}
	return answer, err
}

// ask sends a request, and waits for the response.
func (p *peer) ask(ctx context.Context, c *call, m *message) ([]byte, error) {
	if err := p.send(ctx, c, m); err != nil {
		return nil, err
	}
	for {
		changed := c.stream.changed.Wait()
		if events, ended, _ := c.stream.after(0); ended && len(events) > 0 {
			return events[len(events)-1].data, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			p.forget(c)
			return nil, ctx.Err()
		}
	}
}

// initializeShared returns a response made from that of a shared process.
func (s *Server) initializeShared(ctx context.Context, session *session, m *message) ([]byte, error) {
	session.owner = ownerAll
	if s.o.Per == PerAccount {
		session.owner = ownerOf(session.account)
	}
	p, err := s.acquire(ctx, session.owner, session.account, s.hail)
	if err != nil {
		return nil, err
	}
	result := []byte(p.hello)
	// An older version is a subset of the version that the process has agreed to.
	if asked, agreed := text(get(m.params, "protocolVersion")), text(get(p.hello, "protocolVersion")); asked < agreed && slices.Contains(legacyVersions, asked) {
		result = set(result, quote(asked), "protocolVersion")
	}
	return slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), m.id, []byte(`,"result":`), result, []byte(`}`)), nil
}

// postLegacy serves a message of a session.
func (s *Server) postLegacy(w http.ResponseWriter, r *http.Request, session *session, m *message) {
	defer session.attach()()
	if m.kind != request {
		s.relay(w, r, session, m)
		return
	}
	p := session.own
	if p == nil {
		var err error
		if p, err = s.acquire(r.Context(), session.owner, session.account, s.hail); err != nil {
			s.refuse(w, m.id, err)
			return
		}
	}
	c := &call{session: session, id: m.id, method: m.method, stream: session.newStream(s.o.Buffer)}
	if err := p.send(r.Context(), c, m); err != nil {
		s.refuse(w, m.id, err)
		return
	}
	a := &answering{s: s, w: w, r: r, c: c}
	if session.version >= versionPrimed {
		a.after = s.o.StreamAfter
	}
	a.serve()
}

// relay serves a notification, or a response to a request of the server. A shared process
// gets only cancellations of its own calls.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, session *session, m *message) {
	var cancelled *call
	if m.method == methodCancelled {
		cancelled = session.running(keyOf(get(m.params, "requestId")))
	}
	var err error
	switch {
	case session.own != nil:
		err = session.own.proc.Send(r.Context(), m.raw)
	case cancelled != nil:
		err = cancelled.peer.proc.Send(r.Context(), set(m.raw, cancelled.sent, "params", "requestId"))
	}
	if err != nil {
		s.refuse(w, nil, err)
		return
	}
	if cancelled != nil {
		time.AfterFunc(s.o.Process.Grace, func() { cancelled.peer.expire(cancelled) })
	}
	w.WriteHeader(http.StatusAccepted)
}

// get serves the stream of a session, or the rest of an earlier stream.
func (s *Server) get(w http.ResponseWriter, r *http.Request, account string) {
	if !accepts(r, "text/event-stream") {
		writeError(w, http.StatusNotAcceptable, nil, -32600, "Accept must have text/event-stream")
		return
	}
	session := s.find(w, r, account, nil)
	if session == nil {
		return
	}
	defer session.attach()()
	from, last := session.listener, -1
	if event := r.Header.Get(headerEvent); event != "" {
		number, seq, ok := parseEventID(event)
		if ok {
			from, last = session.stream(number), seq
		}
		if !ok || from == nil {
			writeError(w, http.StatusBadRequest, nil, -32600, "the stream of this "+headerEvent+" is not kept any more")
			return
		}
	}
	g := &getting{s: s, session: session, out: newEvents(w, from, true)}
	if from == session.listener {
		sent, replaced, end := session.listen()
		defer end()
		g.replaced = replaced
		if last < 0 {
			last = sent
		}
	}
	g.serve(r.Context(), from, last)
}

// getting is a response to a GET.
type getting struct {
	s        *Server
	session  *session
	out      *events
	replaced <-chan struct{} // nil for the stream of a request
}

// serve sends the events of the stream after a given one, until the stream or the session
// ends.
func (g *getting) serve(ctx context.Context, from *stream, last int) {
	defer g.session.finished(g.s.o.Buffer)
	defer from.read()()
	g.out.begin()
	for {
		changed := from.changed.Wait()
		events, ended, _ := from.after(last)
		for _, e := range events {
			if g.out.send(e) != nil {
				return
			}
			last = e.seq
		}
		if from == g.session.listener {
			g.session.delivered(last)
		}
		if ended {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-g.session.gone:
			return
		case <-g.replaced:
			return
		case <-g.s.closed:
			return
		}
	}
}

// refuse answers a request that no process works on.
func (s *Server) refuse(w http.ResponseWriter, id jsontext.Value, err error) {
	var r *refusal
	switch {
	case errors.As(err, &r):
	case errors.Is(err, errIDTaken):
		r = &refusal{status: http.StatusBadRequest, reason: err.Error()}
	case errors.Is(err, process.ErrEnded):
		r = &refusal{status: codeBadGateway, reason: err.Error()}
	default: // the client has left, or MaxCall of farebox has passed
		r = &refusal{status: codeTimeout, reason: "the server's program did not take the request: " + err.Error()}
	}
	if r.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((r.retry+time.Second-1)/time.Second)))
	}
	writeError(w, r.status, id, r.status, r.reason)
}

func writeError(w http.ResponseWriter, status int, id jsontext.Value, code int, reason string) {
	writeMessage(w, status, failure(id, code, reason, nil))
}

func writeMessage(w http.ResponseWriter, status int, message []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(message)))
	w.WriteHeader(status)
	_, _ = w.Write(message) // fails only if the client has left
}

// eventID returns the id of an event for clients, and parseEventID reads one.
func eventID(stream int64, seq int) string {
	return strconv.FormatInt(stream, 10) + "-" + strconv.Itoa(seq)
}

func parseEventID(text string) (stream int64, seq int, ok bool) {
	a, b, _ := strings.Cut(text, "-")
	stream, err := strconv.ParseInt(a, 10, 64)
	seq, err2 := strconv.Atoi(b)
	return stream, seq, cmp.Or(err, err2) == nil && seq >= 0
}

// events writes an event stream.
type events struct {
	w      http.ResponseWriter
	number int64
	ids    bool // whether the events have ids
	begun  bool
	buf    bytes.Buffer
}

func newEvents(w http.ResponseWriter, of *stream, ids bool) *events {
	return &events{w: w, number: of.number, ids: ids}
}

// begin sends the head at once, because some clients wait for it.
func (e *events) begin() {
	if e.begun {
		return
	}
	e.begun = true
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	e.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(e.w).Flush() // an error comes again with the next write
}

// prime sends an event without data. A client can resume from its id (SEP-1699).
func (e *events) prime() {
	_, _ = io.WriteString(e.w, "id: "+eventID(e.number, 0)+"\ndata: \n\n") // as in begin
	_ = http.NewResponseController(e.w).Flush()
}

// send sends an event.
func (e *events) send(ev event) error {
	e.buf.Reset()
	e.buf.WriteString("event: message\n")
	if e.ids {
		e.buf.WriteString("id: " + eventID(e.number, ev.seq) + "\n")
	}
	e.buf.WriteString("data: ")
	_, _ = e.w.Write(e.buf.Bytes()) // as in begin
	_, _ = e.w.Write(ev.data)
	if _, err := io.WriteString(e.w, "\n\n"); err != nil {
		return err
	}
	return http.NewResponseController(e.w).Flush()
}
