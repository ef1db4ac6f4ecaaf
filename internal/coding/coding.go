// Package coding decodes the content codings of HTTP (RFC 9110, 8.4.1) as the bytes
// arrive: it passes on the text in each piece of a body before it waits for the next
// piece, so that the events of a compressed stream arrive one by one. It bounds the
// ratio of text to body.
package coding

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// The bounds of a decoded text.
const (
	// MaxRatio bounds the length of the text as a multiple of the bytes received,
	// once the text is longer than Allowance.
	MaxRatio = 100
	// Allowance is the length that a text may have however short its body is.
	Allowance = 1 << 20
	// MaxWindow bounds the window of a zstd decoder (RFC 9659 has browsers refuse
	// more). The window of gzip and deflate has 32 KiB, that of br at most 16 MiB.
	MaxWindow = 8 << 20

	piece = 16 << 10
)

// Errors of a Decoder.
var (
	ErrRatio    = errors.New("it decodes to too many times its length")
	ErrTooLong  = errors.New("it decodes to too much")
	errTrailing = errors.New("it has bytes after the end of its coding")
	errStopped  = errors.New("coding: stopped")
)

// open maps the name of a coding to the function that opens its reader.
var open = map[string]func(source) (io.Reader, error){
	"gzip":    openGzip,
	"x-gzip":  openGzip, // RFC 9110, 8.4.1.3
	"deflate": openDeflate,
	"br":      func(s source) (io.Reader, error) { return brotli.NewReader(s), nil },
	"zstd":    openZstd,
}

func openGzip(s source) (io.Reader, error) {
	z, err := gzip.NewReader(s)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &members{z: z, s: s}, nil
}

// members reads the members of a gzip body one after the other. A gzip.Reader would
// hold the end of one back until it has seen whether another follows.
type members struct {
	z    *gzip.Reader
	s    source
	over bool // the current member
}

func (m *members) Read(p []byte) (int, error) {
	if m.over {
		if err := m.s.fill(); err != nil {
			return 0, err
		}
		if err := m.z.Reset(m.s); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
		m.over = false
	}
	n, err := m.z.Read(p)
	if m.over = errors.Is(err, io.EOF); m.over {
		err = nil
	}
	return n, err
}

// openDeflate reads the zlib format, which "deflate" means, or bare deflate, which
// many servers send under that name and every browser reads.
func openDeflate(s source) (io.Reader, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s, head); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	whole := &headed{head, s}
	if head[0]&0x0F == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(whole)
	}
	return flate.NewReader(whole), nil
}

// headed is a source with its first bytes inspected.
type headed struct {
	head []byte
	source
}

func (h *headed) Read(p []byte) (int, error) {
	if len(h.head) == 0 {
		return h.source.Read(p)
	}
	n := copy(p, h.head)
	h.head = h.head[n:]
	return n, nil
}

func (h *headed) ReadByte() (byte, error) {
	var b [1]byte
	_, err := h.Read(b[:])
	return b[0], err
}

func openZstd(s source) (io.Reader, error) {
	r, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
	if err != nil {
		return nil, err
	}
	return r.IOReadCloser(), nil
}

// Decoder decodes one coding, on the goroutine that calls it. It is not safe for
// concurrent use.
type Decoder struct {
	open  func(source) (io.Reader, error)
	sink  func([]byte) error
	limit int64

	resume func() (struct{}, bool) // runs the reader until it needs more bytes; nil before the first byte
	stop   func()
	wait   func(struct{}) bool // ends resume, from within
	in     []byte              // received bytes that have not been read
	ended  bool                // the body is complete
	done   bool                // the reader has ended, with err
	err    error

	read, wrote int64
}

// New returns a Decoder for the coding that passes the text on to sink, or nil if the
// coding is unknown. Write returns the errors of sink. A limit above zero bounds the
// whole text, in bytes. After a Write, the caller must call End or Stop.
func New(coding string, limit int64, sink func([]byte) error) *Decoder {
	reader, ok := open[strings.ToLower(coding)]
	if !ok {
		return nil
	}
	return &Decoder{open: reader, sink: sink, limit: limit}
}

// Write decodes p and passes on all the text that it yields.
func (d *Decoder) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, d.err
	}
	if d.done && d.err == nil {
		d.err = errTrailing
	}
	if d.err != nil {
		return 0, d.err
	}
	if d.resume == nil {
		d.resume, d.stop = iter.Pull(func(wait func(struct{}) bool) {
			d.wait = wait
			d.err = d.run()
			d.done = true
		})
	}
	d.in = p
	d.resume()
	if d.err != nil {
		return 0, d.err
	}
	return len(p), nil
}

// End ends the body and returns the reason if it was invalid. An empty body is an
// empty text.
func (d *Decoder) End() error {
	if d.resume == nil || d.done {
		return d.err
	}
	d.ended = true
	d.resume()
	return d.err
}

// Stop releases the decoder's resources. It may be called at any time, and more than
// once.
func (d *Decoder) Stop() {
	if d.stop != nil {
		d.stop()
	}
}

// run decodes the body from its beginning to its end.
func (d *Decoder) run() error {
	r, err := d.open(source{d})
	if err != nil {
		return fmt.Errorf("its coding cannot be read: %w", err)
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	buffer := make([]byte, piece)
	for {
		n, err := r.Read(buffer)
		d.wrote += int64(n)
		switch {
		case d.limit > 0 && d.wrote > d.limit:
			return ErrTooLong
		case d.wrote > Allowance && d.wrote/MaxRatio > d.read:
			return ErrRatio
		}
		if n > 0 {
			if err := d.sink(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if len(d.in) > 0 {
				return errTrailing
			}
			return nil
		case err != nil:
			return fmt.Errorf("its coding cannot be read: %w", err)
		}
	}
}

// source is the input of a coding's reader: the bytes of the body received so far.
type source struct{ d *Decoder }

// fill waits until there are bytes to read.
func (s source) fill() error {
	for d := s.d; len(d.in) == 0; {
		if d.ended {
			return io.EOF
		}
		if !d.wait(struct{}{}) {
			return errStopped
		}
	}
	return nil
}

func (s source) Read(p []byte) (int, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.d.in)
	s.d.in = s.d.in[n:]
	s.d.read += int64(n)
	return n, nil
}

// ReadByte exists for readers that would read ahead without it.
func (s source) ReadByte() (byte, error) {
	var b [1]byte
	_, err := s.Read(b[:])
	return b[0], err
}
