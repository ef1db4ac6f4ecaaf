package bridge

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/fareboxhq/farebox/internal/bridge/purse"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// call is one request of the client, with all attempts to get its response.
type call struct {
	m         *mcp.Message
	body      []byte
	era       mcp.Era
	key       string // the idempotency key in the header, or ""
	handshake bool   // initialize
	streams   bool   // the response is a stream without an end
	repeats   bool   // the request may be sent again although the server may have received it

	charged bool        // the gateway may charge requests with this method
	costs   bool        // the gateway may charge the request, by the prices that it listed
	hold    *purse.Hold // the reservation of a request that may be charged
	doubt   bool        // an earlier attempt may have been charged
	tries   int
	grant   string // the sign-in that gave the token of the last attempt

	ctx       context.Context
	cancel    context.CancelFunc
	cancelled atomic.Bool   // the client no longer waits
	sent      chan struct{} // closed when the request was written for the first time
	once      sync.Once
	done      chan struct{} // closed when the call has ended
}

// abandon ends the call without a response.
func (c *call) abandon() {
	c.cancelled.Store(true)
	c.cancel()
}

func (c *call) wrote() { c.once.Do(func() { close(c.sent) }) }

var (
	errTooManyCalls = errors.New("too many requests are under way: wait for their responses")
	errSameID       = errors.New("a request with this id is still under way")
)

// newCall registers a request.
func (b *Bridge) newCall(m *mcp.Message, body []byte) (*call, error) {
	c := &call{m: m, body: body, era: mcp.EraSession, sent: make(chan struct{}), done: make(chan struct{})}
	if m.ProtocolVersion != "" {
		c.era = mcp.EraStateless
	}
	method, known := mcp.LookupMethod(m.Method)
	c.handshake = m.Method == "initialize"
	c.streams = method.Streams
	c.repeats = true
	// A tool that is listed as free runs each time, because the gateway stores no
	// responses for free calls. Such a call is repeated only if the tool's annotations allow that.
	if mayCost(method, known) {
		if m.IdempotencyKey == "" {
			c.key = id.New("connect_")
		}
		price, listed := b.purse.PriceOf(itemOf(m))
		c.costs = !listed || price.Most > 0
		c.repeats = c.costs || m.Method != "tools/call" || b.session.isSafe(m.Name)
		c.charged = true
	}
	c.ctx, c.cancel = context.WithCancel(b.ctx)
	if err := b.calls.begin(c); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// mayCost reports whether the gateway may charge requests of the method.
func mayCost(method mcp.Method, known bool) bool {
	return !known || method.Item || method.Rules
}

// itemOf returns the name under which the purse knows the price of the message's item.
func itemOf(m *mcp.Message) string {
	method, _ := mcp.LookupMethod(m.Method)
	return m.Method + " " + method.Target(m)
}

// calls has the requests that are under way. It is safe for concurrent use.
type calls struct {
	mu      sync.Mutex
	running map[mcp.ID]*call
	group   sync.WaitGroup
	stopped bool
}

func (s *calls) begin(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[mcp.ID]*call)
	}
	switch {
	case s.running[c.m.ID] != nil:
		return errSameID
	case len(s.running) >= maxCalls || s.stopped:
		return errTooManyCalls
	}
	s.running[c.m.ID] = c
	s.group.Add(1)
	return nil
}

// release frees the call's id. It comes before the response is written, because the
// client may use the id again at once.
func (s *calls) release(c *call) {
	c.cancel()
	s.mu.Lock()
	delete(s.running, c.m.ID)
	s.mu.Unlock()
	close(c.done)
}

// add counts a notification or a response of the client as work under way, until
// group.Done. It returns false if the bridge ends.
func (s *calls) add() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.group.Add(1)
	}
	return !s.stopped
}

// find returns the call with the id, or nil.
func (s *calls) find(id mcp.ID) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id]
}

// stop lets no further call begin, and ends the streams that have no end.
func (s *calls) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, c := range s.running {
		if c.streams {
			c.abandon()
		}
	}
}

// wait waits until all responses were written and all other messages were sent.
func (s *calls) wait() { s.group.Wait() }
