// Package fetch gets documents from addresses that strangers have chosen. Its requests
// reach the public internet only: the address is checked when the connection is made,
// after its name was resolved, so that a name cannot lead into the operator's network
// (server-side request forgery), not even by changing between two lookups.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/oauth/rate"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// Defaults of Options.
const (
	DefaultTimeout   = 5 * time.Second
	DefaultInFlight  = 32
	DefaultPerSource = 4
	DefaultPerHost   = 4
)

// Rates of requests that one network causes, and of requests to one host. Documents are
// cached, so these are rates of new ones: strangers cannot aim a flood at a host through
// this process.
const (
	sourceBurst, sourceEvery = 60, time.Second
	hostBurst, hostEvery     = 120, time.Second
)

// maxHeader bounds the header of a response in bytes.
const maxHeader = 32 << 10

// ErrBusy means that too many requests are in flight, or were sent a moment ago. No request
// was sent.
var ErrBusy = errors.New("too many documents are being fetched already")

// errPrivate refuses an address that is not public.
var errPrivate = errors.New("the address is not a public one")

// Options configure a Client. The zero value of a field means its default.
type Options struct {
	// Private also allows addresses that are not public, such as those of a test on the
	// same machine. Strangers can then have requests sent into the network of this process.
	Private bool
	// RootCAs verifies the certificates of servers; nil means the system's.
	RootCAs *x509.CertPool
	// Timeout bounds a request from the lookup of the name to the last byte.
	Timeout time.Duration
	// InFlight is the maximum number of requests in flight. PerSource is the maximum for
	// the clients of one network, and PerHost the maximum to one host.
	InFlight, PerSource, PerHost int
	// Now returns the time for the rates of requests; nil means that of internal/clock.
	Now func() time.Time
	// Connect replaces the dialer and its check of addresses. Only tests set it, to let
	// a local server stand for a public host.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)

	resolver *net.Resolver // nil means the default
}

// Client gets documents. It is safe for concurrent use.
type Client struct {
	options Options
	http    *http.Client
	slots   slots

	bySource, byHost *rate.Limiter
}

// New returns a client.
func New(o Options) *Client {
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	o.InFlight = orDefault(o.InFlight, DefaultInFlight)
	o.PerSource = orDefault(o.PerSource, DefaultPerSource)
	o.PerHost = orDefault(o.PerHost, DefaultPerHost)
	if o.Now == nil {
		o.Now = clock.Now
	}
	return &Client{options: o, bySource: rate.New(sourceEvery, sourceBurst), byHost: rate.New(hostEvery, hostBurst), http: &http.Client{
		Transport: Transport(o),
		Timeout:   o.Timeout,
		// The response of another address would speak for this one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func orDefault[T comparable](value, byDefault T) T {
	var zero T
	if value == zero {
		return byDefault
	}
	return value
}

// Private reports whether the client also connects to addresses that are not public.
func (c *Client) Private() bool { return c.options.Private }

// Transport returns a transport that connects to public addresses only, unless
// Options.Private allows others. It uses no proxy, because a proxy would resolve names
// by itself. It makes a new connection for each request, so that each one is checked.
func Transport(o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: orDefault(o.Timeout, DefaultTimeout), Resolver: o.resolver}
	if !o.Private {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return checkAddress(address) }
	}
	connect := o.Connect
	if connect == nil {
		connect = dialer.DialContext
	}
	return &http.Transport{
		DialContext:            connect,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    orDefault(o.Timeout, DefaultTimeout),
		DisableKeepAlives:      true,
		DisableCompression:     true, // a small body could become a large one
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
	}
}

// checkAddress returns an error unless an address with a port is public.
func checkAddress(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !Public(at.Addr()) {
		return errPrivate
	}
	return nil
}

// Document is the body of a response.
type Document struct {
	Body []byte
	// MaxAge is how long the body may be cached by the header Cache-Control, 0 if it may
	// not, and -1 without that header.
	MaxAge time.Duration
}

// JSON gets the JSON document with at most max bytes at an https URL. The source is the
// address of the client that caused the request. JSON does not follow redirects. Its
// errors are for the log: they can reveal which addresses of the network respond, so a
// stranger must not see them. They are ErrBusy if no request was sent for want of a
// slot.
func (c *Client) JSON(ctx context.Context, source netip.Addr, address string, max int64) (Document, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return Document{}, errors.New("want an https URL")
	}
	network, host, now := Network(source), strings.ToLower(u.Hostname()), c.options.Now()
	release, ok := c.slots.take(c.options.InFlight, limit{"source " + network, c.options.PerSource}, limit{"host " + host, c.options.PerHost})
	if !ok {
		return Document{}, ErrBusy
	}
	defer release()
	if c.bySource.Take(network, now) > 0 || c.byHost.Take(host, now) > 0 {
		return Document{}, ErrBusy
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Document{}, errors.New("the URL cannot be requested")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Farebox")
	resp, err := c.http.Do(r)
	if err != nil {
		return Document{}, fmt.Errorf("requesting %s: %w", u.Host, weburl.Cause(err))
	}
	defer resp.Body.Close()
	return read(resp, max)
}

// read checks a response and reads its body.
func read(resp *http.Response, max int64) (Document, error) {
	if resp.StatusCode != http.StatusOK {
		return Document{}, fmt.Errorf("the status is %d, want 200", resp.StatusCode)
	}
	if kind := resp.Header.Get("Content-Type"); !isJSON(kind) {
		return Document{}, fmt.Errorf("the Content-Type is %.60q, want application/json", kind)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return Document{}, fmt.Errorf("the Content-Encoding is %.60q, and none was asked for", encoding)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return Document{}, fmt.Errorf("the body broke off: %w", weburl.Cause(err))
	}
	if int64(len(body)) > max {
		return Document{}, fmt.Errorf("the body has more than %d bytes", max)
	}
	return Document{Body: body, MaxAge: maxAge(resp.Header)}, nil
}

// isJSON reports whether a Content-Type is application/json or has the suffix +json
// (RFC 6839).
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json"))
}

// Network returns the name of the network that an address counts for in limits: the
// address itself, or the /64 of an IPv6 address, because a host usually has all
// addresses of its /64.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
