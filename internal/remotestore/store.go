package remotestore

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/signal"
)

// Options are the options of a Store.
type Options struct {
	// URL is the address of the site that serves the platform's API, without the
	// path of the API. The scheme must be https, except for loopback hosts.
	URL string
	// Key is the secret of a gateway key of the platform.
	Key string
	// Timeout bounds a call together with its retries, except for the calls that
	// SettleTimeout bounds. 0 means 2 s.
	Timeout time.Duration
	// SettleTimeout bounds a capture, refund or binding together with its retries. The
	// default is longer than the default of Timeout, because the platform answers these
	// calls only after they are durable. 0 means 10 s.
	SettleTimeout time.Duration
	// Proxy chooses a proxy for a request. If nil, no proxy is used, not even one
	// that the environment names.
	Proxy func(*http.Request) (*url.URL, error)
	// Logger logs when the platform refuses the key, becomes unreachable, or is
	// back. If nil, nothing is logged.
	Logger *slog.Logger
}

const (
	defaultTimeout       = 2 * time.Second
	defaultSettleTimeout = 10 * time.Second
)

// Store gives access to the keys and the ledger of a platform. It is safe for
// concurrent use.
type Store struct {
	base          *url.URL // base URL of the API
	authorization string
	timeout       time.Duration
	settleTimeout time.Duration
	logger        *slog.Logger
	transport     *http.Transport
	client        *http.Client
	breaker       *gobreaker.CircuitBreaker[struct{}]
	last          atomic.Pointer[failure] // the last failure, for the error of calls while the breaker is open
	refused       atomic.Pointer[refusal] // set while the platform refuses this gateway's own key
	open          *memory
	names         names
	currency      atomic.Value // string: this gateway's currency, sent with each order

	closed   context.Context // cancelled by Close
	close    context.CancelFunc
	heard    chan struct{} // closed when listen has returned
	wakeup   signal.Broadcast
	position atomic.Int64 // position of the last change that Follow has read; -1 before Follow is first called
}

// New returns the store of the platform. It sends no request, so that a gateway can
// start while the platform is down. The caller must Close the store.
func New(o Options) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

func newStore(o Options) (*Store, error) {
	base, err := baseOf(o.URL)
	if err != nil {
		return nil, err
	}
	if err := checkKey(o.Key); err != nil {
		return nil, err
	}
	s := &Store{
		base: base, authorization: "Bearer " + o.Key, timeout: o.Timeout, settleTimeout: o.SettleTimeout, logger: o.Logger,
		transport: newTransport(o.Proxy), open: newMemory(maxOpen, clock.Now), heard: make(chan struct{}),
	}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	if s.settleTimeout <= 0 {
		s.settleTimeout = defaultSettleTimeout
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.client = &http.Client{Transport: s.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s.breaker = newBreaker(s)
	s.position.Store(-1)
	return s, nil
}

// start starts listening for changes of keys.
func (s *Store) start() {
	s.closed, s.close = context.WithCancel(context.Background())
	go s.listen()
}

// Healthy returns nil if the platform is available, and otherwise an error with the
// reason.
func (s *Store) Healthy() error {
	if s.closed.Err() != nil {
		return errClosed
	}
	if r := s.refused.Load(); r != nil {
		return fmt.Errorf("%w: the platform refuses this gateway's key: %w", ledger.ErrUnavailable, r)
	}
	if s.breaker.State() == gobreaker.StateClosed {
		return nil
	}
	return s.down()
}

// Close closes the store. Running and later requests fail with errors that wrap
// ledger.ErrUnavailable.
func (s *Store) Close() error {
	s.close()
	<-s.heard
	s.transport.CloseIdleConnections()
	return nil
}

var errClosed = fmt.Errorf("%w: the gateway is shutting down", ledger.ErrUnavailable)
