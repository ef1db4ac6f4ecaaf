package tap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
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
// stream of a POST that broke off is a Tap's.
type Listener struct {
	Relay
	events *mcp.EventScanner
	budget *Budget
	hold   []byte
	cut    bool
	event  func(*gate.Refusal) []byte
}

// NewListener returns a listener's writer to w; see NewRelay for head and seal.
// Event tells of a refusal on a stream whose head is out. What the listener
// holds counts towards the budget until Close is called.
func NewListener(w http.ResponseWriter, head func(http.Header), seal func(id []byte) []byte, b *Budget, event func(*gate.Refusal) []byte) *Listener {
	return &Listener{Relay: Relay{ResponseWriter: w, head: head, seal: seal}, budget: b, event: event}
}

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

// Close gives what is held back to the budget.
func (l *Listener) Close() {
	l.budget.Give(len(l.hold))
	l.hold = nil
}

// WriteHeader passes the head on, and filters what follows if it is events.
func (l *Listener) WriteHeader(status int) {
	if status >= 200 && status < 300 && !l.sentHead {
		if mediaType(l.Header()) == typeEvents && len(l.Header().Values("Content-Encoding")) == 0 {
			l.events = mcp.NewEventScanner(mcp.ID{})
		} else {
			l.withheld = true // a body that cannot be told from an answer
			return
		}
		l.Header().Del("Content-Length")
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
		if isEndpoint(l.hold) {
			l.cut = true
			_, err := l.Relay.Write(l.event(oldTransport))
			return 0, errors.Join(errListener, err, l.FlushError())
		}
		if c := l.events.Verdict().Class; c == mcp.ClassEmpty || c == mcp.ClassPassing {
			if _, err := l.Relay.Write(l.hold); err != nil {
				return 0, err
			}
		}
		l.budget.Give(len(l.hold))
		l.hold = l.hold[:0]
	}
	return len(p), nil
}

// ReadFrom copies through Write, so that nothing escapes the filter.
func (l *Listener) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{l}, src)
}
