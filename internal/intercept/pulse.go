package intercept

import (
	"bytes"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// pulse has a comment sent on an event stream on which nothing was sent for a
// while, so that proxies in between do not take it for dead. It is a timer of the
// run-time and no goroutine; a stream that ends before it was quiet for so long
// costs one that never fires. Its owner guards it with the lock that guards its
// writes.
type pulse struct {
	every time.Duration
	timer *time.Timer // nil before the stream has begun, and after its end
	last  time.Time   // when something was sent
	fresh bool        // nothing but comments was sent so far
	beats bool        // a comment was sent
}

// heartbeat is a line of comment (WHATWG HTML, 9.2.5). It has no blank line after
// it: some clients take that for an event, if one before had an id.
var heartbeat = []byte(": keepalive\n")

// begin has beat called, on a goroutine of its own, when the stream may have been
// quiet for too long.
func (p *pulse) begin(every time.Duration, beat func()) {
	if every <= 0 {
		return
	}
	p.every, p.last, p.fresh = every, clock.Now(), true
	p.timer = time.AfterFunc(every, beat)
}

// end stops it. A beat that is on its way finds no timer.
func (p *pulse) end() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// sends notes that a piece of the server's stream is about to be sent, and returns
// it. A byte order mark counts at the beginning of a stream alone: behind a
// comment, clients would read it as a part of the first field's name.
func (p *pulse) sends(piece []byte) []byte {
	if p.timer == nil {
		return piece
	}
	p.last = clock.Now()
	if p.fresh && p.beats {
		piece = bytes.TrimPrefix(piece, byteOrderMark)
	}
	p.fresh = false
	return piece
}

var byteOrderMark = []byte("\uFEFF")

// due reports whether a comment is to be sent now, if it may be. In any case it has
// beat called again.
func (p *pulse) due(may bool) bool {
	if p.timer == nil {
		return false
	}
	rest := p.every - clock.Since(p.last)
	due := rest <= 0 && may
	if rest <= 0 {
		p.last, rest = clock.Now(), p.every
	}
	p.timer.Reset(rest)
	p.beats = p.beats || due
	return due
}

// bound bounds the writes to w until the returned function is called. It must be:
// in HTTP/2 a deadline that passes resets the stream although nothing is being
// written. A writer that has no deadlines is not an error.
func bound(rc *http.ResponseController, timeout time.Duration) (lift func()) {
	_ = rc.SetWriteDeadline(clock.Deadline(timeout))
	return func() { _ = rc.SetWriteDeadline(time.Time{}) }
}
