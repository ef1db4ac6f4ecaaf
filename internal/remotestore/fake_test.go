package remotestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

const secret = "sk_live_5ec2e70123456789abcdef0123456789abcdef0123456789abcdef0123456789"

// reply answers one request in place of the platform. It gets the request and its
// body.
type reply func(*http.Request, []byte) (*http.Response, error)

// fake is an http.RoundTripper that plays the platform. It uses no network, so that
// tests can run in a synctest bubble. It answers each request with the next reply of
// the script, and repeats the last reply when the script ends.
type fake struct {
	mu     sync.Mutex
	script []reply
	asked  []string // method and path of each request, except for streams
	bodies []string
	stream reply
}

func (f *fake) RoundTrip(q *http.Request) (*http.Response, error) {
	var body []byte
	if q.Body != nil {
		body, _ = io.ReadAll(q.Body)
	}
	if q.Header.Get("Accept") == "text/event-stream" {
		f.mu.Lock()
		stream := f.stream
		f.mu.Unlock()
		return stream(q, nil)
	}
	f.mu.Lock()
	f.asked, f.bodies = append(f.asked, q.Method+" "+strings.TrimPrefix(q.URL.Path, wire.Base)), append(f.bodies, string(body))
	next := f.script[0]
	if len(f.script) > 1 {
		f.script = f.script[1:]
	}
	f.mu.Unlock()
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	return next(q, body)
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func (f *fake) plays(script ...reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script, f.asked, f.bodies = script, nil, nil
}

// streams sets the reply to all further requests for a stream.
func (f *fake) streams(r reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stream = r
}

func response(q *http.Request, status int, media string, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(body), Request: q}
}

// says returns a reply with the given status, media type and body.
func says(status int, media, text string) reply {
	return func(q *http.Request, _ []byte) (*http.Response, error) {
		return response(q, status, media, strings.NewReader(text)), nil
	}
}

// gives returns a successful reply with v as JSON.
func gives(v any) reply {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return says(http.StatusOK, "application/json", string(text))
}

func done(q *http.Request, _ []byte) (*http.Response, error) {
	return response(q, http.StatusNoContent, "", http.NoBody), nil
}

// refuses returns a reply with the problem document of err.
func refuses(err error) reply { return tells(wire.ProblemOf(err)) }

func tells(p *wire.Problem) reply {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return says(p.Status, "application/problem+json", string(text))
}

var errCut = errors.New("connection reset by peer")

// cut is a reply in which the connection breaks before the response.
func cut(*http.Request, []byte) (*http.Response, error) { return nil, errCut }

// torn is a reply in which the connection breaks in the middle of the response.
func torn(q *http.Request, _ []byte) (*http.Response, error) {
	return response(q, http.StatusOK, "application/json", io.MultiReader(strings.NewReader(`{"balance":`), tearing{})), nil
}

type tearing struct{}

func (tearing) Read([]byte) (int, error) { return 0, errCut }

// hangs is a reply that does not come before the request is cancelled.
func hangs(q *http.Request, _ []byte) (*http.Response, error) {
	<-q.Context().Done()
	return nil, q.Context().Err()
}

// A records value holds log output for a test to read.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// faked returns a store that calls a fake platform, the fake platform, and the store's
// log. In a synctest bubble, the test must close the store itself.
func faked(t *testing.T, script ...reply) (*Store, *fake, *records) {
	t.Helper()
	return streamed(t, hangs, script...)
}

// streamed is like faked, but stream is the reply to each request for a stream.
func streamed(t *testing.T, stream reply, script ...reply) (*Store, *fake, *records) {
	t.Helper()
	log := new(records)
	f := &fake{script: script, stream: stream}
	s, err := newStore(Options{
		URL: "https://platform.example.com", Key: secret, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.client.Transport = f
	s.start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if text := log.String(); strings.Contains(text, secret[8:]) {
			t.Errorf("the secret is in the log: %s", text)
		}
	})
	return s, f, log
}

func newID(prefix string) string { return ids.New(prefix) }

// order returns the order of a call.
func order() ledger.Order {
	return ledger.Order{Account: "acct_1", Key: "key_1", Lineage: "key_1", Server: "weather", Tool: "get_forecast", Amount: 10_000}
}

// charged returns the platform's response to a capture of the order. The platform
// has added the provider and the fee.
func charged(id string, o ledger.Order) wire.Captured {
	o.Provider, o.FeeTo, o.Fee = "acct_acme", "acct_operator", 100
	c := ledger.Charge{ID: id, Order: o, State: ledger.Captured, At: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	return wire.Captured{Charge: wire.ChargeOf(&c), Balance: wire.Balance{Posted: 990_000}}
}

var reserved = wire.Reserved{Balance: wire.Balance{Posted: 1_000_000, Reserved: 10_000}}

// unavailable checks that err is ledger.ErrUnavailable and does not contain the
// secret.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("%s: %v, want one that is %v", what, err, ledger.ErrUnavailable)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret[8:]) {
		t.Errorf("%s: the secret is in %v", what, err)
	}
}

func ctx(t *testing.T) context.Context { return t.Context() }
