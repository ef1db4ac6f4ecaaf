package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// accept handles one message of the client. It does not wait for the network.
func (b *Bridge) accept(body []byte) {
	m, err := mcp.Decode(body)
	if err != nil {
		var refused *mcp.Error
		errors.As(err, &refused)
		b.write(mcp.AppendError(nil, refused.ID, refused.Code, "the bridge cannot send this message: "+refused.Error(), nil))
		return
	}
	switch {
	case m.Kind == mcp.KindRequest:
		b.acceptRequest(&m, body)
	case m.Kind == mcp.KindNotification && m.Method == "notifications/cancelled":
		b.acceptCancel(&m, body)
	case m.Kind == mcp.KindNotification && m.Method == "notifications/initialized" && m.ProtocolVersion == "":
		before, done := b.barrier, make(chan struct{})
		b.barrier = done
		b.enqueue(func() {
			defer close(done)
			b.await(before)
			b.sendOnly(&m, body)
			b.session.initialized(body)
			b.listen()
		})
	default:
		before := b.barrier
		b.enqueue(func() {
			b.await(before)
			b.sendOnly(&m, body)
		})
	}
}

// acceptRequest begins a request. Requests run concurrently, but no request overtakes
// the handshake.
func (b *Bridge) acceptRequest(m *mcp.Message, body []byte) {
	c, err := b.newCall(m, body)
	if err != nil {
		b.write(mcp.AppendError(nil, m.ID, mcp.InvalidRequest, err.Error(), nil))
		return
	}
	before := b.barrier
	if c.handshake {
		b.barrier = c.done
	}
	b.tasks.Go(func() {
		defer b.calls.group.Done()
		select {
		case <-before:
		case <-c.ctx.Done():
		}
		b.serve(c)
	})
}

// acceptCancel handles notifications/cancelled. In a version without sessions the end of
// the request's HTTP response is the cancellation; otherwise the server gets the
// notification.
func (b *Bridge) acceptCancel(m *mcp.Message, body []byte) {
	var params struct {
		ID json.RawMessage `json:"requestId"`
	}
	_ = json.Unmarshal(m.Params, &params) // without an id there is no call to cancel
	c := b.calls.find(parseID(params.ID))
	if c != nil && c.era == mcp.EraStateless {
		c.abandon()
		return
	}
	if c == nil && m.ProtocolVersion != "" {
		return
	}
	b.enqueue(func() {
		if c != nil {
			c.cancelled.Store(true)
			select {
			case <-c.sent:
			case <-c.done:
			case <-b.ctx.Done():
			}
			time.AfterFunc(b.patience.cancel, c.abandon)
		}
		b.sendOnly(m, body)
	})
}

// parseID reads the id in a notification. It returns the zero ID for anything else.
func parseID(raw json.RawMessage) mcp.ID {
	var text string
	var number int64
	switch {
	case len(raw) == 0:
	case raw[0] == '"' && json.Unmarshal(raw, &text) == nil:
		return mcp.StringID(text)
	case raw[0] != '"' && raw[0] != 'n' && json.Unmarshal(raw, &number) == nil:
		return mcp.IntID(number)
	}
	return mcp.ID{}
}

// enqueue lets the worker send a message after those that the client sent before it.
func (b *Bridge) enqueue(job func()) {
	if !b.calls.add() {
		return
	}
	select {
	case b.queue <- func() { defer b.calls.group.Done(); job() }:
	case <-b.ctx.Done():
		b.calls.group.Done()
	}
}

// await waits for a step of the handshake.
func (b *Bridge) await(step <-chan struct{}) {
	select {
	case <-step:
	case <-b.ctx.Done():
	}
}

// sendTime bounds the sending of a message that has no response.
const sendTime = 30 * time.Second

// passes reports whether a status will pass: that of a proxy that cannot reach the
// gateway, or that of a gateway without room.
func passes(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

// sendOnly sends a notification, or a response to a request of the server. If it does not
// arrive, the notes say so, because the client waits for no response.
func (b *Bridge) sendOnly(m *mcp.Message, body []byte) {
	// A response belongs to the session of its request.
	if err := b.send(m, body, m.Kind != mcp.KindResponse); err != nil {
		b.notes.say("%s %v", named(m), err)
	}
}

var errSessionEnded = errors.New("was not delivered: its session has ended")

// send sends a message that has no response. Until it arrives, it is sent again for a
// while: a second copy does no harm, because servers ignore a response to a request that
// has ended, and a missing one can leave a paid call without its end. If renews is true,
// a session that has ended is begun again.
func (b *Bridge) send(m *mcp.Message, body []byte, renews bool) error {
	ctx, cancel := context.WithTimeout(b.ctx, sendTime)
	defer cancel()
	w := waits{patience: &b.patience}
	arrived := false // perhaps
	for {
		seen := b.session.now()
		status, text, sent, err := b.deliver(ctx, m, body, seen)
		switch {
		case err == nil && b.isLost(status, text, seen):
			if !renews || b.renew(seen) != nil {
				return errSessionEnded
			}
		case err == nil && status/100 == 2:
			return nil
		case err == nil && passes(status):
			err = fmt.Errorf("status %d %s", status, http.StatusText(status))
		case err == nil:
			return fmt.Errorf("was refused with the status %d %s", status, http.StatusText(status))
		}
		arrived = arrived || sent && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests
		switch {
		case w.next(ctx, 0, b.patience.unsent):
		case arrived:
			return fmt.Errorf("may not have been delivered: %w", err)
		default:
			return fmt.Errorf("was not delivered: %w", err)
		}
	}
}

// named names a message for people.
func named(m *mcp.Message) string {
	if m.Kind == mcp.KindResponse {
		return "a response of the client"
	}
	return m.Method
}
