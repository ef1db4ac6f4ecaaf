package intercept

import (
	"bytes"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// pulse schedules the comments that are sent on a quiet event stream, so that proxies
// do not close the stream as idle. A pulse uses a timer of the Go runtime, so it needs
// no goroutine. If a stream ends before p.every has passed, its timer never fires. The
// owner of a pulse guards it with the same lock as its writes.
type pulse struct {
	every time.Duration
	timer *time.Timer // nil before the stream has begun, and after its end
	last  time.Time   // time of the last write
	fresh bool        // only comments have been sent so far
	beats bool        // a comment has been sent
}

// heartbeat is a comment line (WHATWG HTML, 9.2.5). No blank line follows it, because
// some clients take a blank line for an event if an earlier event had an id.
var heartbeat = []byte(": keepalive\n")

// begin starts the timer. The timer calls beat(), in a goroutine of its own, when the
// stream may have been quiet for too long.
func (p *pulse) begin(every time.Duration, beat func()) {
	if every <= 0 {
		return
	}
	p.every, p.last, p.fresh = every, clock.Now(), true
	p.timer = time.AfterFunc(every, beat)
}

// end stops the timer. A call of beat() that has already started then sees that p.timer
// is nil.
func (p *pulse) end() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// sends records that a piece of the server's stream is about to be sent, and returns
// the piece to send. After a comment it removes a byte order mark from the
// beginning of the server's stream. Clients would read a mark there as a part of the
// first field name.
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

// due reports whether a comment should be sent now. due(false) means that no comment is
// allowed now; it returns false. Each call of due restarts the timer.
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

// bound sets a deadline for writes. The caller must call the returned function after
// the writes, because in HTTP/2 an expired deadline resets the stream even if no write
// is in progress. Writes to a writer that does not support deadlines remain unbounded.
func bound(rc *http.ResponseController, timeout time.Duration) (lift func()) {
	_ = rc.SetWriteDeadline(clock.Deadline(timeout))
	return func() { _ = rc.SetWriteDeadline(time.Time{}) }
}
