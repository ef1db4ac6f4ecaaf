package remotestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	// openAfter is the number of consecutive failures after which the breaker opens.
	openAfter = 5
	// probeAfter is how long an open breaker rejects all requests. Then it lets one
	// request through. If that request succeeds the breaker closes, and otherwise the
	// breaker stays open for the same time again.
	probeAfter = time.Second
)

// newBreaker returns a circuit breaker for the platform. A refusal counts as a
// success. A request that its caller cancelled does not count.
func newBreaker(s *Store) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "platform", MaxRequests: 1, Timeout: probeAfter,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= openAfter },
		IsSuccessful: func(err error) bool {
			var refused *refusal
			return err == nil || errors.As(err, &refused)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed:
				s.logger.Warn("the platform cannot be reached: calls are refused at once until it can", "platform", s.base.Host, "error", s.last.Load())
			case to == gobreaker.StateClosed:
				s.logger.Info("the platform can be reached again", "platform", s.base.Host)
			}
		},
	})
}

// down returns the error for requests while the breaker is open.
func (s *Store) down() error {
	if f := s.last.Load(); f != nil {
		return fmt.Errorf("%w: the platform cannot be reached: %w", ledger.ErrUnavailable, f)
	}
	return fmt.Errorf("%w: the platform cannot be reached", ledger.ErrUnavailable)
}
