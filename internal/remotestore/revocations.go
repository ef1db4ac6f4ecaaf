package remotestore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Follow extends the node's lease on its cached keys, and returns the key changes that
// the node has not read yet. seen is the position of the last change that the node has
// read; a negative seen skips all past changes. Errors: ledger.ErrUnavailable.
func (s *Store) Follow(ctx context.Context, node string, seen int64, lease time.Duration) (keys.Revocations, error) {
	var got wire.Revocations
	in := wire.Follow{Node: node, Seen: max(seen, -1), LeaseMS: lease.Milliseconds()}
	if err := s.ask(ctx, request{method: http.MethodPost, path: []string{"keys", "revocations", "follow"}, in: in, out: &got, limit: largeResponse}); err != nil {
		return keys.Revocations{}, filterError(err)
	}
	changes, err := got.Revocations()
	if err != nil {
		return keys.Revocations{}, fmt.Errorf("%w: the platform's answer cannot be read: %w", ledger.ErrUnavailable, err)
	}
	s.position.Store(changes.Position)
	return changes, nil
}

// Leave ends the node's lease if the node has one. Errors: ledger.ErrUnavailable.
func (s *Store) Leave(ctx context.Context, node string) error {
	err := s.ask(ctx, request{method: http.MethodDelete, path: []string{"keys", "revocations", "nodes", node}, limit: smallResponse})
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	return filterError(err)
}

// Confirm returns nil at once. Keys are changed at the platform, which itself waits
// for every gateway.
func (s *Store) Confirm(context.Context, string) error { return nil }

// Changed returns a channel that is closed when keys may have changed since the
// call. The signal is only a hint: it may be spurious or lost.
func (s *Store) Changed() <-chan struct{} { return s.wakeup.Wait() }

// The bounds of the times for which listen waits.
const (
	// quiet is how long a stream may be silent before it counts as broken. The platform
	// sends keep-alives at shorter intervals.
	quiet = 45 * time.Second
	// After a stream that lasted at least steady, the pause before the next attempt is
	// the shortest one again. pauseMost is the longest pause.
	steady    = 10 * time.Second
	pauseMost = 15 * time.Second
)

// listen keeps a stream of changes open until the store is closed.
func (s *Store) listen() {
	defer close(s.heard)
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = 100*time.Millisecond, pauseMost, 2
	for s.closed.Err() == nil {
		began := clock.Now()
		err := s.hear()
		if clock.Since(began) >= steady {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		s.logger.Debug("the stream of changes of keys ended; they are polled until it is open again", "error", err, "wait", wait)
		_ = clock.Sleep(s.closed, wait) // the loop checks the context
	}
}

// hear opens one stream and reads it until it ends.
func (s *Store) hear() error {
	ctx, cancel := context.WithCancel(s.closed)
	defer cancel()
	alive := time.AfterFunc(quiet, cancel)
	defer alive.Stop()
	u := s.base.JoinPath("keys", "revocations")
	if after := s.position.Load(); after >= 0 {
		u.RawQuery = "after=" + strconv.FormatInt(after, 10)
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	q.Header.Set("Authorization", s.authorization)
	q.Header.Set("Accept", "text/event-stream")
	answer, err := s.client.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	media, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode != http.StatusOK || err != nil || media != "text/event-stream" {
		return fmt.Errorf("the platform answers with status %d, not with a stream", answer.StatusCode)
	}
	s.wakeup.Notify() // changes may have come before the stream was open
	lines, begins := bufio.NewReader(answer.Body), true
	for {
		part, more, err := lines.ReadLine() // only the beginning of a line matters, and a line may be long
		if err != nil {
			return err
		}
		alive.Reset(quiet)
		if begins && bytes.HasPrefix(part, []byte("data")) {
			s.wakeup.Notify()
		}
		begins = !more
	}
}
