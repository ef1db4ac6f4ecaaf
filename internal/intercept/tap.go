// Package intercept stands between an MCP server's response and the client, and lets
// nothing of a paid answer pass before the call is settled.
//
// A Tap is the http.ResponseWriter of one paid call. A JSON answer is held
// whole; of an event stream, the head and the notifications pass at once and
// only the event with the answer waits. On such a call every result or error
// is taken for the answer: one that does not carry exactly the request's id,
// that cannot be read strictly, is encoded, or comes in another content type
// is withheld, and nothing is charged.
//
// Relay and Listener are the writers of calls that are free and of streams
// that a client opens by GET.
package intercept

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Call is the paid call that a tap settles; gate.Call is one.
type Call interface {
	// Settle ends the call by its outcome. Without a refusal the answer may
	// go, with the fields in its _meta. The answer is the whole message, nil if
	// it is not at hand; it must not be changed afterwards.
	Settle(ctx context.Context, outcome mcp.Outcome, answer []byte) ([]mcp.Field, *gate.Refusal)
	// Keeps reports whether Settle keeps the answer, so that a client who did
	// not get it can ask for it again.
	Keeps() bool
	// Reads reports whether Settle looks into the answer, and so wants it if it is
	// at hand.
	Reads() bool
	// Release ends it without a charge, or refunds it.
	Release(ctx context.Context)
	// Suspend leaves it open, for a client that may come back for its answer.
	Suspend()
	// Charges reports whether Settle charges that outcome. It charges a result
	// or a tool error, or both.
	Charges(outcome mcp.Outcome) bool
	// ChargesAbandoned reports whether an answer is to be settled although its
	// client has left.
	ChargesAbandoned() bool
}

// Refuser gives refusals the form that the client understands.
type Refuser interface {
	// Refuse writes a whole response. Nothing of one has been written yet.
	Refuse(w http.ResponseWriter, r *gate.Refusal)
	// Event returns the refusal as one whole server-sent event.
	Event(r *gate.Refusal) []byte
}

// The bounds of a tap.
const (
	// DefaultHold is how much of one answer is held back. A longer one is
	// charged first and then streamed, without a receipt.
	DefaultHold = 1 << 20
	// DefaultWriteTimeout is how long a client may accept nothing.
	DefaultWriteTimeout = 30 * time.Second
)

// Options of a Tap. Fields without a default must be set.
type Options struct {
	ID      mcp.ID // of the request
	Call    Call
	Refuser Refuser
	Budget  Budget
	Client  context.Context    // the client's own context: it ends when the client leaves
	Cancel  context.CancelFunc // ends the upstream's work
	// Detached says that the call goes on when the client has left, as the
	// session-based protocol versions want it.
	Detached bool
	// Seal gives event ids the form in which a client may come back with them;
	// nil passes them as they are. Once one went out, a stream that breaks off
	// suspends the call instead of ending it.
	Seal func(id []byte) []byte
	// Resumed says that this is the rest of a stream that broke off.
	Resumed bool
	// Bind remembers whose the handle in an answer is, of a task (OutcomeTask)
	// or of a request for input, before the answer may go. A refusal withholds
	// it. If Bind is nil, so are tasks; requests for input pass.
	Bind func(outcome mcp.Outcome, message []byte) *gate.Refusal
	// Notifies reports whether a notification may pass that is not for every
	// caller; see mcp.Verdict. If nil, none may.
	Notifies func(message []byte) bool
	// LeftOut is told why an event is left out of a stream that goes on. May be
	// nil.
	LeftOut func(reason string)
	// Rewrite changes the answer: a message, or the whole event that it is in.
	// An error withholds it. May be nil.
	Rewrite func(answer []byte, event bool) ([]byte, error)
	// Head changes the head of every response just before it goes out, ours
	// and the upstream's. May be nil.
	Head func(http.Header)
	// Keepalive is how long an event stream that has begun may be quiet before a
	// comment is sent on it; 0 for ever.
	Keepalive    time.Duration
	Hold         int           // DefaultHold if 0
	WriteTimeout time.Duration // DefaultWriteTimeout if 0
}

// mode is what a Tap does with the bytes that come.
type mode uint8

const (
	modeHead   mode = iota // no final head has come yet
	modeJSON               // the body is held whole
	modeEvents             // an event stream: the answer's event is held
	modeStream             // captured already: the rest of a long answer streams
	modePass               // released already: the upstream's own error passes
	modeDone               // all is said: what still comes is dropped
)

// Tap is the response writer of one paid call. It is used by one goroutine at
// a time, but for flushes and 1xx heads, which may come from another.
type Tap struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	o    Options
	base http.Header // what the header held before the upstream's came
	head http.Header // of a held body

	mu       sync.Mutex // guards all below: flushes come from timers
	mode     mode
	status   int
	sentHead bool // a final head is out
	left     bool // a write to the client has failed
	answered bool // the stream has had its answer
	broken   bool // what is out cannot be ended well
	long     bool // the current event is captured and streams
	skips    bool // the current event is left out
	passing  bool // it is no answer, and is not captured for
	early    bool // captured for an event that was too long to be held
	unseen   bool // a long answer is read for its outcome alone: its client has left
	told     bool // the client was sent an answer, or a part of one

	hold   []byte
	taken  int // of the budget
	body   *mcp.Scanner
	events *mcp.EventScanner
	ids    *mcp.EventIDs // of events on their way out; nil unless they are sealed
	sealed bool          // an event id is out, with which the client may come back
	out    []byte        // what ids made of a piece
	pulse  pulse         // of an event stream
}

// New returns a tap that writes to w.
func New(w http.ResponseWriter, o Options) *Tap {
	if o.Hold == 0 {
		o.Hold = DefaultHold
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	return &Tap{w: w, rc: http.NewResponseController(w), o: o, base: w.Header().Clone()}
}

// errHijack refuses raw tunnels: they would run past everything.
var errHijack = errors.New("farebox: a connection with an MCP server cannot be hijacked")

// Hijack always fails, so that http.ResponseController looks no deeper.
func (t *Tap) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// Unwrap returns the writer below, for deadlines and full-duplex.
func (t *Tap) Unwrap() http.ResponseWriter { return t.w }

// Header returns the header of the response.
func (t *Tap) Header() http.Header { return t.w.Header() }

// WriteHeader decides by the upstream's head what becomes of its body.
func (t *Tap) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		t.w.WriteHeader(status) // an informational head: the final one follows
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mode != modeHead {
		return
	}
	t.status = status
	kind, reason := t.kindOfBody(status)
	switch {
	case reason != "":
		t.fail(upstreamFailed(reason))
	case kind == typeJSON:
		t.mode, t.body = modeJSON, mcp.NewScanner(t.o.ID)
		t.head = t.w.Header().Clone() // trailers come into the header later, which is not out yet
	case kind == typeEvents:
		t.mode, t.events = modeEvents, mcp.NewEventScanner(t.o.ID)
		if t.o.Seal != nil {
			t.ids = &mcp.EventIDs{Replace: t.seal}
		}
		t.writeHead(http.StatusOK)
		t.flush()
		t.pulse.begin(t.o.Keepalive, t.beat)
	default: // the upstream's own error, in words
		t.drop()
		t.mode, t.told = modePass, true
		t.writeHead(status)
	}
}

const (
	typeJSON   = "application/json"
	typeEvents = "text/event-stream"
)

// kindOfBody returns the media type that the body is to be read as, or why it
// cannot be let through. Other types pass for statuses of errors alone, as "".
func (t *Tap) kindOfBody(status int) (kind, reason string) {
	h := t.w.Header()
	if len(h.Values("Content-Type")) > 1 {
		return "", "it names two content types"
	}
	for _, encoding := range h.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", "its answer is encoded"
		}
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
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
func (t *Tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	if t.mode == modeHead {
		t.mu.Unlock()
		t.WriteHeader(http.StatusOK)
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	var err error
	switch t.mode {
	case modeJSON:
		t.body.Write(p)
		err = t.keep(p)
	case modeEvents:
		err = t.writeEvents(p)
	case modeStream:
		err = t.writeStream(p)
	case modePass:
		err = t.send(p)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadFrom copies through Write: the promoted one would run past the tap.
func (t *Tap) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{t}, r)
}

// FlushError sends what is free to go. While an answer is held there is none.
func (t *Tap) FlushError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sentHead {
		return nil
	}
	return t.flush()
}

// Flush is FlushError for callers that know only http.Flusher.
func (t *Tap) Flush() { _ = t.FlushError() }

// Finish ends the response after the upstream's handler has returned, with the
// reason if it failed. Everything is settled when it returns. It reports
// whether the response is complete; if not, the connection must be cut.
func (t *Tap) Finish(failure *gate.Refusal) (complete bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.dropHold()
	defer t.pulse.end()
	switch t.mode {
	case modeHead:
		if failure == nil {
			failure = upstreamFailed("it sent nothing")
		}
		t.fail(failure)
	case modeJSON:
		if failure != nil {
			t.fail(failure)
		} else {
			t.judgeBody()
		}
	case modeEvents:
		t.endEvents(failure)
	case modeStream:
		t.endStream(failure)
	case modePass:
		t.broken = t.broken || failure != nil
	}
	for name := range t.w.Header() {
		if strings.HasPrefix(name, http.TrailerPrefix) { // an answer could hide there
			delete(t.w.Header(), name)
		}
	}
	return !t.broken
}

// Unanswered reports whether the client was sent no answer so far, neither the
// upstream's nor a refusal: one that is gone then has abandoned its call. It
// may be called from any goroutine.
func (t *Tap) Unanswered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.told
}

// Resumable reports whether the client has what it needs to come back for the
// rest of the stream. It may be called from any goroutine.
func (t *Tap) Resumable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resumable()
}

func (t *Tap) resumable() bool { return t.o.Resumed || t.sealed }

// beat sends a comment on a stream that is quiet. Where an event is out in part it
// has no place.
func (t *Tap) beat() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mode != modeEvents || t.gone() || !t.pulse.due(!t.long) {
		return
	}
	defer t.deadline()()
	_, err := t.w.Write(heartbeat)
	if err == nil {
		err = t.rc.Flush()
	}
	if err != nil && t.lost(err) != nil && t.o.Cancel != nil {
		t.o.Cancel()
	}
}

// seal replaces an event id.
func (t *Tap) seal(id []byte) []byte {
	t.sealed = true
	return t.o.Seal(id)
}

func upstreamFailed(reason string) *gate.Refusal {
	return &gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New(reason)}
}
