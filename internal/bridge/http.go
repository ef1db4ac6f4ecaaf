package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/weburl"
)

const (
	dialTime      = 10 * time.Second
	sessionHeader = "Mcp-Session-Id"
	versionHeader = "Mcp-Protocol-Version"
	maxErrorBody  = 1 << 20 // bound of the body of an error status, in bytes
	// idleTime is shorter than the time after which servers and proxies close connections.
	// Otherwise a call could be sent on a connection that is being closed.
	idleTime      = 30 * time.Second
	maxIdle       = 64 // connections that stay open for later calls
	acceptedTypes = "application/json, text/event-stream"
	eventStreams  = "text/event-stream"
)

// newHTTPClient returns a client that sends each request at most once and follows no
// redirect, because a redirect could lead the token to another server.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, TLSHandshakeTimeout: dialTime,
			ForceAttemptHTTP2: true, DisableCompression: true,
			MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleTime,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newRequest returns a request with the headers that all requests have. seen is the
// session of the message; a message of a version without sessions has a nil one.
func (b *Bridge) newRequest(ctx context.Context, method string, body []byte, seen *state, token string) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, b.o.URL.String(), reader)
	if err != nil {
		return nil, err
	}
	r.GetBody = nil // otherwise the transport may send the request twice
	r.Header.Set("User-Agent", "farebox-connect")
	r.Header.Set("Accept", acceptedTypes)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if seen != nil && seen.id != "" {
		r.Header.Set(sessionHeader, seen.id)
	}
	if seen != nil && seen.version != "" {
		r.Header.Set(versionHeader, seen.version)
	}
	return r, nil
}

// post sends a message. sent reports whether the server may have received it. The caller
// closes the response.
func (b *Bridge) post(ctx context.Context, m *mcp.Message, body []byte, seen *state, token, key string, wrote func()) (resp *http.Response, sent bool, err error) {
	var begun atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { begun.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { wrote() },
	})
	if m.ProtocolVersion != "" || m.Method == "initialize" {
		seen = nil
	}
	r, err := b.newRequest(ctx, http.MethodPost, body, seen, token)
	if err != nil {
		return nil, false, err
	}
	if m.ProtocolVersion != "" {
		b.params.Set(r.Header, m)
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err = b.http.Do(r)
	return resp, begun.Load(), weburl.Cause(err)
}

// deliver sends a message that has no response, and returns the status and the body.
func (b *Bridge) deliver(ctx context.Context, m *mcp.Message, body []byte, seen *state) (status int, text []byte, sent bool, err error) {
	resp, err := b.authorized(ctx, func(token string) (resp *http.Response, err error) {
		resp, sent, err = b.post(ctx, m, body, seen, token, "", func() {})
		return resp, err
	})
	if err != nil {
		return 0, nil, sent, err
	}
	defer resp.Body.Close()
	text, _ = readAll(resp.Body, maxErrorBody) // the status is enough
	return resp.StatusCode, text, true, nil
}

// isStream reports whether a response is an event stream.
func isStream(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == eventStreams
}

// readAll reads a body of at most max bytes.
func readAll(r io.Reader, max int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(body)) > max {
		return body[:max], errTooLong
	}
	return body, err
}

var errTooLong = fmt.Errorf("the response has more than %d bytes", MaxMessage)
