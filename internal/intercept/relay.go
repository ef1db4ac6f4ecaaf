package intercept

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// Relay is the response writer of messages that get no response: notifications, the
// client's own responses, and the end of a session. It passes statuses and error
// texts. It drops a message that a client could take for the response to a call,
// because responses to calls must be paid for. It withholds a switch of protocols,
// which would open a tunnel past the gateway, and an invalid status.
type Relay struct {
	w        http.ResponseWriter
	head     func(http.Header)
	status   int
	sentHead bool
	withheld bool
	mute     bool // the body is dropped
	message  bool // the body is held, because it may be a JSON-RPC error
	hold     []byte
}

// maxError bounds a JSON-RPC error that passes, in bytes.
const maxError = 64 << 10

// NewRelay returns a Relay that writes to w. If head is not nil, the Relay calls
// head(h) to change the response's header h just before h is sent. The caller must call
// Finish at the end.
func NewRelay(w http.ResponseWriter, head func(http.Header)) *Relay {
	return &Relay{w: w, head: head}
}

// SentHead reports whether the final head has been sent.
func (r *Relay) SentHead() bool { return r.sentHead }

// Withheld reports whether the upstream's response is withheld. If it is, none of
// the response has been written.
func (r *Relay) Withheld() bool { return r.withheld }

// Header returns the header of the response.
func (r *Relay) Header() http.Header { return r.w.Header() }

// Unwrap returns the underlying writer, for flushes and deadlines.
func (r *Relay) Unwrap() http.ResponseWriter { return r.w }

// Hijack always fails, so that http.ResponseController does not unwrap further.
func (r *Relay) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// WriteHeader passes the head on, unless it switches protocols or has an invalid
// status. net/http panics at a status below 100.
func (r *Relay) WriteHeader(status int) {
	switch {
	case r.withheld, r.status != 0:
		return
	case status == http.StatusSwitchingProtocols || status < 100:
		r.withheld = true
		return
	case status < 200:
		r.w.WriteHeader(status)
		return
	}
	r.status = status
	media := mediaType(r.Header())
	r.mute = status < 400 || media == typeEvents
	if r.message = !r.mute && (media == typeJSON || media == ""); r.message {
		return // the head waits for the verdict on the body
	}
	if r.mute {
		r.Header().Del("Content-Length")
	}
	r.sendHead()
}

func (r *Relay) sendHead() {
	if r.head != nil {
		r.head(r.Header())
	}
	r.sentHead = true
	r.w.WriteHeader(r.status)
}

// Write takes a piece of the body.
func (r *Relay) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	switch {
	case r.withheld, r.mute:
		return len(p), nil
	case r.message:
		if len(r.hold)+len(p) > maxError {
			r.mute, r.hold = true, nil
		} else {
			r.hold = append(r.hold, p...)
		}
		return len(p), nil
	}
	return r.w.Write(p)
}

// Finish ends the response after the upstream's handler has returned. It sends the
// held message, unless the message has a result.
func (r *Relay) Finish() {
	if !r.message || r.sentHead || r.withheld {
		return
	}
	s := mcp.NewScanner(mcp.ID{})
	s.Write(r.hold)
	if s.End(); s.HasResult() {
		r.hold = nil
	}
	r.Header().Set("Content-Length", strconv.Itoa(len(r.hold)))
	r.sendHead()
	_, _ = r.w.Write(r.hold) // an error means that the client has left
}

// mediaType returns the content type without its parameters, in lower case.
func mediaType(h http.Header) string {
	media, _, _ := strings.Cut(strings.Join(h.Values("Content-Type"), ","), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// FlushError flushes the bytes that have been sent. Before the head has been sent it
// does nothing, because the underlying writer would send its own head.
func (r *Relay) FlushError() error {
	if !r.sentHead || r.withheld {
		return nil
	}
	return http.NewResponseController(r.w).Flush()
}

// Flush is FlushError for callers that only know http.Flusher.
func (r *Relay) Flush() { _ = r.FlushError() }

// ReadFrom copies through Write, so that no byte bypasses the Relay.
func (r *Relay) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{r}, src)
}
