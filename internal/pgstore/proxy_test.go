//go:build unix

package pgstore

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy sits between a store and the server, and cuts the store's connections.
type proxy struct {
	dsn      string
	listener net.Listener
	server   string

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool

	// answers is the number of bytes from the server that still pass before all
	// connections are cut. If it is negative, all bytes pass. Bytes from the client
	// always pass.
	answers atomic.Int64
	cuts    atomic.Int64
}

// newProxy starts a proxy for the cluster's server. p.dsn leads through the proxy to
// the database with the given DSN.
func newProxy(t *testing.T, c interface{ SocketDir() string }, dsn string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "farebox-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		dsn: strings.Replace(dsn, "host="+c.SocketDir(), "host="+dir, 1), listener: listener,
		server: filepath.Join(c.SocketDir(), ".s.PGSQL.5432"), open: map[net.Conn]bool{},
	}
	p.answers.Store(-1)
	var group sync.WaitGroup
	group.Go(func() { p.accept(&group) })
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = listener.Close()
		p.cut()
		group.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *proxy) accept(group *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		group.Go(func() { p.pass(server, client, false) })
		group.Go(func() { p.pass(client, server, true) })
	}
}

// keep remembers connections, so that cut can close them. It reports whether the
// proxy is open.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			_ = c.Close()
			continue
		}
		p.open[c] = true
	}
	return !p.closed
}

// pass copies bytes in one direction until a connection ends.
func (p *proxy) pass(to, from net.Conn, answer bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if n > 0 && answer && p.counted(n) {
			p.cuts.Add(1)
			p.cut()
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// counted subtracts n from p.answers, and reports whether the connections must be cut
// before these bytes.
func (p *proxy) counted(n int) bool {
	for {
		left := p.answers.Load()
		if left < 0 {
			return false
		}
		rest := max(left-int64(n), -1)
		if p.answers.CompareAndSwap(left, rest) {
			return rest < 0
		}
	}
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
	clear(p.open)
}
