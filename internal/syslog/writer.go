package syslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Bounds of a Writer.
const (
	// QueueLength and QueueBytes bound the number and the total size of the messages
	// that wait until the server accepts them. Further messages are dropped.
	QueueLength = 4096
	QueueBytes  = 16 << 20
	// MaxMessage bounds a message in bytes, so that it fits into a datagram. Longer
	// messages are dropped.
	MaxMessage = 60 << 10

	dialTime  = 5 * time.Second
	writeTime = 5 * time.Second
	closeTime = 2 * time.Second
	minPause  = 100 * time.Millisecond // the pause after the first failed attempt to send; each further failure doubles the pause, up to maxPause
	maxPause  = 10 * time.Second
)

// Options configure a Writer. All fields must be set.
type Options struct {
	Network, Address string // as for net.Dialer; the network is udp, tcp, unixgram or unix
	Priority         Priority
	AppName          string // the name of the program, as CheckAppName allows it
	// Report receives a sentence about a server that cannot be reached, is reached
	// again, or has lost messages. Calls of Report do not overlap.
	Report func(sentence string)
}

// Writer sends the text of each call of Write as one message. It connects when there is
// a first message to send, and reconnects after a failure. It is safe for concurrent
// use.
type Writer struct {
	o       Options
	header  header
	stream  bool         // whether the network transports a stream of bytes, without boundaries between messages
	dropped atomic.Int64 // number of messages that were dropped since the last report
	waiting atomic.Int64 // total size of the messages in the queue, in bytes

	gate   sync.RWMutex // read-locked while sending on queue, locked to close queue
	closed bool         // guarded by gate
	queue  chan []byte

	closing chan struct{} // closed by Close
	ended   chan struct{}
	ctx     context.Context // ends when the time limit of Close is over
	cancel  context.CancelFunc

	// Only the writer's goroutine uses the fields below.
	conn    net.Conn
	release func() bool // keeps conn from being closed when ctx ends
	away    bool        // whether Report was called because the server cannot be reached
}

// New returns a Writer. The caller must close it.
func New(o Options) *Writer {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = nilValue
	}
	w := &Writer{
		o: o, header: newHeader(o.Priority, hostname, o.AppName, os.Getpid()),
		stream: o.Network == "unix" || strings.HasPrefix(o.Network, "tcp"),
		queue:  make(chan []byte, QueueLength), closing: make(chan struct{}), ended: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.run()
	return w
}

// Write queues a message. It never waits: if the queue is full, Write drops the message
// and counts it. It returns an error only after Close.
func (w *Writer) Write(text []byte) (int, error) {
	message := w.header.message(clock.Now(), text)
	w.gate.RLock()
	defer w.gate.RUnlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	if !w.enqueue(message) {
		w.dropped.Add(1)
	}
	return len(text), nil
}

// enqueue queues a message, and returns false if the message is too long or the queue
// is full.
func (w *Writer) enqueue(message []byte) bool {
	size := int64(len(message))
	if size > MaxMessage {
		return false
	}
	if w.waiting.Add(size) <= QueueBytes {
		select {
		case w.queue <- message:
			return true
		default:
		}
	}
	w.waiting.Add(-size)
	return false
}

// Close sends the queued messages, for at most two seconds, and then disconnects.
func (w *Writer) Close() error {
	w.gate.Lock()
	if w.closed {
		w.gate.Unlock()
		return nil
	}
	w.closed = true
	close(w.queue)
	w.gate.Unlock()
	close(w.closing)
	defer time.AfterFunc(closeTime, w.cancel).Stop()
	<-w.ended
	w.cancel()
	return nil
}

// run sends the queued messages.
func (w *Writer) run() {
	defer close(w.ended)
	defer w.disconnect()
	for message := range w.queue {
		w.waiting.Add(-int64(len(message)))
		if !w.deliver(message) {
			w.dropped.Add(1)
		}
		if n := w.dropped.Load(); n > 0 && !w.away {
			w.dropped.Add(-n)
			w.reportLost(n)
		}
	}
	if n := w.dropped.Load(); n > 0 {
		w.reportLost(n)
	}
}

// deliver sends a message. It tries again until the server accepts the message or the
// writer is closed. It returns false if the message is lost.
func (w *Writer) deliver(message []byte) bool {
	connected := w.conn != nil
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := w.send(message)
		switch {
		case err == nil:
			if w.away {
				w.away = false
				w.report("can be reached again")
			}
			return true
		case errors.Is(err, syscall.EMSGSIZE):
			return false
		case connected: // the server has probably closed the connection since the last message, so connect again without a pause
			connected = false
			continue
		case !w.away:
			w.away = true
			w.report(fmt.Sprintf("cannot be reached, up to %d messages wait for it: %v", QueueLength, err))
		}
		if w.ctx.Err() != nil || w.isClosing() || clock.SleepOr(w.ctx, pause, w.closing) != nil || w.isClosing() {
			return false
		}
	}
}

func (w *Writer) reportLost(n int64) {
	w.report(fmt.Sprintf("did not take messages, which are lost: %d", n))
}

func (w *Writer) isClosing() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}

func (w *Writer) report(sentence string) {
	w.o.Report("the syslog server at " + w.o.Network + "/" + w.o.Address + " " + sentence)
}

// send makes one attempt to send a message.
func (w *Writer) send(message []byte) error {
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return err
		}
	}
	if w.stream {
		message = frame(message)
	}
	err := w.conn.SetWriteDeadline(clock.Deadline(writeTime))
	if err == nil {
		_, err = w.conn.Write(message)
	}
	if err != nil && !errors.Is(err, syscall.EMSGSIZE) {
		w.disconnect()
	}
	return err
}

// connect opens a connection, and closes it when w.ctx ends. It also closes a stream as
// soon as the server has closed its end. Otherwise the next message would be written
// without an error, although the server does not receive it.
func (w *Writer) connect() error {
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(w.ctx, w.o.Network, w.o.Address)
	if err != nil {
		return err
	}
	w.release = context.AfterFunc(w.ctx, func() { _ = conn.Close() })
	if w.stream {
		go func() {
			_, _ = io.Copy(io.Discard, conn) // servers send nothing, so this returns when the connection ends
			_ = conn.Close()
		}()
	}
	w.conn = conn
	return nil
}

func (w *Writer) disconnect() {
	if w.conn != nil {
		w.release()
		_ = w.conn.Close() // an error does not matter, because failures to send were already noticed
		w.conn = nil
	}
}
