package intercept

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/coding"
)

// Intake prepares an MCP server's response for an Interceptor, a Relay or a Listener.
// It holds redirects back so that they can be followed or refused. It decodes bodies
// that a server encoded although the request did not allow it. It removes header
// fields that may disclose the server's address. Everything else passes unchanged.
//
// One goroutine at a time may use an Intake, except that flushes and 1xx heads may come
// from another.
type Intake struct {
	w       http.ResponseWriter
	status  int
	moved   *Moved
	swallow int // bytes of a redirect's body that have been dropped
	decoder *coding.Decoder
	lost    bool // writing the decoded body has failed, so an error of the decoder does not mean that the body was invalid
}

// Moved is a redirect.
type Moved struct {
	Status   int
	Location []string
}

const (
	// maxDecoded bounds an encoded JSON response, in decoded bytes. Event streams are
	// not held and have no bound.
	maxDecoded = 64 << 20
	// maxSwallowed bounds how many bytes of a redirect's body are read and dropped so
	// that the connection can be reused.
	maxSwallowed = 64 << 10
)

// errMoved ends the body of a redirect that exceeds maxSwallowed.
var errMoved = errors.New("farebox: the body of a redirect is too long")

// NewIntake returns an Intake that writes to w. The caller must call End after the
// upstream's handler has returned or panicked.
func NewIntake(w http.ResponseWriter) *Intake { return &Intake{w: w} }

// Header returns the header of the response.
func (i *Intake) Header() http.Header { return i.w.Header() }

// Status returns the status of the final head, 0 before it has come.
func (i *Intake) Status() int { return i.status }

// Unwrap returns the underlying writer, for deadlines.
func (i *Intake) Unwrap() http.ResponseWriter { return i.w }

// Hijack always fails, so that http.ResponseController does not unwrap further.
func (i *Intake) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// WriteHeader passes the head on, unless it is the head of a redirect.
func (i *Intake) WriteHeader(status int) {
	h := i.Header()
	if status >= 100 && status < 200 {
		hideAddress(h)
		i.w.WriteHeader(status)
		return
	}
	if i.status != 0 {
		return
	}
	i.status = status
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		i.moved = &Moved{Status: status, Location: h.Values("Location")}
		return
	}
	hideAddress(h)
	i.decode(h)
	i.w.WriteHeader(status)
}

// hideAddress removes the header fields that would disclose the server's address. MCP
// clients do not use these fields. Relative links disclose no address and stay.
func hideAddress(h http.Header) {
	delete(h, "Location")
	delete(h, "Content-Location")
	for _, link := range h["Link"] {
		if strings.ContainsAny(link, `:\`) || strings.Contains(link, "//") {
			delete(h, "Link")
			return
		}
	}
}

// decode sets up decoding if the body has exactly one coding and the coding is known.
// A body in any other coding goes encoded to the underlying writer, which refuses it.
func (i *Intake) decode(h http.Header) {
	codings := h["Content-Encoding"]
	if len(codings) != 1 {
		return
	}
	if strings.EqualFold(codings[0], "identity") {
		h.Del("Content-Encoding")
		return
	}
	limit := int64(maxDecoded)
	if mediaType(h) == typeEvents {
		limit = 0
	}
	i.decoder = coding.New(codings[0], limit, i.pass)
	if i.decoder == nil {
		return
	}
	h.Del("Content-Encoding")
	h.Del("Content-Length")
	for _, name := range staleFields {
		h.Del(name)
	}
}

func (i *Intake) pass(p []byte) error {
	_, err := i.w.Write(p)
	i.lost = err != nil
	return err
}

// Write takes a piece of the body.
func (i *Intake) Write(p []byte) (int, error) {
	if i.status == 0 {
		i.WriteHeader(http.StatusOK)
	}
	switch {
	case i.moved != nil:
		if i.swallow += len(p); i.swallow > maxSwallowed {
			return 0, errMoved
		}
		return len(p), nil
	case i.decoder != nil:
		return i.decoder.Write(p)
	}
	return i.w.Write(p)
}

// ReadFrom copies through Write, so that no byte bypasses the Intake.
func (i *Intake) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{i}, r)
}

// FlushError flushes the bytes that have been sent. It may be called before the head is
// sent, because the underlying writers then do nothing.
func (i *Intake) FlushError() error { return http.NewResponseController(i.w).Flush() }

// Flush is FlushError for callers that only know http.Flusher.
func (i *Intake) Flush() { _ = i.FlushError() }

// End ends the response. It returns the redirect if the response was a redirect, or an
// error if the body could not be decoded.
func (i *Intake) End() (*Moved, error) {
	if i.decoder == nil {
		return i.moved, nil
	}
	defer i.decoder.Stop()
	if err := i.decoder.End(); err != nil && !i.lost {
		return nil, fmt.Errorf("its answer is encoded: %w", err)
	}
	return nil, nil
}
