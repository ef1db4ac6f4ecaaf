package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/hop"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// maxInline is the length up to which a body is sent before the response is read. A
// longer body is sent by a goroutine of its own, because the server may respond before
// it has read the body, and may then stop reading.
const maxInline = 64 << 10

var (
	errUpgraded = errors.New("it switched protocols, although nobody asked for that")
	errStatus   = errors.New("the status of its response is below 100")
	errBrokeOff = errors.New("it broke its answer off")
)

// statusLeft is the status that the access log shows for a client that has left, as
// with Caddy's reverse_proxy. No client sees it.
const statusLeft = 499

// Send sends a request with the body to the server, at most once, and writes the
// response to w. A nil body means that the request has no body. Send reads the method,
// the URL, the headers, the remote address and the host of r, but not its body. It
// removes headers that are for one hop only. The body must not change until Send
// returns.
//
// An error before WriteHeader means that the server has sent no response. After
// WriteHeader it means that the response is incomplete. The error wraps the error of
// the request's context if that context has ended. If the client leaves before the
// server has responded, Send writes the status 499 and returns nil.
func (c *Client) Send(w http.ResponseWriter, r *http.Request, body []byte) error {
	s, err := c.start(w, r, body)
	if errors.Is(err, context.Canceled) {
		w.WriteHeader(statusLeft)
		return nil
	}
	if err != nil {
		return err
	}
	complete := false
	defer func() { s.end(complete) }()
	err = s.relay(w)
	complete = err == nil
	return causeOf(r.Context(), err)
}

// sending is a request that was sent, with the head of its response.
type sending struct {
	client *Client
	k      *conn
	target string // the request target in the form of the request line
	res    *http.Response
	keep   time.Duration // how long the connection may be idle after this request
	stop   func() bool   // detaches the connection from the request's context
	wrote  chan error    // gets the result of the goroutine that sends a long body; nil without such a goroutine
}

// start sends a request and reads the head of its response. If an idle connection
// turns out to be closed before a byte of the request has left, start takes another
// connection.
func (c *Client) start(w http.ResponseWriter, r *http.Request, body []byte) (*sending, error) {
	ctx := r.Context()
	target, err := checkRequest(r)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil { // check ctx here, because an idle connection would take the request although ctx has ended
			return nil, err
		}
		k, err := c.get(ctx)
		if err != nil {
			return nil, causeOf(ctx, err)
		}
		s := &sending{client: c, k: k, target: target, stop: context.AfterFunc(ctx, k.interrupt)}
		if err = s.open(w, r, body); err == nil {
			return s, nil
		}
		if !k.reused || k.sent > 0 {
			return nil, causeOf(ctx, err)
		}
	}
}

// open sends the request and reads the head of its response. After an error, the
// connection is closed, and nothing writes to it any more.
func (s *sending) open(w http.ResponseWriter, r *http.Request, body []byte) (err error) {
	opened := false
	defer func() {
		if !opened { // open has failed, or w has panicked
			s.end(false)
		}
	}()
	if err = s.send(r, body); err != nil {
		return err
	}
	if err = s.readHead(w, r); err != nil {
		return err
	}
	s.keep = keepOf(s.res) // call keepOf now, because relay removes the headers that it reads
	opened = true
	return nil
}

// send writes the request. If the body is long, a goroutine writes it, and send returns
// at once.
func (s *sending) send(r *http.Request, body []byte) error {
	length := len(body)
	if body == nil && r.Method != http.MethodPost {
		length = -1
	}
	s.client.writeHead(s.k.out, r, s.target, length)
	if len(body) <= maxInline {
		_, _ = s.k.out.Write(body)
		return s.k.out.Flush()
	}
	s.wrote = make(chan error, 1)
	go func() {
		_, _ = s.k.out.Write(body)
		s.wrote <- s.k.out.Flush()
	}()
	return nil
}

// end gives the connection back to the client for other requests, if the response was
// read to its end and the connection can be used again. Otherwise it closes the
// connection.
func (s *sending) end(complete bool) {
	reusable := complete && s.keep > 0 && s.k.in.Buffered() == 0
	if !complete {
		_ = s.k.Close() // closed before the body, because closing the body would read it to its end
	}
	if s.res != nil {
		_ = s.res.Body.Close()
	}
	if s.wrote != nil {
		select {
		case err := <-s.wrote:
			reusable = reusable && err == nil
		default:
			reusable = false
			_ = s.k.Close()
			<-s.wrote // wait for the goroutine that writes the body, because the caller may change the body after Send
		}
	}
	if s.stop() && reusable {
		s.client.put(s.k, s.keep)
		return
	}
	_ = s.k.Close()
}

// keepOf returns the time for which the connection may be idle after the response. It
// returns 0 if the connection must not be used again. A server can announce after how
// long it closes an idle connection. A request that is sent at that moment would be
// lost, so keepOf returns a shorter time.
func keepOf(res *http.Response) time.Duration {
	if res.Close {
		return 0
	}
	for _, value := range res.Header["Keep-Alive"] {
		for part := range strings.SplitSeq(value, ",") {
			name, text, _ := strings.Cut(strings.TrimSpace(part), "=")
			seconds, err := strconv.Atoi(text)
			if !strings.EqualFold(name, "timeout") || err != nil || seconds < 0 || seconds > int(idleTime.Seconds()) {
				continue
			}
			announced := time.Duration(seconds) * time.Second
			return max(announced-time.Second, announced/2)
		}
	}
	return idleTime
}

// readHead reads the head of the final response, and passes on the informational heads
// that precede it.
func (s *sending) readHead(w http.ResponseWriter, r *http.Request) error {
	for {
		res, err := http.ReadResponse(s.k.in, r)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			return errors.New("it closed the connection without a response")
		case err != nil:
			return err
		case res.StatusCode < 100:
			return errStatus
		case res.StatusCode == http.StatusSwitchingProtocols:
			return errUpgraded
		case res.StatusCode >= 200:
			s.k.limit = 0
			s.res = res
			return nil
		}
		_ = res.Body.Close() // an informational response has no body
		own := w.Header().Clone()
		moveHeader(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		clear(w.Header())
		maps.Copy(w.Header(), own)
	}
}

// relay writes the response to w.
func (s *sending) relay(w http.ResponseWriter) error {
	h := w.Header()
	delete(h, "Server") // remove the gateway's own: the response may have a Server header of the MCP server, and Via names the gateway
	h["Via"] = append(h["Via"], via(s.res.ProtoMajor, s.res.ProtoMinor))
	stream := s.res.ContentLength < 0 || isEvents(s.res.Header)
	moveHeader(h, s.res.Header)
	w.WriteHeader(s.res.StatusCode)
	if stream {
		// Send the head now, because the first event may come late. The error can be
		// ignored, because the first write returns it again.
		_ = http.NewResponseController(w).Flush()
	}
	return copyBody(w, s.res.Body, stream)
}

// moveHeader adds the headers of from to those of to, except the headers for this hop
// only.
func moveHeader(to, from http.Header) {
	for _, name := range hop.Names(from) {
		delete(from, name)
	}
	for _, name := range hopHeaders {
		delete(from, name)
	}
	for name, values := range from {
		if before, ok := to[name]; ok {
			values = append(before, values...)
		}
		to[name] = values
	}
}

func isEvents(h http.Header) bool {
	media, _, err := mcp.ParseMediaType(h.Get("Content-Type"))
	return err == nil && media == mcp.TypeEvents
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody copies a body. It flushes each piece of a stream.
func copyBody(w http.ResponseWriter, body io.Reader, stream bool) error {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	rc := http.NewResponseController(w)
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if stream {
				if err := rc.Flush(); err != nil {
					return err
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errBrokeOff, err)
		}
	}
}
