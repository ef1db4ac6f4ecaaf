package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

const (
	// keepAlive is how often a stream says that it is there, and looks for
	// changes that it was not told of.
	keepAlive = 15 * time.Second
	// writeTime bounds how long a client may take to accept an event.
	writeTime = 30 * time.Second
	// glance is the lease that a stream takes to read the log: to be told is not
	// to be waited for.
	glance = time.Millisecond
)

type streamRequest struct {
	After string `query:"after" doc:"The position up to which changes are known; without it, the stream begins with what comes next" pattern:"^[0-9]{1,18}$"`
	Last  string `header:"Last-Event-ID" doc:"The same, of a client that comes back; it is what counts" pattern:"^[0-9]{1,18}$"`
}

type streamAnswer struct {
	Body func(huma.Context)
}

func (p *Platform) stream(ctx context.Context, in *streamRequest) (*streamAnswer, error) {
	seen := int64(-1)
	for _, text := range []string{in.After, in.Last} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, invalid("query.after", "it is no position")
		}
		seen = n
	}
	v := visitOf(ctx)
	s := &revocationStream{p: p, visit: v, seen: seen, node: nodeOf(v.key, "stream/"+p.NewID(""))}
	first, err := p.Changes.Follow(ctx, s.node, seen, glance)
	if err != nil {
		return nil, err
	}
	return &streamAnswer{func(c huma.Context) { s.serve(c, first) }}, nil
}

// revocationStream tells one client of the changes of keys.
type revocationStream struct {
	p     *Platform
	visit *visit
	seen  int64
	node  string

	w       http.ResponseWriter
	control *http.ResponseController
}

// serve writes events until the client leaves, its key ends, or everything does.
func (s *revocationStream) serve(c huma.Context, first keys.Revocations) {
	ctx := c.Context()
	defer func() { _ = s.p.Changes.Leave(context.WithoutCancel(ctx), s.node) }() // or its lease has lapsed long ago
	_, s.w = humago.Unwrap(c)
	s.control = http.NewResponseController(s.w)
	changed, closing, end := s.p.Watch(s.visit.key.Digest)
	defer end()
	if refused := s.recheck(ctx); refused != nil { // only what is changed from now on is told
		writeProblem(s.w, refused)
		return
	}
	defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }() // the connection goes on
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.WriteHeader(http.StatusOK)
	if s.tell(first, true) == nil {
		s.tellOn(ctx, changed, closing)
	}
}

// tellOn tells of what comes.
func (s *revocationStream) tellOn(ctx context.Context, changed, closing <-chan struct{}) {
	tick := time.NewTicker(s.p.keepAlive)
	defer tick.Stop()
	for {
		grown := s.p.Changes.Changed() // before the log is read, so that nothing falls between
		if s.read(ctx) != nil {
			return
		}
		var expiry <-chan time.Time
		if end := s.visit.key.ExpiresAt; !end.IsZero() {
			expiry = time.After(end.Sub(s.p.Now()))
		}
		select {
		case <-grown:
		case <-tick.C:
			if s.write(": still here\n\n") != nil {
				return
			}
		case <-changed:
			if s.recheck(ctx) != nil {
				return
			}
		case <-expiry:
			return
		case <-closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// recheck looks the caller's key up again.
func (s *revocationStream) recheck(ctx context.Context) *wire.Problem {
	key, refused := s.p.check(ctx, s.visit.client, s.visit.key.Digest, &rule{kinds: gateways})
	if refused == nil {
		s.visit.key = key
	}
	return refused
}

// read tells all that the log has after what was told.
func (s *revocationStream) read(ctx context.Context) error {
	for {
		r, err := s.p.Changes.Follow(ctx, s.node, s.seen, glance)
		if err == nil {
			err = s.tell(r, false)
		}
		if err != nil || !r.More {
			return err
		}
	}
}

// tell writes an event, if there is something to tell; the first one in any
// case, for its position.
func (s *revocationStream) tell(r keys.Revocations, first bool) error {
	s.seen = r.Position
	if !first && !r.Gap && len(r.Digests) == 0 {
		return nil
	}
	data, err := json.Marshal(wire.RevocationsOf(r))
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("id: %d\ndata: %s\n\n", r.Position, data))
}

func (s *revocationStream) write(text string) error {
	_ = s.control.SetWriteDeadline(clock.Deadline(writeTime)) // not every writer has deadlines
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
