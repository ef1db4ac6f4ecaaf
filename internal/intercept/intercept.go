// Package intercept holds an MCP server's response back until its call is settled.
//
// An Interceptor is the http.ResponseWriter of one call. It holds a JSON response
// whole. On an event stream it passes the head and the notifications immediately and
// holds only the event that contains the response. Every result or error from the
// upstream counts as the response to the call. The Interceptor withholds a response
// that has another id than the request, cannot be parsed strictly, has a content
// coding, or has an unexpected content type. The call is not charged then.
//
// A Relay is the writer for messages that get no response. A Listener is the writer
// for a stream that a client opens by GET.
package intercept

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Call is the call that an Interceptor settles, such as a gate.Call. It may be
// free.
type Call interface {
	// Settle ends the call according to its outcome. If it returns no refusal, the
	// response may be sent with the returned fields in its _meta. The response is
	// the whole message, or nil if it was too long to hold. The caller must not
	// change the response afterwards.
	Settle(ctx context.Context, outcome mcp.Outcome, response []byte) ([]mcp.Field, *gate.Refusal)
	// Keeps reports whether Settle stores the response, so that a client that
	// missed it can ask for it again.
	Keeps() bool
	// Reads reports whether Settle inspects the response. Settle then needs the
	// message, unless it was too long to hold.
	Reads() bool
	// Release ends the call without a charge, or refunds it.
	Release(ctx context.Context)
	// Suspend leaves the call open for a client that may come back for its response.
	Suspend()
	// Charges reports whether Settle charges the outcome. A priced call charges
	// results, tool errors, or both.
	Charges(outcome mcp.Outcome) bool
	// ChargesAbandoned reports whether to charge a response although the client has
	// left.
	ChargesAbandoned() bool
}

// Refuser writes refusals in the client's format.
type Refuser interface {
	// Refuse writes a whole response. Nothing has been written before it.
	Refuse(w http.ResponseWriter, r *gate.Refusal)
	// Event returns the refusal as one whole server-sent event.
	Event(r *gate.Refusal) []byte
}

// The default bounds of an Interceptor.
const (
	// DefaultHold is the number of bytes of one response that are held. A longer
	// response is captured first and then streamed without a receipt.
	DefaultHold = 1 << 20
	// DefaultWriteTimeout bounds a single write to the client.
	DefaultWriteTimeout = 30 * time.Second
)

// Options of an Interceptor. Fields without a default must be set.
type Options struct {
	ID      mcp.ID // the id of the request
	Call    Call
	Refuser Refuser
	Budget  Budget
	Client  context.Context    // the client's own context: it ends when the client leaves
	Cancel  context.CancelFunc // ends the upstream's work
	// Detached makes the call continue after the client has left, as the session-based
	// protocol versions require.
	Detached bool
	// Seal replaces each event id by an id with which the client can resume the stream.
	// If Seal is nil, ids pass unchanged. After a sealed id has been sent, a stream
	// that breaks off suspends the call instead of ending it.
	Seal func(id []byte) []byte
	// Resumed means that the stream is the rest of an earlier stream that broke off.
	Resumed bool
	// Bind records the owner of the handle in a response before the response may pass.
	// The handle stands for a task (OutcomeTask) or for a request for input
	// (OutcomeInputRequired). If Bind returns a refusal, the response is withheld. If
	// Bind is nil, tasks are withheld and requests for input pass.
	Bind func(outcome mcp.Outcome, message []byte) *gate.Refusal
	// Notifies reports whether a guarded notification may pass to this caller; see
	// mcp.Verdict. If Notifies is nil, no guarded notification passes.
	Notifies func(message []byte) bool
	// LeftOut receives the reason when an event is left out of a stream that continues.
	// LeftOut may be nil.
	LeftOut func(reason string)
	// Rewrite changes the response: the message itself, or the event that contains it.
	// If Rewrite returns an error, the response is withheld. Rewrite may be nil.
	Rewrite func(response []byte, event bool) ([]byte, error)
	// Head changes every final head just before it is sent, whether it comes from the
	// gateway or from the upstream. Head may be nil.
	Head func(http.Header)
	// Keepalive is how long an event stream may be quiet before a comment is sent
	// on it; 0 disables comments.
	Keepalive    time.Duration
	Hold         int           // 0 means DefaultHold
	WriteTimeout time.Duration // 0 means DefaultWriteTimeout
}

// Interceptor is the response writer of one call. One goroutine at a time may use an
// Interceptor, except that flushes and 1xx heads may come from another.
type Interceptor struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	o    Options
	base savedHeader // the header before the upstream changed it
	head savedHeader // the upstream's header, while its body is held

	mu     sync.Mutex // guards everything below, because flushes come from timers
	state  state
	stage  stage
	status int

	sentHead  bool // a final head has been sent
	left      bool // a write to the client has failed
	broken    bool // the response cannot be ended properly
	responded bool // the client was sent at least a part of a response or of a refusal
	sealed    bool // an event id with which the client can resume was sent
	suspended bool // the stream ended before its response, and the client can resume it

	hold   []byte
	taken  int // bytes taken from the budget
	body   *mcp.Scanner
	events *mcp.EventScanner
	ids    *mcp.EventIDs // rewrites the event ids; nil unless they are sealed
	out    []byte        // scratch space: a piece of the stream with its event ids rewritten
	pulse  pulse         // schedules the keepalive comments of an event stream
}

// New returns an Interceptor that writes to w.
func New(w http.ResponseWriter, o Options) *Interceptor {
	if o.Hold == 0 {
		o.Hold = DefaultHold
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	return &Interceptor{w: w, rc: http.NewResponseController(w), o: o, base: saveHeader(w.Header()), state: awaitHead}
}

// errHijack refuses raw tunnels, which would bypass the Interceptor.
var errHijack = errors.New("farebox: a connection with an MCP server cannot be hijacked")

// Hijack always fails, so that http.ResponseController does not unwrap further.
func (i *Interceptor) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// Unwrap returns the underlying writer, for deadlines and full duplex.
func (i *Interceptor) Unwrap() http.ResponseWriter { return i.w }

// Header returns the header of the response.
func (i *Interceptor) Header() http.Header { return i.w.Header() }

// WriteHeader decides from the upstream's head how to treat the body.
func (i *Interceptor) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		i.w.WriteHeader(status) // an informational head: the final one follows
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state != awaitHead {
		return
	}
	i.status = status
	kind, reason := i.kindOfBody(status)
	switch {
	case reason != "":
		i.fail(upstreamFailed(reason))
	case kind == typeJSON:
		i.step(headJSON)
		i.body = mcp.NewScanner(i.o.ID)
		i.head = saveHeader(i.w.Header()) // a copy, because trailers are added to the header before it is sent
	case kind == typeEvents:
		i.step(headEvents)
		i.events = mcp.NewEventScanner(i.o.ID)
		if i.o.Seal != nil {
			i.ids = &mcp.EventIDs{Replace: i.seal}
		}
		i.writeHead(http.StatusOK)
		i.flush()
		i.pulse.begin(i.o.Keepalive, i.beat)
	default: // the upstream's own error, as text
		i.endUnanswered()
		i.step(headError)
		// If the client has left, a proxy ends the request with a status of the proxy's
		// own, such as 499. That status may arrive before anything else shows that the
		// client has left.
		i.responded = !i.gone()
		i.writeHead(status)
	}
}

func (i *Interceptor) step(in input) { i.state = i.state.next(in) }

const (
	typeJSON   = mcp.TypeJSON
	typeEvents = mcp.TypeEvents
)

// kindOfBody returns the media type by which to read the body: typeJSON or typeEvents.
// If the body must be refused, kindOfBody returns the reason instead. It returns "" for
// both results if the status is an error and the media type is any other one.
func (i *Interceptor) kindOfBody(status int) (kind, reason string) {
	h := i.w.Header()
	if len(h.Values("Content-Type")) > 1 {
		return "", "it names two content types"
	}
	for _, encoding := range h.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", "its answer is encoded"
		}
	}
	media, params, err := mcp.ParseMediaType(h.Get("Content-Type"))
	charset := params["charset"]
	known := err == nil && (media == typeJSON || media == typeEvents)
	switch {
	case status < 400 && status != http.StatusOK:
		return "", "it answered " + http.StatusText(status) + " instead of a result"
	case known && charset != "" && !strings.EqualFold(charset, "utf-8"):
		return "", "its answer is not in UTF-8"
	case status == http.StatusOK && !known:
		return "", "its answer is neither JSON nor an event stream"
	case status >= 400 && media == typeEvents:
		return "", "it sent an error as an event stream"
	case known:
		return media, ""
	}
	return "", ""
}

// Write takes a piece of the body.
func (i *Interceptor) Write(p []byte) (int, error) {
	i.mu.Lock()
	if i.state == awaitHead {
		i.mu.Unlock()
		i.WriteHeader(http.StatusOK)
		i.mu.Lock()
	}
	defer i.mu.Unlock()
	var err error
	switch i.state {
	case holdBody, streamBody, readBody:
		err = i.writeBody(p)
	case holdEvent, streamEvent, passEvent, readEvent, skipEvent:
		err = i.writeEvents(p)
	case relayError:
		err = i.send(p)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadFrom copies through Write, so that no byte bypasses the Interceptor.
func (i *Interceptor) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{i}, r)
}

// FlushError flushes the bytes that have been sent. It does nothing before the head
// has been sent.
func (i *Interceptor) FlushError() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.sentHead {
		return nil
	}
	return i.flush()
}

// Flush is FlushError for callers that only know http.Flusher.
func (i *Interceptor) Flush() { _ = i.FlushError() }

// Finish ends the response after the upstream's handler has returned. failure is
// the handler's failure, or nil. When Finish returns, the call is settled. Finish
// reports whether the response is complete. If it is not, the caller must cut the
// connection.
func (i *Interceptor) Finish(failure *gate.Refusal) (complete bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	defer i.dropHold()
	defer i.pulse.end()
	switch i.state {
	case awaitHead:
		if failure == nil {
			failure = upstreamFailed("it sent nothing")
		}
		i.fail(failure)
	case holdBody, streamBody, readBody:
		i.endBody(failure)
	case holdEvent, streamEvent, passEvent, readEvent, skipEvent:
		i.endEvents(failure)
	case relayError:
		i.broken = i.broken || failure != nil
	}
	for name := range i.w.Header() {
		if strings.HasPrefix(name, http.TrailerPrefix) { // a trailer could carry a response
			delete(i.w.Header(), name)
		}
	}
	return !i.broken
}

// Unanswered reports whether the client has been sent neither a response nor a
// refusal so far. A client that leaves while this is true has abandoned its call. Any
// goroutine may call Unanswered.
func (i *Interceptor) Unanswered() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.responded
}

// Resumable reports whether the client can come back for the rest of the stream. Any
// goroutine may call Resumable.
func (i *Interceptor) Resumable() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.resumable()
}

// Suspended reports whether the stream ended before its response, so that the client
// has to come back for the rest. Any goroutine may call Suspended.
func (i *Interceptor) Suspended() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.suspended
}

func (i *Interceptor) resumable() bool { return i.o.Resumed || i.sealed }

func upstreamFailed(reason string) *gate.Refusal {
	return &gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New(reason)}
}
