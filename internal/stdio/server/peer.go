package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/lines"
	"github.com/fareboxhq/farebox/internal/stdio/process"
)

// call is a request that a process works on.
type call struct {
	session *session       // nil in 2026-07-28
	peer    *peer          // set when the call is sent
	id      jsontext.Value // as the client wrote it
	sent    jsontext.Value // as the process got it
	token   jsontext.Value // the client's progress token; nil without one
	method  string
	stream  *stream
}

// peer is a process with the calls that it works on. It is safe for concurrent use.
type peer struct {
	s       *Server
	account string
	owner   string   // the callers that share the process; "" for a session's own
	mixed   bool     // callers of several accounts share the process
	session *session // the only user of the process; nil if the process is shared
	began   time.Time
	proc    *process.Process
	ended   chan struct{} // closed when the process has ended and its calls have failed

	garbage process.Limiter // for the one goroutine that reads
	hello   jsontext.Value  // the result of the handshake that the server has made

	mu      sync.Mutex
	calls   map[string]*call // by the sent id
	order   []*call          // the same calls, oldest first
	tokens  map[string]*call // by the sent progress token
	counter int64
	used    time.Time
}

// errIDTaken reports a second request with the id of one that is running.
var errIDTaken = errors.New("a request with this id is running")

// send sends a request to the process.
func (p *peer) send(ctx context.Context, c *call, m *message) error {
	raw := p.prepare(c, m)
	if c.session != nil && !c.session.begin(c) {
		return errIDTaken
	}
	p.add(c)
	if err := p.proc.Send(ctx, raw); err != nil {
		p.forget(c)
		return err
	}
	return nil
}

// prepare returns the message of a call for the process. In a shared process ids and
// progress tokens of different clients could be equal, so they are replaced.
func (p *peer) prepare(c *call, m *message) []byte {
	raw := m.raw
	c.id = bytes.Clone(c.id) // not a part of the whole request
	c.peer, c.sent, c.token = p, c.id, get(m.params, keyMeta, keyProgress)
	if p.session != nil {
		return raw
	}
	p.mu.Lock()
	p.counter++
	c.sent = jsontext.Value(strconv.FormatInt(p.counter, 10))
	p.mu.Unlock()
	raw = set(raw, c.sent, "id")
	if c.token != nil {
		raw = set(raw, c.sent, "params", keyMeta, keyProgress)
	}
	return raw
}

// add adds a call that was prepared.
func (p *peer) add(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[keyOf(c.sent)] = c
	p.order = append(p.order, c)
	switch {
	case c.token == nil:
	case p.session != nil:
		p.tokens[keyOf(c.token)] = c
	default:
		p.tokens[keyOf(c.sent)] = c
	}
	p.used = clock.Now()
}

// forget removes a call that will get no answer, or has got it.
func (p *peer) forget(c *call) {
	p.mu.Lock()
	p.remove(c)
	p.mu.Unlock()
	if c.session != nil {
		c.session.finish(c)
	}
}

// drop ends a call although its answer has not come. The process may still answer it.
// With the client's own ids, a later request with this id would get that answer, so the id
// stays taken until the answer comes.
func (p *peer) drop(c *call) {
	if p.session == nil {
		p.forget(c)
		return
	}
	p.mu.Lock()
	p.release(c)
	p.mu.Unlock()
}

// remove removes a call. The caller holds the lock.
func (p *peer) remove(c *call) {
	if p.calls[keyOf(c.sent)] == c {
		delete(p.calls, keyOf(c.sent))
	}
	p.release(c)
}

// release removes a call from those that wait. The caller holds the lock.
func (p *peer) release(c *call) {
	for key, other := range p.tokens {
		if other == c {
			delete(p.tokens, key)
		}
	}
	for i, other := range p.order {
		if other == c {
			p.order = append(p.order[:i], p.order[i+1:]...)
			break
		}
	}
	p.used = clock.Now()
}

// expire ends a call that its client has cancelled: servers may leave such calls without an
// answer.
func (p *peer) expire(c *call) {
	p.drop(c)
	c.stream.add(failure(c.id, codeCancelled, "the request was cancelled", nil), true, "")
}

// cancel lets the process know that no client waits for the call any more.
func (p *peer) cancel(c *call, reason string) {
	p.drop(c)
	p.post([]byte(`{"jsonrpc":"2.0","method":"` + methodCancelled + `","params":{"requestId":` + string(c.sent) + `,"reason":` + string(quote(reason)) + `}}`))
}

// post sends a message without waiting for the process to take it. The goroutine ends at
// the latest with the process.
func (p *peer) post(message []byte) {
	go func() { _ = p.proc.Send(context.Background(), message) }() // a process that has ended needs no message
}

// busy returns the number of running calls.
func (p *peer) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.order)
}

// idle returns for how long the process has had no call, or 0 if it has one.
func (p *peer) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) > 0 {
		return 0
	}
	return clock.Since(p.used)
}

func (p *peer) touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = clock.Now()
}

// receive gets each line that the process writes.
func (p *peer) receive(line []byte) {
	m, err := parse(withoutCR(line), lax)
	if err != nil {
		if skipped, ok := p.garbage.Allow(); ok {
			p.s.Logger().Warn("a stdio server wrote a line to stdout that is no message, which was skipped",
				slog.Int("pid", p.proc.PID()), slog.String("line", process.Shorten(string(line[:min(len(line), 8<<10)]), p.s.o.Process.Redact, false)), slog.Int("left_out", skipped))
		}
		return
	}
	if m.kind == response {
		p.answer(m)
		return
	}
	if p.session != nil {
		if p.busy() > 0 {
			p.session.count(0) // a session with a server that works is not idle
		}
		p.route(m)
		return
	}
	p.routeShared(m)
}

// withoutCR returns a copy of the line that can be an event's data: a CR, which in JSON is
// only white space, would end it.
func withoutCR(line []byte) []byte {
	if bytes.IndexByte(line, '\r') < 0 {
		return bytes.Clone(line)
	}
	return bytes.ReplaceAll(line, []byte{'\r'}, []byte{' '})
}

// answer delivers a response to its call.
func (p *peer) answer(m *message) {
	p.mu.Lock()
	c := p.calls[keyOf(m.id)]
	p.mu.Unlock()
	if c == nil {
		p.s.Logger().Debug("a stdio server answered a request that nobody waits for", slog.Int("pid", p.proc.PID()))
		return
	}
	p.forget(c)
	raw := m.raw
	if p.session == nil {
		raw = set(raw, c.id, "id")
		if bytes.Contains(raw, []byte(keySubscription)) {
			raw = set(raw, c.id, "result", keyMeta, keySubscription)
		}
	}
	c.stream.add(raw, true, string(m.code))
	if c.session != nil {
		c.session.finished(p.s.o.Buffer)
	}
}

// route delivers a notification or a request of a session's own process. Over stdio only
// progress names its request. The rest belongs to the one running call, or else to the
// session's stream; if several run and that stream is not open, to the latest call.
func (p *peer) route(m *message) {
	p.mu.Lock()
	var to *stream
	if c := p.tokens[keyOf(get(m.params, keyProgress))]; c != nil && m.method == methodProgress {
		to = c.stream
	} else if n := len(p.order); n > 0 && !lasting(m.method) && p.order[n-1].method != methodInitialize {
		if n == 1 || !p.session.listening() {
			to = p.order[n-1].stream
		}
	}
	p.mu.Unlock()
	if to == nil {
		to = p.session.listener
	}
	if to == p.session.listener && len(m.raw) > maxListened {
		p.s.Logger().Warn("a message of a stdio server is too long for its session's stream, and was dropped", slog.String("method", m.method), slog.Int("bytes", len(m.raw)))
		if m.kind == request {
			p.post(failure(m.id, -32603, "the request is too long for the client's stream", nil))
		}
		return
	}
	to.add(m.raw, false, "")
}

// maxListened bounds a message on a session's own stream, in bytes. The handler farebox
// ends such a stream at a longer event, so the client would ask for the event for ever.
const maxListened = 1<<20 - 1<<10

// lasting reports whether a notification is about the server, and not about a call.
func lasting(method string) bool {
	return strings.HasSuffix(method, listChanged) || method == methodResourceNote
}

// routeShared delivers a notification of a shared process, and answers its requests. The
// handshake said that the client supports no requests.
func (p *peer) routeShared(m *message) {
	if m.kind == request {
		if m.method == methodPing {
			p.post([]byte(`{"jsonrpc":"2.0","id":` + string(m.id) + `,"result":{}}`))
		} else {
			p.post(failure(m.id, -32601, "the clients of a shared server cannot be asked", nil))
		}
		return
	}
	raw := m.raw
	p.mu.Lock()
	var c *call
	if c = p.tokens[keyOf(get(m.params, keyProgress))]; c != nil && m.method == methodProgress {
		raw = set(raw, c.token, "params", keyProgress)
	} else if c = p.calls[keyOf(get(m.params, keyMeta, keySubscription))]; c != nil {
		raw = set(raw, c.id, "params", keyMeta, keySubscription)
	} else if len(p.order) == 1 && !p.mixed && !lasting(m.method) && m.method != methodProgress {
		c = p.order[0]
	}
	p.mu.Unlock()
	if c == nil && m.method == methodProgress {
		return // its call has ended, and its token is a number that means nothing to clients
	}
	switch {
	case c != nil:
		c.stream.add(raw, false, "")
	case !p.mixed || strings.HasSuffix(m.method, listChanged):
		p.s.broadcast(p.owner, raw)
	}
}

// tooLong ends the calls that wait: the line that was skipped may have been the answer to
// each of them.
func (p *peer) tooLong(err *lines.TooLongError) {
	p.s.Logger().Warn("a stdio server wrote a line that is too long, which was skipped", slog.Int("pid", p.proc.PID()), slog.Any("error", err))
	p.fail(codeBadGateway, "the answer of the server is too long: "+err.Error())
}

// fail ends all calls with an error.
func (p *peer) fail(code int, reason string) {
	p.mu.Lock()
	calls := append([]*call(nil), p.order...)
	p.mu.Unlock()
	for _, c := range calls {
		p.drop(c)
		c.stream.add(failure(c.id, code, reason, nil), true, strconv.Itoa(code))
	}
}
