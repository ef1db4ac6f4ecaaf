package syslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosyslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/fareboxhq/farebox/internal/clock"
)

// patience bounds each wait of the tests.
const patience = 20 * time.Second

// reports collects the sentences that a Writer reports.
type reports struct {
	mu   sync.Mutex
	all  []string
	more chan string
}

func newReports() *reports { return &reports{more: make(chan string, 100)} }

func (r *reports) add(sentence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, sentence)
	r.more <- sentence
}

// await waits until a sentence contains the text.
func (r *reports) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case sentence := <-r.more:
			if strings.Contains(sentence, text) {
				return
			}
		case <-deadline:
			t.Fatalf("no report of %q", text)
		}
	}
}

func open(t *testing.T, network, address string, r *reports) *Writer {
	t.Helper()
	priority, err := NewPriority("audit", "notice")
	if err != nil {
		t.Fatal(err)
	}
	w := New(Options{Network: network, Address: address, Priority: priority, AppName: "farebox", Report: r.add})
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// socket returns a path for a Unix socket. Such a path must be short.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "syslog")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// check checks that a message, as read by a strict parser, has the text.
func check(t *testing.T, m gosyslog.Message, text string) {
	t.Helper()
	got, ok := m.(*rfc5424.SyslogMessage)
	if !ok || !got.Valid() {
		t.Fatalf("%+v is not valid", m)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(os.Getpid())
	if *got.Facility != 13 || *got.Severity != 5 || got.Version != 1 || *got.Appname != "farebox" || *got.Hostname != host || *got.ProcID != pid ||
		got.MsgID != nil || got.StructuredData != nil || *got.Message != text {
		t.Errorf("read %+v, want the text %q", got, text)
	}
	if age := clock.Since(*got.Timestamp); age < -time.Second || age > patience {
		t.Errorf("its time is %v old", age)
	}
}

// server reads messages as a strict syslog server does. It reads either datagrams or
// streams with octet counting.
type server struct {
	messages chan gosyslog.Message
	address  string
	close    func()
}

func serve(t *testing.T, network, address string) *server {
	t.Helper()
	s := &server{messages: make(chan gosyslog.Message, 100)}
	if network == "udp" || network == "unixgram" {
		conn, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s.address, s.close = conn.LocalAddr().String(), func() { _ = conn.Close() }
		go s.datagrams(conn)
	} else {
		listener, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		var open sync.Map
		s.address, s.close = listener.Addr().String(), func() {
			_ = listener.Close()
			open.Range(func(conn, _ any) bool { return conn.(net.Conn).Close() == nil })
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				open.Store(conn, true)
				go s.stream(conn)
			}
		}()
	}
	t.Cleanup(s.close)
	return s
}

func (s *server) datagrams(conn net.PacketConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		m, err := rfc5424.NewParser().Parse(buffer[:n])
		if err != nil {
			m = nil
		}
		s.messages <- m
	}
}

func (s *server) stream(conn net.Conn) {
	defer conn.Close()
	octetcounting.NewParser(gosyslog.WithMaxMessageLength(MaxMessage), gosyslog.WithListener(func(r *gosyslog.Result) {
		if errors.Is(r.Error, io.EOF) {
			return
		}
		if r.Error != nil {
			s.messages <- nil
			return
		}
		s.messages <- r.Message
	})).Parse(conn)
}

func (s *server) next(t *testing.T) gosyslog.Message {
	t.Helper()
	select {
	case m := <-s.messages:
		if m == nil {
			t.Fatal("a message is not that of RFC 5424")
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

// TestServers checks, for each kind of network, that each call of Write arrives as one
// message of RFC 5424, even if its text has line feeds or looks like a header.
func TestServers(t *testing.T) {
	for network, address := range map[string]string{"udp": "127.0.0.1:0", "tcp": "127.0.0.1:0", "unixgram": socket(t), "unix": socket(t)} {
		t.Run(network, func(t *testing.T) {
			s := serve(t, network, address)
			w := open(t, network, s.address, newReports())
			for _, text := range []string{`{"action":"key.create","name":"Zoë <1> 7 ]"}`, "two\nlines", strings.Repeat("x", 7000), "12 <13>1 -"} {
				if n, err := w.Write([]byte(text + "\n")); n != len(text)+1 || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
				check(t, s.next(t), text)
			}
		})
	}
}

// TestServerRestarts checks that a server that stops and starts again gets the messages
// written meanwhile, in order. The writer must report that the server was lost and that
// it can be reached again.
func TestServerRestarts(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "unixgram"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network != "tcp" {
				address = socket(t)
			}
			s, r := serve(t, network, address), newReports()
			w := open(t, network, s.address, r)
			write := func(text string) {
				t.Helper()
				if _, err := w.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			write("before")
			check(t, s.next(t), "before")
			s.close()
			_ = os.Remove(s.address)
			// The writer may notice the end of the connection only after it has written
			// its next message.
			for n := 0; ; n++ {
				write(fmt.Sprint("lost ", n))
				select {
				case <-r.more:
				case <-time.After(50 * time.Millisecond):
					if n > 100 {
						t.Fatal("the outage was not noticed")
					}
					continue
				}
				break
			}
			write("while it was away")
			again := serve(t, network, s.address)
			r.await(t, "can be reached again")
			for {
				m := again.next(t)
				if !strings.HasPrefix(*m.(*rfc5424.SyslogMessage).Message, "lost ") {
					check(t, m, "while it was away")
					break
				}
			}
		})
	}
}

// TestWriteNeverWaits checks a writer with a server that accepts connections but reads
// nothing. Write does not block, the memory for waiting messages is bounded, lost
// messages are reported, and Close returns within its time limit.
func TestWriteNeverWaits(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := newReports()
	w := open(t, "tcp", listener.Addr().String(), r)
	began := clock.Now()
	text := bytes.Repeat([]byte("x"), 50<<10)
	for range QueueLength + 1000 {
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if took := clock.Since(began); took > patience {
		t.Errorf("writing took %v", took)
	}
	began = clock.Now()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if took := clock.Since(began); took > closeTime+2*time.Second {
		t.Errorf("closing took %v", took)
	}
	r.await(t, "which are lost: ")
	if _, err := w.Write(text); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
}

// TestCloseSendsTheRest checks that Close sends the queued messages before it closes
// the writer.
func TestCloseSendsTheRest(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0")
	w := open(t, "tcp", s.address, newReports())
	for range 50 {
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		check(t, s.next(t), "x")
	}
}

// TestTooLong checks that a message that is too long for a datagram is dropped and
// reported, and that the messages after it are sent.
func TestTooLong(t *testing.T) {
	s, r := serve(t, "udp", "127.0.0.1:0"), newReports()
	w := open(t, "udp", s.address, r)
	for _, text := range []string{strings.Repeat("x", MaxMessage+1), "after"} {
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	check(t, s.next(t), "after")
	r.await(t, "which are lost: 1")
}

// TestNames checks that unknown facilities and severities, and names that are not
// allowed in a header, are refused.
func TestNames(t *testing.T) {
	for _, c := range []struct{ facility, severity, want string }{
		{"audits", "info", `unknown facility "audits"; known: kern, user,`},
		{"audit", "information", `unknown severity "information"; known: emerg,`},
	} {
		if _, err := NewPriority(c.facility, c.severity); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if p, err := NewPriority("local7", "debug"); p != 191 || err != nil {
		t.Errorf("%d, %v", p, err)
	}
	for name, ok := range map[string]bool{"farebox": true, "a b": false, "": false, "ö": false, strings.Repeat("x", 49): false} {
		if err := CheckAppName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	h := newHeader(0, "not a host", "farebox", 1)
	if m := string(h.message(time.Unix(0, 0), []byte("x\r\n"))); m != "<0>1 1970-01-01T00:00:00.000000Z - farebox 1 - - x" {
		t.Errorf("%q", m)
	}
}
