// Package sse reads server-sent events (WHATWG HTML, section 9.2, "Server-sent events").
package sse

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// TooLongError is the error for an event or a line beyond a reader's bound. The stream
// cannot be read any further.
type TooLongError struct {
	Max int // the bound in bytes
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("an event has more than %d bytes", e.Max)
}

// maxRetry bounds the delay that a server may ask for.
const maxRetry = time.Minute

// Event is an event with data.
type Event struct {
	Type string // the event's type; "" means "message"
	Data []byte // valid until the next call of Next
}

// Reader reads the events of one stream. It is not safe for concurrent use.
type Reader struct {
	r      *bufio.Reader
	max    int
	began  bool
	skipLF bool // the last line ended with CR, so a LF belongs to that end
	line   []byte

	kind   string
	data   []byte
	id     string // the id field of the current event or of an earlier one
	lastID string // the id at the end of the last complete event
	retry  time.Duration
}

// NewReader returns a Reader of a stream with events of at most max bytes each.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 16<<10), max: max}
}

// LastID returns the id from which the stream can be resumed, or "" if the stream has
// had no id so far.
func (r *Reader) LastID() string { return r.lastID }

// Retry returns the delay before the stream should be resumed, or 0 if the server has
// not asked for one. It is at most a minute.
func (r *Reader) Retry() time.Duration { return r.retry }

// Next returns the next event that has data. At the end of the stream the error is
// io.EOF; an event that is incomplete then is dropped. An event beyond the bound is a
// [*TooLongError].
func (r *Reader) Next() (Event, error) {
	r.kind, r.data = "", r.data[:0]
	for {
		line, err := r.next()
		if err != nil {
			return Event{}, err
		}
		if len(line) > 0 {
			if err := r.field(line); err != nil {
				return Event{}, err
			}
			continue
		}
		r.lastID = r.id
		if data := bytes.TrimSuffix(r.data, []byte("\n")); len(data) > 0 {
			return Event{Type: r.kind, Data: data}, nil
		}
		r.kind, r.data = "", r.data[:0]
	}
}

// next returns the next line without its end: LF, CR or CRLF.
func (r *Reader) next() ([]byte, error) {
	r.line = r.line[:0]
	for {
		if _, err := r.r.Peek(1); err != nil {
			return nil, err
		}
		chunk, _ := r.r.Peek(r.r.Buffered()) // cannot fail for bytes that are buffered
		if r.skipLF {
			r.skipLF = false
			if chunk[0] == '\n' {
				_, _ = r.r.Discard(1)
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		part := chunk
		if end >= 0 {
			part = chunk[:end]
		}
		if len(r.line)+len(part) > r.max {
			return nil, &TooLongError{Max: r.max}
		}
		r.line = append(r.line, part...)
		if end < 0 {
			_, _ = r.r.Discard(len(chunk))
			continue
		}
		r.skipLF = chunk[end] == '\r'
		_, _ = r.r.Discard(end + 1)
		line := r.line
		if !r.began {
			r.began = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		return line, nil
	}
}

// field processes a line that is not blank.
func (r *Reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if len(r.data)+len(value) > r.max {
			return &TooLongError{Max: r.max}
		}
		r.data = append(append(r.data, value...), '\n')
	case "event":
		r.kind = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.id = string(value)
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			r.retry = min(time.Duration(ms)*time.Millisecond, maxRetry)
		}
	}
	return nil
}
