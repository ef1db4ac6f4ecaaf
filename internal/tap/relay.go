package tap

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// Relay is the response writer of a request that costs nothing. All passes as
// it comes, but a switch of protocols: that would be a tunnel past the gateway.
type Relay struct {
	http.ResponseWriter
	head     func(http.Header)
	sentHead bool
	withheld bool
	seal     func([]byte) []byte
	ids      *mcp.EventIDs // of an event stream whose ids are sealed
	out      []byte
}

// NewRelay returns a relay to w. Head changes the head of the response just
// before it goes out, and seal the ids of its events; both may be nil.
func NewRelay(w http.ResponseWriter, head func(http.Header), seal func(id []byte) []byte) *Relay {
	return &Relay{ResponseWriter: w, head: head, seal: seal}
}

// SentHead reports whether the final head is out.
func (r *Relay) SentHead() bool { return r.sentHead }

// Withheld reports whether the upstream's response was one that may not pass.
// Nothing of it was written then.
func (r *Relay) Withheld() bool { return r.withheld }

// Unwrap returns the writer below, for flushes and deadlines.
func (r *Relay) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Hijack always fails, so that http.ResponseController looks no deeper.
func (r *Relay) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// WriteHeader passes the head on, unless it switches protocols.
func (r *Relay) WriteHeader(status int) {
	if r.withheld {
		return
	}
	if status == http.StatusSwitchingProtocols {
		r.withheld = true
		return
	}
	if status >= 200 && !r.sentHead {
		r.sentHead = true
		if r.seal != nil && mediaType(r.Header()) == typeEvents {
			r.ids = &mcp.EventIDs{Replace: r.seal}
			r.Header().Del("Content-Length")
		}
		if r.head != nil {
			r.head(r.Header())
		}
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write passes a piece of the body on.
func (r *Relay) Write(p []byte) (int, error) {
	if !r.sentHead && !r.withheld {
		r.WriteHeader(http.StatusOK)
	}
	if r.withheld {
		return len(p), nil
	}
	if r.ids == nil {
		return r.ResponseWriter.Write(p)
	}
	r.out = r.ids.Append(r.out[:0], p)
	if _, err := r.ResponseWriter.Write(r.out); err != nil {
		return 0, err
	}
	return len(p), nil
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
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// Flush is FlushError for callers that know only http.Flusher.
func (r *Relay) Flush() { _ = r.FlushError() }

// ReadFrom copies with the writer below, which may do so without a buffer.
func (r *Relay) ReadFrom(src io.Reader) (int64, error) {
	if !r.sentHead && !r.withheld {
		r.WriteHeader(http.StatusOK)
	}
	if r.withheld {
		return io.Copy(io.Discard, src)
	}
	if r.ids != nil {
		return io.Copy(struct{ io.Writer }{r}, src)
	}
	return io.Copy(r.ResponseWriter, src)
}

// Listener is the response writer of a stream that a client has opened by GET,
// in the session-based protocol versions. Notifications and the server's own
// requests pass; results and errors are dropped, since on such a stream they
// could only be answers to calls of a POST, which are paid there. The rest of the
// stream of a POST that broke off is a Tap's. A subscription of the stateless
// version is a listener, too: one that has an end, the answer to its request.
type Listener struct {
	Relay
	events *mcp.EventScanner
	budget *Budget
	hold   []byte
	cut    bool

	request  mcp.ID                    // that a subscription answers; zero for a GET
	notifies func(message []byte) bool // whether a notification of a task's status may pass
}

// NewListener returns a listener's writer to w; see NewRelay for the functions.
// What it holds counts towards the budget until Close is called. A notification
// of a task's status passes only if notifies says so.
func NewListener(w http.ResponseWriter, head func(http.Header), seal func(id []byte) []byte, b *Budget, notifies func(message []byte) bool) *Listener {
	return &Listener{Relay: Relay{ResponseWriter: w, head: head, seal: seal}, budget: b, notifies: notifies}
}

// NewSubscription returns a listener for the stream that answers a request of
// that id. An answer that is no stream passes as it is.
func NewSubscription(w http.ResponseWriter, head func(http.Header), b *Budget, request mcp.ID, notifies func(message []byte) bool) *Listener {
	return &Listener{Relay: Relay{ResponseWriter: w, head: head}, budget: b, request: request, notifies: notifies}
}

// Close gives what is held back to the budget.
func (l *Listener) Close() {
	l.budget.Give(len(l.hold))
	l.hold = nil
}

// WriteHeader passes the head on, and filters what follows if it is events.
func (l *Listener) WriteHeader(status int) {
	if status >= 200 && status < 300 && !l.sentHead {
		switch plain := len(l.Header().Values("Content-Encoding")) == 0; {
		case plain && mediaType(l.Header()) == typeEvents:
			l.events = mcp.NewEventScanner(l.request)
			l.Header().Del("Content-Length")
		case plain && !l.request.IsZero():
		default:
			l.withheld = true // a body that cannot be told from an answer
			return
		}
	}
	l.Relay.WriteHeader(status)
}

// Write passes the events on that are no answers. An event longer than
// DefaultHold ends the stream.
func (l *Listener) Write(p []byte) (int, error) {
	if !l.sentHead && !l.withheld {
		l.WriteHeader(http.StatusOK)
	}
	switch {
	case l.cut:
		return 0, errListener
	case l.events == nil || l.withheld:
		return l.Relay.Write(p)
	}
	for rest := p; len(rest) > 0; {
		n, done := l.events.Scan(rest)
		if len(l.hold)+n > DefaultHold || !l.budget.Take(n) {
			l.cut = true
			return 0, errListener
		}
		l.hold = append(l.hold, rest[:n]...)
		rest = rest[n:]
		if !done {
			continue
		}
		if l.passes(l.events.Verdict()) {
			if _, err := l.Relay.Write(l.hold); err != nil {
				return 0, err
			}
		}
		l.budget.Give(len(l.hold))
		l.hold = l.hold[:0]
	}
	return len(p), nil
}

// passes reports whether the event that is held may go.
func (l *Listener) passes(v mcp.Verdict) bool {
	switch v.Class {
	case mcp.ClassEmpty, mcp.ClassAnswer: // of a GET, nothing is an answer
		return true
	case mcp.ClassPassing:
		return !v.OfTask || l.notifies != nil && l.notifies(mcp.EventData(l.hold))
	}
	return false
}

// ReadFrom copies through Write, so that nothing escapes the filter.
func (l *Listener) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{l}, src)
}
