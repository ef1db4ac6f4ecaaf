// Package coding decodes the content codings of HTTP (RFC 9110, 8.4.1) as the bytes
// arrive. Before the package waits for the next piece of a body, it passes on all the
// text in the pieces so far. So the events of a compressed stream arrive one by one.
// The package also bounds the ratio of the text's length to the body's length.
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
	// MaxRatio bounds the length of the text as a multiple of the bytes received, as
	// soon as the text is longer than Allowance.
	MaxRatio = 100
	// Allowance is the length in bytes that a text may have, however short the body
	// is.
	Allowance = 1 << 20
	// MaxWindow bounds the window of a zstd decoder, in bytes. RFC 9659 allows no
	// larger window in HTTP. Other codings need no such bound: gzip and deflate
	// have a window of 32 KiB, and br has one of at most 16 MiB.
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

// open has a function for each coding, which returns a reader that decodes the source.
var open = map[string]func(source) (io.Reader, error){
	"gzip":    openGzip,
	"x-gzip":  openGzip, // another name for gzip (RFC 9110, 8.4.1.3)
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

// members reads the members of a gzip body one after the other. A gzip.Reader in
// multistream mode is unsuitable: at the end of a member, it waits for the next one
// before it returns the last text.
type members struct {
	z    *gzip.Reader
	s    source
	over bool // the current member has ended
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

// openDeflate opens a reader for the coding "deflate". By the standard, that is the zlib
// format. But many servers send bare deflate under the same name, and every browser
// reads both, so openDeflate accepts both.
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

// headed is a source from which some bytes were already read. These bytes are in head,
// and are returned first.
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

// Decoder decodes one coding. The reader that decodes runs as a coroutine, within the
// calls of Decoder's methods. A Decoder is not safe for concurrent use.
type Decoder struct {
	open  func(source) (io.Reader, error)
	sink  func([]byte) error
	limit int64

	resume func() (struct{}, bool) // runs the reader until it needs more bytes; nil before the first byte
	stop   func()                  // makes wait(…) return false, which ends the reader
	wait   func(struct{}) bool     // called by the reader to return control to the caller of resume
	in     []byte                  // received bytes that the reader has not consumed
	ended  bool                    // the body is complete
	done   bool                    // the reader has ended; err is its error, if any
	err    error

	read, wrote int64
}

// New returns a Decoder for the coding, or nil if the coding is unknown. The Decoder
// passes the text to sink. If sink returns an error, the decoding ends, and Write or
// End returns that error. A limit above zero bounds the whole text, in bytes. After a
// Write, the caller must call Stop, unless End was called.
func New(coding string, limit int64, sink func([]byte) error) *Decoder {
	reader, ok := open[strings.ToLower(coding)]
	if !ok {
		return nil
	}
	return &Decoder{open: reader, sink: sink, limit: limit}
}

// Write decodes p and passes all text that can be decoded so far to the sink.
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

// End marks the end of the body and decodes the rest. It returns an error if the body
// is invalid or incomplete. An empty body is valid and has an empty text.
func (d *Decoder) End() error {
	if d.resume == nil || d.done {
		return d.err
	}
	d.ended = true
	d.resume()
	return d.err
}

// Stop releases the decoder's resources. Stop may be called at any time, and any
// number of times.
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

// source is the input of a coding's reader. It supplies the bytes of the body as Write
// receives them.
type source struct{ d *Decoder }

// fill waits until there are bytes to read. It returns io.EOF at the end of the body and
// errStopped after Stop.
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

// ReadByte makes source an io.ByteReader. Without this method, some decoders would wrap
// the source in a buffer and read ahead.
func (s source) ReadByte() (byte, error) {
	var b [1]byte
	_, err := s.Read(b[:])
	return b[0], err
}
