package share

import (
	"net"
	"net/netip"
	"sync"
)

// Listen returns a listener that counts its connections against the budget. A
// connection first counts for the address of its client. From the call of Identify on,
// it counts for the holder of the key. A connection for which there is no room is
// closed. To make room for a new connection, the oldest connection that is not
// identified may be closed.
func Listen(l net.Listener, b *Budget) net.Listener { return &countedListener{l, b} }

type countedListener struct {
	net.Listener
	budget *Budget
}

// Accept returns the next connection for which there is room. It closes connections
// for which there is no room.
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

// countedConn is a connection that counts until it is closed: first for its address,
// then for the first valid key that arrives on it. Behind a proxy, requests with
// many keys may share one connection; only the first key counts.
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

// identify counts the connection as the holder's, unless it is identified or closed
// already. It returns false if there is no room; the connection must then close
// after the response.
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

// Identify counts a connection as the holder's, if it came from a listener of
// Listen, possibly below TLS. Only the first call for a connection has an effect.
// Identify returns false if there is no room; the connection must then close after
// the response. It returns true for other connections and for nil, which are not
// counted.
func Identify(conn net.Conn, holder Holder) bool {
	for conn != nil {
		if c, ok := conn.(*countedConn); ok {
			return c.identify(holder)
		}
		inner, ok := conn.(interface{ NetConn() net.Conn }) // a TLS connection wraps the counted connection
		if !ok {
			return true
		}
		conn = inner.NetConn()
	}
	return true
}
