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

// Intake is what an MCP server's response goes through before a Tap, a Relay or a
// Listener judges it. It keeps redirects back, so that they can be followed or
// refused, undoes the codings in which servers send answers although they were
// asked not to, and takes out of heads what may name the server's own address. A
// response that is neither is passed on as it comes.
//
// It is used by one goroutine at a time, but for flushes and 1xx heads, which may
// come from another.
type Intake struct {
	w       http.ResponseWriter
	status  int
	moved   *Moved
	swallow int // bytes of a redirect's body that were dropped
	decoder *coding.Decoder
	lost    bool // what was decoded could not be passed on: the body is not to blame
}

// Moved is a redirect.
type Moved struct {
	Status   int
	Location []string
}

const (
	// maxDecoded bounds a JSON answer that came encoded. Event streams are not
	// held, and go on for as long as they like.
	maxDecoded = 64 << 20
	// maxSwallowed is how much of a redirect's body is read, so that the
	// connection can be used again.
	maxSwallowed = 64 << 10
)

// errMoved ends the body of a redirect.
var errMoved = errors.New("farebox: the body of a redirect is too long")

// NewIntake returns an intake to w. End must be called after the upstream's
// handler has returned or panicked.
func NewIntake(w http.ResponseWriter) *Intake { return &Intake{w: w} }

// Header returns the header of the response.
func (i *Intake) Header() http.Header { return i.w.Header() }

// Unwrap returns the writer below, for deadlines.
func (i *Intake) Unwrap() http.ResponseWriter { return i.w }

// Hijack always fails, so that http.ResponseController looks no deeper.
func (i *Intake) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

// WriteHeader takes the head. That of a redirect goes no further.
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

// hideAddress takes out of a head what would tell a client where the server is.
// No client of MCP goes by it; links that are relative name no address.
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

// decode makes ready to undo the body's coding, if it has one that is known. Of
// more than one, none is undone: what cannot be read is for those below to refuse.
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

// ReadFrom copies through Write: the promoted one would run past the intake.
func (i *Intake) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{i}, r)
}

// FlushError sends what is free to go. Those below have nothing before they had a
// head.
func (i *Intake) FlushError() error { return http.NewResponseController(i.w).Flush() }

// Flush is FlushError for callers that know only http.Flusher.
func (i *Intake) Flush() { _ = i.FlushError() }

// End ends the response. It returns the redirect, if it was one, and else what was
// wrong with the coding of its body.
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
