// Package lines reads and writes MCP messages over pipes: one JSON text a line (MCP
// 2025-11-25 and 2026-07-28, basic/transports, "stdio").
package lines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// TooLongError says that a line was longer than the reader's bound. The reader has
// skipped the line, and can read the next one.
type TooLongError struct {
	Max  int // the reader's bound in bytes, without the line's end
	Size int // the size of the skipped line in bytes, without its end

	// Start is the beginning of the line, at most 4 KiB. It may have the id of a request.
	Start []byte
}

// startSize is the largest size of TooLongError.Start in bytes.
const startSize = 4 << 10

func (e *TooLongError) Error() string {
	return fmt.Sprintf("a line has %d bytes, the most is %d", e.Size, e.Max)
}

// Reader reads lines. It is not safe for concurrent use.
type Reader struct {
	r   *bufio.Reader
	max int
	buf []byte // the current line if it is longer than the buffer of r
}

// NewReader returns a Reader for lines of at most max bytes, without their ends.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 32<<10), max: max}
}

// Next returns the next line that is not blank, without its end (LF or CRLF). The line
// is valid until the following call.
//
// A line that is too long is a [*TooLongError]. After the last line, the error is io.EOF.
// It is io.ErrUnexpectedEOF if the input ends within a line: its writer died while it
// wrote, so the part that has come is not a message.
func (r *Reader) Next() ([]byte, error) {
	for {
		line, err := r.next()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (r *Reader) next() ([]byte, error) {
	r.buf = r.buf[:0]
	if cap(r.buf) > keepMost {
		r.buf = nil
	}
	size := 0
	for {
		part, err := r.r.ReadSlice('\n')
		size += len(part)
		if errors.Is(err, io.EOF) && size > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		ended := err == nil
		if ended && len(r.buf) == 0 && len(part) == size && size <= r.max+1 {
			return part, nil
		}
		if size <= r.max+2 { // room for CRLF
			r.buf = append(r.buf, part...)
		}
		if !ended {
			continue
		}
		if content := size - ending(part); content > r.max {
			return nil, &TooLongError{Max: r.max, Size: content, Start: bytes.Clone(r.buf[:min(len(r.buf), startSize)])}
		}
		return r.buf, nil
	}
}

// keepMost is the size in bytes up to which a reader keeps its buffer for later lines.
const keepMost = 1 << 20

// ending returns the size of the line's end in bytes.
func ending(part []byte) int {
	if bytes.HasSuffix(part, []byte("\r\n")) {
		return 2
	}
	return 1
}

// Writer writes messages, each as one line by one call of Write. It is safe for
// concurrent use.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf bytes.Buffer
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes a JSON text as a line. A text with line breaks, which can only stand
// between its tokens, is written without them. Text that is not JSON but has line breaks
// is an error, because it would be read as several messages.
func (w *Writer) Write(message []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Reset()
	if w.buf.Cap() > keepMost {
		w.buf = bytes.Buffer{}
	}
	if bytes.ContainsAny(message, "\r\n") {
		if err := json.Compact(&w.buf, message); err != nil {
			return fmt.Errorf("a message with line breaks is not JSON: %w", err)
		}
	} else {
		w.buf.Write(message)
	}
	w.buf.WriteByte('\n')
	_, err := w.w.Write(w.buf.Bytes())
	return err
}
