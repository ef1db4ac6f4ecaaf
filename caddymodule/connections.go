package caddymodule

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/share"
)

func init() { caddy.RegisterModule(Connections{}) }

// Connections bounds the connections of a listener that have not brought a
// request with a good key yet: three quarters of the limit `connections` for
// all, a half from one address. For a new one beyond that, the oldest such
// connection is closed.
//
// It stands first among the `listener_wrappers` of a server, but after
// `proxy_protocol`, which finds the client's address.
type Connections struct{}

// CaddyModule returns the Caddy module information.
func (Connections) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.farebox", New: func() caddy.Module { return new(Connections) }}
}

// WrapListener returns a listener that counts its connections.
func (*Connections) WrapListener(l net.Listener) net.Listener { return &countedListener{l} }

// UnmarshalCaddyfile takes no options.
func (*Connections) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Errf("the listener wrapper farebox takes no options, not %q: its limit is that of connections in the global option", d.Val())
	}
	return nil
}

type countedListener struct{ net.Listener }

// Accept returns the next connection for which there is room, and closes those
// without.
func (l *countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &countedConn{Conn: conn, claim: new(share.Allocation)}
		peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		if c.count(share.Holder{Address: peer.Addr()}) {
			c.claim.Cuttable(func() { _ = conn.Close() })
			return c, nil
		}
		c.claim.Close()
		_ = conn.Close()
	}
}

// countedConn is a connection that counts until it is closed: first for its
// address, then for the first good key that it brings. Behind a proxy, many keys
// share it.
type countedConn struct {
	net.Conn

	mu     sync.Mutex
	claim  *share.Allocation
	known  bool
	closed bool
}

func (c *countedConn) count(who share.Holder) bool {
	shares.connections.Open(c.claim, who)
	return c.claim.Take(1) == nil
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.claim.Close()
	c.mu.Unlock()
	return c.Conn.Close()
}

// identify counts the connection as the holder's. It returns false if there is no
// room, and the connection must close after the response.
func (c *countedConn) identify(who share.Holder) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known || c.closed {
		return true
	}
	c.known = true
	c.claim.Close()
	c.claim = new(share.Allocation)
	return c.count(who)
}

// countConnection counts a request's connection as the holder's; see countedConn.
func countConnection(r *http.Request, holder share.Holder) bool {
	conn, _ := r.Context().Value(caddyhttp.ConnCtxKey).(net.Conn)
	for conn != nil {
		if c, ok := conn.(*countedConn); ok {
			return c.identify(holder)
		}
		inner, ok := conn.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			return true
		}
		conn = inner.NetConn()
	}
	return true
}

// Interface guards
var (
	_ caddy.ListenerWrapper = (*Connections)(nil)
	_ caddyfile.Unmarshaler = (*Connections)(nil)
)
