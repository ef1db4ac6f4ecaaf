package intercept

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Relay is the response writer of what has no answer: notifications, the client's
// own answers, the end of a session. Statuses and the words of errors pass; a
// message that could be taken for the answer to some call does not, since that
// is paid where it belongs. Nor does a switch of protocols, which would be a
// tunnel past the gateway, or a status that is none.
type Relay struct {
	w        http.ResponseWriter
	head     func(http.Header)
	status   int
	sentHead bool
	withheld bool
	mute     bool // the body is dropped
	message  bool // the body is held, as a message that may be an error
	hold     []byte
}

// maxError bounds the message of an error that passes, in bytes.
const maxError = 64 << 10

// NewRelay returns a relay to w. Head changes the head of the response just
// before it goes out; it may be nil. Finish must be called at the end.
func NewRelay(w http.ResponseWriter, head func(http.Header)) *Relay {
	return &Relay{w: w, head: head}
}

// SentHead reports whether the final head is out.
func (r *Relay) SentHead() bool { return r.sentHead }

// Withheld reports whether the upstream's response was one that may not pass.
// Nothing of it was written then.
func (r *Relay) Withheld() bool { return r.withheld }

// Header returns the header of the response.
func (r *Relay) Header() http.Header { return r.w.Header() }

// Unwrap returns the writer below, for flushes and deadlines.
func (r *Relay) Unwrap() http.ResponseWriter { return r.w }

// Hijack always fails, so that http.ResponseController looks no deeper.
func (r *Relay) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// WriteHeader passes the head on, unless it switches protocols or cannot be
// written: net/http panics at a status below 100.
func (r *Relay) WriteHeader(status int) {
	switch {
	case r.withheld, r.status != 0:
		return
	case status == http.StatusSwitchingProtocols || status < 100:
		r.withheld = true
		return
	case status < 200:
		r.w.WriteHeader(status)
		return
	}
	r.status = status
	media := mediaType(r.Header())
	r.mute = status < 400 || media == typeEvents
	if r.message = !r.mute && (media == typeJSON || media == ""); r.message {
		return // its head waits for the verdict on the body
	}
	if r.mute {
		r.Header().Del("Content-Length")
	}
	r.sendHead()
}

func (r *Relay) sendHead() {
	if r.head != nil {
		r.head(r.Header())
	}
	r.sentHead = true
	r.w.WriteHeader(r.status)
}

// Write takes a piece of the body.
func (r *Relay) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	switch {
	case r.withheld, r.mute:
		return len(p), nil
	case r.message:
		if len(r.hold)+len(p) > maxError {
			r.mute, r.hold = true, nil
		} else {
			r.hold = append(r.hold, p...)
		}
		return len(p), nil
	}
	return r.w.Write(p)
}

// Finish ends the response after the upstream's handler has returned: a message
// passes unless it has a result.
func (r *Relay) Finish() {
	if !r.message || r.sentHead || r.withheld {
		return
	}
	s := mcp.NewScanner(mcp.ID{})
	s.Write(r.hold)
	if s.End(); s.HasResult() {
		r.hold = nil
	}
	r.Header().Set("Content-Length", strconv.Itoa(len(r.hold)))
	r.sendHead()
	_, _ = r.w.Write(r.hold) // if the client has left, there is nobody to tell
}

// mediaType is the content type without its parameters, in lower case.
func mediaType(h http.Header) string {
	media, _, _ := strings.Cut(strings.Join(h.Values("Content-Type"), ","), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// FlushError sends what is there to go. Before the head is decided there is
// nothing: the writer below would send one of its own.
func (r *Relay) FlushError() error {
	if !r.sentHead || r.withheld {
		return nil
	}
	return http.NewResponseController(r.w).Flush()
}

// Flush is FlushError for callers that know only http.Flusher.
func (r *Relay) Flush() { _ = r.FlushError() }

// ReadFrom copies through Write: the promoted one would run past the relay.
func (r *Relay) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{r}, src)
}

// Listener is the response writer of a stream that a client has opened by GET,
// in the session-based protocol versions. Notifications and the server's own
// requests pass; results and errors are dropped, since on such a stream they
// could only be answers to calls of a POST, which are paid there. The rest of the
// stream of a POST that broke off is a Tap's.
type Listener struct {
	Relay
	rc     *http.ResponseController
	every  time.Duration
	mu     sync.Mutex // guards all else: comments and flushes come from timers
	pulse  pulse
	ids    mcp.EventIDs
	out    []byte
	events *mcp.EventScanner
	budget Budget
	hold   []byte
	cut    bool
	event  func(*gate.Refusal) []byte

	notifies func(message []byte) bool
	leftOut  func(reason string)
	began    bool // an event with data has come
	skips    bool // the event at hand is left out
}

// NewListener returns a listener's writer to w; see NewRelay for head. Seal gives
// event ids the form in which a client may come back with them. Event tells of a
// refusal on a stream whose head is out. Notifies reports whether a notification
// may pass that is not for every caller; see mcp.Verdict. LeftOut is told why an
// event is left out, and may be nil. What the listener holds counts towards the
// budget until Close is called.
func NewListener(w http.ResponseWriter, head func(http.Header), seal func(id []byte) []byte, b Budget,
	event func(*gate.Refusal) []byte, notifies func(message []byte) bool, leftOut func(reason string),
) *Listener {
	if seal == nil {
		seal = func(id []byte) []byte { return id }
	}
	return &Listener{
		Relay: Relay{w: w, head: head}, rc: http.NewResponseController(w),
		ids: mcp.EventIDs{Replace: seal}, budget: b, event: event, notifies: notifies, leftOut: leftOut,
	}
}

// Keepalive has a comment sent on the stream, once it has begun, when it was quiet
// for so long.
func (l *Listener) Keepalive(every time.Duration) { l.every = every }

// beat sends a comment on a stream that is quiet.
func (l *Listener) beat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || !l.pulse.due(true) {
		return
	}
	if l.send(heartbeat) != nil || l.flush() != nil {
		l.cut = true // net/http ends the request with the connection
	}
}

// send writes to a client that has some time to accept it.
func (l *Listener) send(p []byte) error {
	defer bound(l.rc, DefaultWriteTimeout)()
	_, err := l.w.Write(p)
	return err
}

func (l *Listener) flush() error {
	defer bound(l.rc, DefaultWriteTimeout)()
	return l.Relay.FlushError()
}

// FlushError sends what is there to go.
func (l *Listener) FlushError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

// Flush is FlushError for callers that know only http.Flusher.
func (l *Listener) Flush() { _ = l.FlushError() }

// oldTransport is why a server of the HTTP+SSE transport (MCP 2024-11-05) cannot
// be used: its answers come on this stream, where they belong to no call.
var oldTransport = &gate.Refusal{
	Code:   gate.RequestUnsupported,
	Reason: "this server speaks the old HTTP+SSE transport, which is not supported: have it serve streamable HTTP",
}

// isEndpoint reports whether an event is the one with which a stream of the old
// transport begins.
func isEndpoint(event []byte) bool {
	for line := range bytes.Lines(event) {
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if string(name) == "event" && string(bytes.TrimPrefix(value, []byte(" "))) == "endpoint" {
			return true
		}
	}
	return false
}

// Close gives what is held back to the budget. Nothing is written any more when it
// returns.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pulse.end()
	l.drop()
}

// drop gives up the event that is held.
func (l *Listener) drop() {
	l.budget.Give(int64(len(l.hold)))
	l.hold = nil
}

// WriteHeader passes the head on, and filters what follows if it is events.
func (l *Listener) WriteHeader(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if status >= 200 && status < 300 && !l.sentHead {
		if mediaType(l.Header()) == typeEvents && len(l.Header().Values("Content-Encoding")) == 0 {
			l.events = mcp.NewEventScanner(mcp.ID{})
		} else {
			l.withheld = true // a body that cannot be told from an answer
			return
		}
		l.status = status
		l.Header().Del("Content-Length")
		l.sendHead()
		l.pulse.begin(l.every, l.beat)
		return
	}
	l.Relay.WriteHeader(status)
}

// Write passes the events on that are no answers. A message longer than
// DefaultHold ends the stream.
func (l *Listener) Write(p []byte) (int, error) {
	if l.status == 0 && !l.withheld {
		l.WriteHeader(http.StatusOK)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cut:
		return 0, errListener
	case l.events == nil || l.withheld:
		return l.Relay.Write(p)
	}
	for rest := p; len(rest) > 0; {
		n, done := l.events.Scan(rest)
		piece := rest[:n]
		rest = rest[n:]
		if !l.keep(piece) {
			l.cut = true
			return 0, errListener
		}
		if !done {
			continue
		}
		if l.skips {
			l.skips = false
			l.tellLeftOut(tooLongToRead)
			continue
		}
		if !l.began && isEndpoint(l.hold) {
			l.cut = true
			return 0, errors.Join(errListener, l.send(l.event(oldTransport)), l.flush())
		}
		l.began = l.began || l.events.HasData()
		if l.passes(l.events.Verdict()) {
			l.out = l.ids.Append(l.out[:0], l.hold)
			if err := l.send(l.pulse.sends(l.out)); err != nil {
				return 0, err
			}
		}
		l.budget.Give(int64(len(l.hold)))
		l.hold = l.hold[:0]
	}
	return len(p), nil
}

// keep adds to the event that is held. One of another type that is too long for
// that is left out; false says of another that the stream must end.
func (l *Listener) keep(piece []byte) bool {
	switch {
	case l.skips:
	case len(l.hold)+len(piece) > DefaultHold && l.events.OtherType():
		l.drop()
		l.skips = true
	case len(l.hold)+len(piece) > DefaultHold || l.budget.Take(int64(len(piece))) != nil:
		return false
	default:
		l.hold = append(l.hold, piece...)
	}
	return true
}

func (l *Listener) tellLeftOut(reason string) {
	if l.leftOut != nil {
		l.leftOut(reason)
	}
}

// passes reports whether the event that is held may go.
func (l *Listener) passes(v mcp.Verdict) bool {
	switch v.Class {
	case mcp.ClassEmpty:
		return true
	case mcp.ClassPassing:
		return !v.Guarded || l.notifies(mcp.EventData(l.hold))
	}
	passes := l.events.Fate(l.hold) == mcp.FatePasses
	if !passes {
		l.tellLeftOut(reasonOf(v))
	}
	return passes
}

// ReadFrom copies through Write, so that nothing escapes the filter.
func (l *Listener) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{l}, src)
}
