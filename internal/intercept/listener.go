package intercept

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

var errListener = errors.New("farebox: a stream opened by GET brought a message that is not an event, or is too long")

// Listener is the response writer of a stream that a client has opened by GET, in the
// session-based protocol versions. It passes notifications and server requests. It
// drops results and errors: they could only be responses to calls made by POST, and
// such responses must be paid for. A GET that resumes the stream of a POST goes through
// an Interceptor instead.
type Listener struct {
	Relay
	rc     *http.ResponseController
	every  time.Duration
	mu     sync.Mutex // guards everything else, because comments and flushes come from timers
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
	began    bool // the stream has had an event with data
	skips    bool // the current event is left out
}

// NewListener returns a Listener that writes to w. head is as in NewRelay. seal(id)
// returns the id that replaces an event id, with which the client can resume the
// stream. event(r) formats a refusal as an event. notifies(message) reports whether a
// guarded notification may pass to this caller; see mcp.Verdict. leftOut(reason) is
// called when an event is left out; leftOut may be nil. The bytes that the Listener
// holds count towards the budget until Close is called.
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

// Keepalive makes the Listener send a comment whenever the stream has been quiet for
// the given time.
func (l *Listener) Keepalive(every time.Duration) { l.every = every }

// beat sends a comment on a quiet stream.
func (l *Listener) beat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || !l.pulse.due(true) {
		return
	}
	if l.send(heartbeat) != nil || l.flush() != nil {
		l.cut = true // nothing more can be sent; net/http ends the request when the connection ends
	}
}

// send writes to the client, within the write timeout.
func (l *Listener) send(p []byte) error {
	defer bound(l.rc, DefaultWriteTimeout)()
	_, err := l.w.Write(p)
	return err
}

func (l *Listener) flush() error {
	defer bound(l.rc, DefaultWriteTimeout)()
	return l.Relay.FlushError()
}

// FlushError flushes the bytes that have been sent.
func (l *Listener) FlushError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

// Flush is FlushError for callers that only know http.Flusher.
func (l *Listener) Flush() { _ = l.FlushError() }

// oldTransport refuses servers of the HTTP+SSE transport (MCP 2024-11-05). They send
// their responses on this stream, where no response can be matched to a call.
var oldTransport = &gate.Refusal{
	Code:   gate.RequestUnsupported,
	Reason: "this server speaks the old HTTP+SSE transport, which is not supported: have it serve streamable HTTP",
}

// isEndpoint reports whether the event is the endpoint event, with which a stream of
// the old transport begins.
func isEndpoint(event []byte) bool {
	for line := range bytes.Lines(event) {
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if string(name) == "event" && string(bytes.TrimPrefix(value, []byte(" "))) == "endpoint" {
			return true
		}
	}
	return false
}

// Close returns the held bytes to the budget. After Close, the Listener writes
// nothing.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pulse.end()
	l.drop()
}

// drop discards the held event.
func (l *Listener) drop() {
	l.budget.Give(int64(len(l.hold)))
	l.hold = nil
}

// WriteHeader passes the head on. It withholds a success that is not an event stream.
func (l *Listener) WriteHeader(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if status >= 200 && status < 300 && !l.sentHead {
		if mediaType(l.Header()) == typeEvents && len(l.Header().Values("Content-Encoding")) == 0 {
			l.events = mcp.NewEventScanner(mcp.ID{})
		} else {
			l.withheld = true // the body could be a response
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

// Write passes on every event that is not a response. A message longer than
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
			l.reportLeftOut(tooLongToRead)
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

// keep adds a piece to the held event. An event that becomes too long is left out
// if its type is not message. If its type is message, or if the budget is
// exhausted, keep returns false, and the stream ends.
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

func (l *Listener) reportLeftOut(reason string) {
	if l.leftOut != nil {
		l.leftOut(reason)
	}
}

// passes reports whether the held event may pass.
func (l *Listener) passes(v mcp.Verdict) bool {
	switch v.Class {
	case mcp.ClassEmpty:
		return true
	case mcp.ClassPassing:
		return !v.Guarded || l.notifies(mcp.EventData(l.hold))
	}
	passes := l.events.Fate(l.hold) == mcp.FatePasses
	if !passes {
		l.reportLeftOut(reasonOf(v))
	}
	return passes
}

// ReadFrom copies through Write, so that every event is filtered.
func (l *Listener) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{l}, src)
}
