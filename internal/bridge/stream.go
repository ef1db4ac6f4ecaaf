package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/sse"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/weburl"
)

const (
	endTime = 2 * time.Second // for the DELETE of a session

	// pollDelay is the wait before a stream is resumed, unless the server asks for
	// another one.
	pollDelay = time.Second
	// openTime is how long the client's first requests wait until the session's stream is
	// open. Some servers send the head of the stream only with its first event.
	openTime = time.Second

	// maxDelay is the longest wait between two attempts to open the session's stream.
	maxDelay = 30 * time.Second
)

// listen opens the stream on which the server sends messages of its own in a session
// (MCP 2025-11-25, "Listening for Messages from the Server"). It replaces the stream of
// an earlier session. It returns when the server has opened or refused the stream, or
// after openTime: the stream should be there before a server answers requests.
func (b *Bridge) listen() {
	ctx, cancel := context.WithCancel(b.ctx)
	s := &b.session
	s.mu.Lock()
	if s.stream != nil {
		s.stream()
	}
	s.stream = cancel
	seen := s.state
	s.mu.Unlock()
	opened := make(chan struct{})
	b.tasks.Go(func() { b.keepListening(ctx, &seen, sync.OnceFunc(func() { close(opened) })) })
	select {
	case <-opened:
	case <-time.After(openTime):
	case <-ctx.Done():
	}
}

func (b *Bridge) keepListening(ctx context.Context, seen *state, begun func()) {
	defer begun()
	lastID, opened, wait := "", false, time.Duration(0)
	for ctx.Err() == nil {
		resp, err := b.get(ctx, seen, lastID)
		begun()
		if err == nil && resp.StatusCode == http.StatusOK && isStream(resp) {
			opened, wait = true, 0
			var delay time.Duration
			lastID, delay = b.passStream(resp.Body, lastID)
			wait = max(wait, delay)
		}
		if err == nil {
			_ = resp.Body.Close()
			switch status := resp.StatusCode; {
			case opened && status == http.StatusNotFound:
				if err := b.renew(seen); err != nil && ctx.Err() == nil {
					b.notes.say("%v", err)
				}
				return // a new session has a stream of its own
			case status == http.StatusUnauthorized && b.signsIn():
				// A sign-in for another request may come.
			case status/100 == 4 && status != http.StatusTooManyRequests, status == http.StatusOK && !isStream(resp):
				return // this server has no such stream
			}
		}
		if wait == 0 {
			wait = pollDelay
		} else {
			wait = min(2*wait, maxDelay)
		}
		if sleep(ctx, jitter(wait)) != nil {
			return
		}
	}
}

// passStream passes the messages of a stream on until it ends. It returns the id and
// the delay from which it can be resumed.
func (b *Bridge) passStream(body io.Reader, lastID string) (string, time.Duration) {
	events := sse.NewReader(body, MaxMessage)
	scanner := mcp.NewScanner(mcp.ID{})
	for {
		event, err := events.Next()
		if id := events.LastID(); id != "" {
			lastID = id
		}
		if err != nil {
			return lastID, events.Retry()
		}
		scanner.Reset(mcp.ID{})
		scanner.Write(event.Data)
		b.passOn(event.Data, scanner.End())
	}
}

// get opens a stream of the session, or resumes one after the event with the id.
func (b *Bridge) get(ctx context.Context, seen *state, lastID string) (*http.Response, error) {
	return b.authorized(ctx, func(token string) (*http.Response, error) {
		r, err := b.newRequest(ctx, http.MethodGet, nil, seen, token)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", eventStreams)
		if lastID != "" {
			r.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := b.http.Do(r)
		return resp, weburl.Cause(err)
	})
}

// passOn writes a request or a notification of the server to the client.
func (b *Bridge) passOn(message []byte, v mcp.Verdict) {
	switch v.Class {
	case mcp.ClassPassing:
		b.write(message)
	case mcp.ClassEmpty:
	default:
		b.notes.say("a message of the server was left out: %s", v.Reason)
	}
}

// cursor is the place in a stream from which it can be resumed.
type cursor struct {
	id    string
	delay time.Duration
}

// readStream reads the stream of a request until its response.
func (b *Bridge) readStream(c *call, body io.Reader, at cursor) (result, cursor) {
	events := sse.NewReader(body, MaxMessage)
	scanner := mcp.NewScanner(c.m.ID)
	for {
		event, err := events.Next()
		if id := events.LastID(); id != "" {
			at.id = id
		}
		if delay := events.Retry(); delay > 0 {
			at.delay = delay
		}
		var long *sse.TooLongError
		switch {
		case errors.As(err, &long):
			return b.failed(c, fmt.Sprintf("the server's response cannot be passed on: %v", err)), at
		case err != nil:
			return result{state: lost, err: fmt.Errorf("the stream ended before the response: %w", err)}, at
		}
		scanner.Reset(c.m.ID)
		scanner.Write(event.Data)
		switch v := scanner.End(); {
		case v.Class == mcp.ClassAnswer:
			return result{state: answered, message: event.Data, verdict: v}, at
		case c.streams && c.tries > 1 && isAcknowledgement(event.Data):
			// The client has seen the acknowledgement of the first stream.
		default:
			b.passOn(event.Data, v)
		}
	}
}

// resume gets the rest of a stream that has ended before its response, by GET with the
// id of the last event (MCP 2025-11-25, "Resumability and Redelivery"). The state is
// lost if the stream cannot be resumed.
func (b *Bridge) resume(c *call, seen *state, at cursor) result {
	failed, delay := clock.Now(), at.delay
	for {
		if delay == 0 {
			delay = min(pollDelay, b.patience.most)
		}
		if sleep(c.ctx, delay) != nil {
			return result{state: gone}
		}
		resp, err := b.get(c.ctx, seen, at.id)
		switch {
		case err != nil || resp.StatusCode/100 == 5:
			if err == nil {
				_ = resp.Body.Close()
			}
			if clock.Since(failed) > b.patience.doubt {
				return result{state: lost, err: errors.New("the stream could not be resumed in time")}
			}
			delay = min(2*delay, b.patience.most)
			continue
		case resp.StatusCode != http.StatusOK || !isStream(resp):
			_ = resp.Body.Close()
			return result{state: lost, err: fmt.Errorf("the stream cannot be resumed: status %d", resp.StatusCode)}
		}
		before := at.id
		var r result
		r, at = b.readStream(c, resp.Body, at)
		_ = resp.Body.Close()
		if r.state != lost {
			return r
		}
		if at.id != before {
			failed = clock.Now()
		}
		if clock.Since(failed) > b.patience.running {
			return result{state: lost, err: errors.New("the resumed stream brought nothing for a long time")}
		}
		delay = at.delay
	}
}
