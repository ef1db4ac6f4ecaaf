package harness

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"testing"
)

// RawServer is an HTTP server that only reads the head of each request. It then
// gives the connection to a function of the test, which can send responses that
// net/http would never send.
type RawServer struct {
	// URL is the server's base URL.
	URL string

	play func(*RawExchange)
	done sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	seen  map[string]int
}

// RawExchange is a request to a RawServer, with its connection. The body can be read
// from Request. Each Write is sent unchanged, in a segment of its own.
type RawExchange struct {
	net.Conn
	Request *http.Request

	server *RawServer
	reader *bufio.Reader
}

// ServeRaw starts a server that calls play(e) for the first request e on each
// connection. The connection is closed when play returns, or at the end of the test.
func ServeRaw(t testing.TB, play func(*RawExchange)) *RawServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &RawServer{
		URL: "http://" + listener.Addr().String(), play: play,
		conns: make(map[net.Conn]bool), seen: make(map[string]int),
	}
	s.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			s.done.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.conns = nil
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *RawServer) serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	ended := s.conns == nil
	if !ended {
		s.conns[conn] = true
	}
	s.mu.Unlock()
	if ended {
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	e := &RawExchange{Conn: conn, server: s, reader: bufio.NewReader(conn)}
	if e.Next() {
		s.play(e)
	}
}

// Next reads the head of the next request on the connection, and reports whether there
// was another request. The body of the previous request must have been read.
func (e *RawExchange) Next() bool {
	r, err := http.ReadRequest(e.reader)
	if err != nil {
		return false
	}
	e.Request = r
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	e.server.seen[r.URL.Path]++
	return true
}

// Requests returns the number of requests for the path so far.
func (s *RawServer) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[path]
}
