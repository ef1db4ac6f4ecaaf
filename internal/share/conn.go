package share

import (
	"net"
	"net/netip"
	"sync"
)

// Listen returns a listener that counts its connections against the budget: first
// for their address, and after Identify for the account behind them. A connection
// for which there is no room is closed; the oldest one without an account may be
// closed for a new one.
func Listen(l net.Listener, b *Budget) net.Listener { return &countedListener{l, b} }

type countedListener struct {
	net.Listener
	budget *Budget
}

// Accept returns the next connection for which there is room, and closes those
// without.
func (l *countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &countedConn{Conn: conn, budget: l.budget, held: new(Allocation)}
		peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		if c.count(Holder{Address: peer.Addr()}) {
			c.held.Cuttable(func() { _ = conn.Close() })
			return c, nil
		}
		c.held.Close()
		_ = conn.Close()
	}
}

// countedConn is a connection that counts until it is closed: first for its
// address, then for the first good key that it brings. Behind a proxy, many keys
// share it.
type countedConn struct {
	net.Conn
	budget *Budget

	mu     sync.Mutex
	held   *Allocation
	known  bool
	closed bool
}

func (c *countedConn) count(who Holder) bool {
	c.budget.Open(c.held, who)
	return c.held.Take(1) == nil
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.held.Close()
	c.mu.Unlock()
	return c.Conn.Close()
}

// identify counts the connection as the holder's. It returns false if there is no
// room, and the connection must close after the response.
func (c *countedConn) identify(who Holder) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known || c.closed {
		return true
	}
	c.known = true
	c.held.Close()
	c.held = new(Allocation)
	return c.count(who)
}

// Identify counts the connection of a listener of Listen, possibly below TLS, as
// the holder's from its first good key on. It returns false if there is no room, and
// the connection must close after the response. Other connections, and nil, are not
// counted.
func Identify(conn net.Conn, holder Holder) bool {
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
