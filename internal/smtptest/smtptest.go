// Package smtptest is a mail server for tests.
package smtptest

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// Message is an e-mail that a Server has received.
type Message struct {
	To   string // address of the recipient
	Text string // header and body
}

// Server is a mail server on a loopback address, without TLS. It refuses a recipient if
// the address begins with "refused".
type Server struct {
	Addr string // host and port

	mu       sync.Mutex
	messages []Message
}

// Start starts a Server, which is stopped at the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &Server{Addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// Messages returns the messages received so far.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// serve speaks as much of SMTP (RFC 5321) as a client without extensions needs.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 mail.example.com")
	var m Message
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "RCPT":
			m.To = strings.Trim(strings.TrimPrefix(rest, "TO:"), "<>")
			if strings.HasPrefix(m.To, "refused") {
				say("550 no mailbox " + m.To)
			} else {
				say("250 ok")
			}
		case "DATA":
			say("354 go on")
			if m.Text, err = readData(r); err != nil {
				return
			}
			s.mu.Lock()
			s.messages = append(s.messages, m)
			s.mu.Unlock()
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// readData reads a message up to the line with a single dot.
func readData(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return text.String(), err
		}
		text.WriteString(line)
	}
}
