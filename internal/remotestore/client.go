package remotestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
	strict "github.com/go-json-experiment/json"
	strictv1 "github.com/go-json-experiment/json/v1"
	"github.com/sony/gobreaker/v2"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// The bounds of a request.
const (
	maxTries   = 3
	firstPause = 25 * time.Millisecond // the pause before the first retry; each further pause is twice as long

	// smallResponse bounds most responses of the platform, in bytes. largeResponse
	// bounds the responses that may contain a stored response, or all changes that the
	// platform keeps.
	smallResponse = 64 << 10
	largeResponse = 4 << 20
)

func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	dialer := &net.Dialer{Timeout: defaultTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 2 * time.Second},
		TLSHandshakeTimeout:    defaultTimeout,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: smallResponse,
		DisableCompression:     true, // so that the bounds apply to the bytes received
	}
}

// request is a request to the platform. All requests are safe to repeat.
type request struct {
	method  string
	path    []string // segments below the API's base URL, not escaped
	query   url.Values
	in, out any   // bodies of the request and the response; nil if there is no body
	limit   int64 // the maximum length of the response, in bytes
	within  time.Duration
}

// refusal is an error that the platform returned as a problem document.
type refusal struct{ wire.Problem }

// failure is a missing or unusable response.
type failure struct {
	err   error
	again bool // whether a retry may help
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// ask sends a request, with retries. It returns a refusal of the platform as an
// error of package ledger. Any other error wraps ledger.ErrUnavailable, and also the
// error of ctx if the caller cancelled.
func (s *Store) ask(ctx context.Context, r request) error {
	body, err := r.body()
	if err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrInvalid, err)
	}
	if s.closed.Err() != nil {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
	if r.within == 0 {
		r.within = s.timeout
	}
	bounded, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	_, err = backoff.Retry(bounded, func() (struct{}, error) {
		_, err := s.breaker.Execute(func() (struct{}, error) { return struct{}{}, s.try(bounded, ctx, &r, body) })
		if f := new(failure); err != nil && (!errors.As(err, &f) || !f.again) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxTries(maxTries), backoff.WithMaxElapsedTime(r.within), backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: time.Second,
	}))
	return s.result(ctx, err)
}

// result converts err, the error of a request, to the error that ask returns.
func (s *Store) result(ctx context.Context, err error) error {
	var refused *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused.Err()
	case s.closed.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fmt.Errorf("%w: the platform was not waited for: %w", ledger.ErrUnavailable, ctx.Err())
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return s.down()
	}
	return fmt.Errorf("%w: the platform: %w", ledger.ErrUnavailable, err)
}

func (r *request) body() ([]byte, error) {
	if r.in == nil {
		return nil, nil
	}
	return json.Marshal(r.in)
}

// try sends the request once. ctx has the request's deadline. caller is the context
// that was passed to ask; it does not have that deadline.
func (s *Store) try(ctx, caller context.Context, r *request, body []byte) error {
	err := s.send(ctx, r, body)
	f := new(failure)
	switch {
	case err == nil:
		s.accepted()
		return nil
	case !errors.As(err, &f):
		return err
	case s.closed.Err() != nil:
		return context.Canceled
	case errors.Is(caller.Err(), context.Canceled):
		return caller.Err()
	}
	f.again = f.again && ctx.Err() == nil
	s.last.Store(f)
	return f
}

// send sends the request and decodes the response into r.out. Its error is a
// *refusal or a *failure.
func (s *Store) send(ctx context.Context, r *request, body []byte) error {
	answer, err := s.get(ctx, r, body)
	if err != nil {
		return &failure{err: err, again: true}
	}
	defer answer.Body.Close()
	status := answer.StatusCode
	text, err := io.ReadAll(io.LimitReader(answer.Body, r.limit+1))
	switch {
	case err != nil:
		return &failure{err: fmt.Errorf("its answer broke off: %w", err), again: true}
	case int64(len(text)) > r.limit:
		return &failure{err: fmt.Errorf("its answer to %s is longer than %d bytes", r, r.limit)}
	case status < 200 || status > 299:
		return s.problem(r, answer, text)
	case r.out == nil:
		return nil
	}
	if err := decode(answer.Header, "application/json", text, r.out); err != nil {
		return &failure{err: fmt.Errorf("its answer to %s cannot be read: %w", r, err)}
	}
	return nil
}

// get sends the request and returns the response without reading its body.
func (s *Store) get(ctx context.Context, r *request, body []byte) (*http.Response, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		content = bytes.NewReader(body)
	}
	u := s.base.JoinPath(escaped(r.path)...)
	u.RawQuery = r.query.Encode()
	q, err := http.NewRequestWithContext(ctx, r.method, u.String(), content)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", s.authorization)
	q.Header.Set("Accept", "application/json")
	q.Header.Set("User-Agent", "farebox-gateway")
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	// net/http never sends a header with a nil value. But net/http takes this header as
	// a sign that the request may be repeated. If the server has closed an idle
	// connection, net/http then retries on a new one.
	q.Header["X-Idempotency-Key"] = nil
	return s.client.Do(q)
}

func escaped(path []string) []string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = url.PathEscape(p)
	}
	return parts
}

// String describes the request in error messages.
func (r *request) String() string { return r.method + " " + r.path[0] }

// problem returns the error for a response that does not have a 2xx status.
func (s *Store) problem(r *request, answer *http.Response, text []byte) error {
	status := answer.StatusCode
	if status >= 500 {
		again := status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
		return &failure{err: fmt.Errorf("it answers %s with status %d", r, status), again: again}
	}
	var refused refusal
	err := decode(answer.Header, "application/problem+json", text, &refused.Problem)
	if err != nil || refused.Code == "" || refused.Status != status || status < 400 {
		return &failure{err: fmt.Errorf("it answers %s with status %d and no reason that can be read: is %s the site that serves its API?", r, status, s.base.Host)}
	}
	if refused.ours() {
		s.rejected(&refused)
	}
	return &refused
}

// ours reports whether the platform refuses this gateway's own key, as opposed to a
// key in the body of the request.
func (r *refusal) ours() bool {
	switch r.Code {
	case wire.TokenInvalid, wire.TokenExpired, wire.KindWrong:
		return r.Field == "" || r.Field == "authorization" || r.Field == "Authorization"
	}
	return false
}

// rejected records that the platform refuses this gateway's key. It logs only the
// first refusal since the key was last accepted.
func (s *Store) rejected(r *refusal) {
	if s.refused.Swap(r) == nil {
		s.logger.Error("the platform refuses this gateway's key: every call is refused until the store's key is a gateway key that is good", "platform", s.base.Host, "code", r.Code, "reason", r.Error())
	}
}

func (s *Store) accepted() {
	if s.refused.Load() != nil && s.refused.Swap(nil) != nil {
		s.logger.Info("the platform accepts this gateway's key again", "platform", s.base.Host)
	}
}

var errEmpty = errors.New("it is empty")

// decode decodes JSON strictly: names must match exactly and occur only once. It
// ignores unknown names, so that a platform may be newer than its gateways.
func decode(h http.Header, want string, text []byte, out any) error {
	if len(text) == 0 {
		return errEmpty
	}
	if media, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || media != want {
		return fmt.Errorf("its content type is not %s", want)
	}
	return strict.Unmarshal(text, out, strictv1.FormatDurationAsNano(true))
}
