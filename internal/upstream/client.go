// Package upstream sends requests to one MCP server over HTTP/1.1 (RFC 9112) without
// TLS.
//
// It serves sites that configure only the server's address; all other sites use Caddy's
// reverse_proxy. Two things set it apart from http.Transport. A request is sent at most
// once, because sending a call twice would run its tool twice. And one goroutine sends
// the request and reads its response, where http.Transport needs two more goroutines
// for each connection; see docs/performance.md.
package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Options configure a Client. All fields must be set.
type Options struct {
	Network string // "tcp" or "unix"
	Address string // the server's address in the form that net.Dial takes
	Host    string // the value of the Host header of all requests
	// Trusted reports whether a request came from a trusted proxy. The X-Forwarded
	// headers of such a request are kept. Those of any other request are replaced.
	Trusted func(*http.Request) bool
}

// The bounds of a Client. The first two bounds are those of Caddy's reverse_proxy.
const (
	dialTime = 3 * time.Second
	idleTime = 2 * time.Minute // how long an unused connection stays open
	maxIdle  = 1024            // how many unused connections stay open; any other is closed after its request
	maxHead  = 1 << 20         // maximum size of a response's head and of the informational heads before it, in bytes
)

// Client has the connections to one server. It is safe for concurrent use.
type Client struct {
	o      Options
	dialer net.Dialer

	mu     sync.Mutex
	idle   []*conn // the most recently used connection is at the end
	closed bool
	reaper *time.Timer // closes connections that have been idle for too long; nil without idle connections
}

// New returns a Client. It does not dial.
func New(o Options) *Client {
	return &Client{o: o, dialer: net.Dialer{Timeout: dialTime}}
}

// Address returns the server's address.
func (c *Client) Address() string { return c.o.Address }

// Close closes all idle connections. Requests in flight go on. Each connection in use
// closes after its request.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, k := range c.idle {
		_ = k.Close()
	}
	c.idle = nil
	if c.reaper != nil {
		c.reaper.Stop()
	}
}

// get returns an idle connection that can be used, or dials a new one.
func (c *Client) get(ctx context.Context) (*conn, error) {
	for {
		k := c.pop()
		if k == nil {
			return c.dial(ctx)
		}
		if clock.Now().Before(k.until) && k.quiet() {
			k.reset()
			return k, nil
		}
		_ = k.Close()
	}
}

func (c *Client) pop() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	k := c.idle[last]
	c.idle[last], c.idle = nil, c.idle[:last]
	return k
}

// put keeps the connection for later requests. The connection stays open for at most
// the given time.
func (c *Client) put(k *conn, keep time.Duration) {
	k.reused, k.until = true, clock.Now().Add(keep)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		_ = k.Close()
		return
	}
	c.idle = append(c.idle, k)
	if c.reaper == nil {
		c.reaper = time.AfterFunc(idleTime, c.reap)
	}
}

// reap closes the connections that have been idle for too long.
func (c *Client) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, left := clock.Now(), c.idle[:0]
	for _, k := range c.idle {
		if now.Before(k.until) {
			left = append(left, k)
		} else {
			_ = k.Close()
		}
	}
	clear(c.idle[len(left):])
	c.idle, c.reaper = left, nil
	if len(left) > 0 && !c.closed {
		c.reaper = time.AfterFunc(idleTime, c.reap)
	}
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	raw, err := c.dialer.DialContext(ctx, c.o.Network, c.o.Address)
	if err != nil {
		return nil, err
	}
	k := &conn{Conn: raw, limit: maxHead}
	k.in, k.out = bufio.NewReader((*reading)(k)), bufio.NewWriter((*writing)(k))
	if s, ok := raw.(syscall.Conn); ok {
		k.raw, _ = s.SyscallConn()
	}
	return k, nil
}

// conn is a connection to the server. It serves one request at a time.
type conn struct {
	net.Conn
	raw    syscall.RawConn // nil for a connection without a file descriptor
	in     *bufio.Reader
	out    *bufio.Writer
	reused bool      // the connection has served a request before
	until  time.Time // an idle connection may not be used from this time on

	// The fields below describe the current request.
	sent     int   // the number of bytes sent
	received int64 // the number of bytes received
	limit    int64 // the number of bytes that the connection may receive; 0 for no limit
}

// reset prepares an idle connection for its next request.
func (k *conn) reset() { k.sent, k.received, k.limit = 0, 0, maxHead }

// interrupt ends all reads and writes, now and in future.
func (k *conn) interrupt() { _ = k.SetDeadline(time.Unix(1, 0)) }

// errLongHead reports a head that exceeds maxHead.
var errLongHead = fmt.Errorf("the head of its response is longer than %d bytes", maxHead)

// reading is a conn as an io.Reader that counts the received bytes.
type reading conn

func (k *reading) Read(p []byte) (int, error) {
	if k.limit > 0 {
		left := k.limit - k.received
		if left <= 0 {
			return 0, errLongHead
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := k.Conn.Read(p)
	k.received += int64(n)
	return n, err
}

// writing is a conn as an io.Writer that counts the sent bytes.
type writing conn

func (k *writing) Write(p []byte) (int, error) {
	n, err := k.Conn.Write(p)
	k.sent += n
	return n, err
}

// causeOf joins the error of a connection with the error of ctx, if ctx has ended. In
// this case the connection was probably interrupted because ctx ended.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return err
}
