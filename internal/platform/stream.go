package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

const (
	// keepAlive is how often a stream sends a comment. At the same time it reads the
	// log, in case a wake-up was lost.
	keepAlive = 15 * time.Second
	// writeTime bounds how long a client may take to accept an event.
	writeTime = 30 * time.Second
	// glance is the lease that a stream takes when it reads the log of key changes. A
	// change has to wait for open leases, so this lease is very short.
	glance = time.Millisecond
)

type streamRequest struct {
	After string `query:"after" doc:"The position up to which the client knows the changes; without it, the stream begins with the next change" pattern:"^[0-9]{1,18}$"`
	Last  string `header:"Last-Event-ID" doc:"The same, from a client that reconnects; it takes precedence" pattern:"^[0-9]{1,18}$"`
}

func stream(ctx context.Context, p *Platform, by *identity.Principal, in *streamRequest, x *ops.Exchange) error {
	seen := int64(-1)
	for _, text := range []string{in.After, in.Last} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return ops.Invalid("query.after", "it is not a position")
		}
		seen = n
	}
	s := &revocationStream{p: p, x: x, key: by.Key, seen: seen, node: nodeOf(by.Key, "stream/"+p.o.NewID(""))}
	first, err := p.o.Changes.Follow(ctx, s.node, seen, glance)
	if err != nil {
		return err
	}
	return s.serve(ctx, first)
}

// revocationStream sends key changes to one client.
type revocationStream struct {
	p    *Platform
	x    *ops.Exchange
	key  *keys.Key // the client's key, as it was when it was last looked up
	seen int64
	node string

	control *http.ResponseController
}

// serve writes events until the client leaves, its key ends, or the platform closes.
// If it returns an error, it has not written anything.
func (s *revocationStream) serve(ctx context.Context, first keys.Revocations) error {
	defer func() { _ = s.p.o.Changes.Leave(context.WithoutCancel(ctx), s.node) }() // an error does not matter, because the lease is very short
	s.control = http.NewResponseController(s.x.W)
	changed, closing, end := s.p.o.Watch(s.key.Digest)
	defer end()
	// Look the key up again, because the watch reports only later changes.
	if refused := s.recheck(); refused != nil {
		return refused
	}
	defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }() // the deadline must not apply to the next response on the connection
	s.x.W.Header().Set("Content-Type", "text/event-stream")
	s.x.W.WriteHeader(http.StatusOK)
	if s.send(first, true) == nil {
		s.follow(ctx, changed, closing)
	}
	return nil
}

// follow sends key changes as they happen.
func (s *revocationStream) follow(ctx context.Context, changed, closing <-chan struct{}) {
	tick := time.NewTicker(s.p.keepAlive)
	defer tick.Stop()
	for {
		grown := s.p.o.Changes.Changed() // taken before the log is read; otherwise a wake-up could be missed
		if s.read(ctx) != nil {
			return
		}
		var expiry <-chan time.Time
		if end := s.key.ExpiresAt; !end.IsZero() {
			expiry = time.After(end.Sub(s.p.o.Now()))
		}
		select {
		case <-grown:
		case <-tick.C:
			if s.write(": still here\n\n") != nil {
				return
			}
		case <-changed:
			if s.recheck() != nil {
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

// recheck looks the client's key up again.
func (s *revocationStream) recheck() *wire.Problem {
	by, refused := s.x.Admit()
	if refused == nil {
		s.key = by.Key
	}
	return refused
}

// read sends the log entries that have not been sent yet.
func (s *revocationStream) read(ctx context.Context) error {
	for {
		r, err := s.p.o.Changes.Follow(ctx, s.node, s.seen, glance)
		if err == nil {
			err = s.send(r, false)
		}
		if err != nil || !r.More {
			return err
		}
	}
}

// send writes an event, unless the event would be empty. The first event is always
// sent, because it carries the client's position in the log.
func (s *revocationStream) send(r keys.Revocations, first bool) error {
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
	_ = s.control.SetWriteDeadline(clock.Deadline(writeTime)) // some writers return an error, because they do not support deadlines
	if _, err := s.x.W.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
