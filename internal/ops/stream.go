package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

// StreamType is the content type of a response that reports progress. The response
// consists of lines of JSON, each a StreamLine. The last line has the result or the
// problem. A long operation responds with this type if the client accepts it.
const StreamType = "application/vnd.farebox.progress"

// StreamLine is one line of a stream. Exactly one of its members is set.
type StreamLine struct {
	Progress *ProgressLine   `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Problem  *wire.Problem   `json:"problem,omitempty"`
}

// ProgressLine has the amount of work that an operation has done, and the total. The
// unit depends on the operation.
type ProgressLine struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Progress is a function that an operation calls with the amount of work that is done
// and the total. It is nil if the client has not asked for progress.
type Progress = func(done, total int64)

// progressParts bounds the progress lines of an operation: about one for each
// hundredth of the work.
const progressParts = 100

// writeTime is the time in which a client must accept one write to a stream.
const writeTime = 30 * time.Second

// Stream is a response that is written in pieces. Before the first piece, the operation
// can still be refused with a status.
type Stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	logger   *slog.Logger
	begun    bool
	reported int64 // value of Done in the last progress line
	gone     error // the first error of a write to the client; nil without an error
}

func newStream(w http.ResponseWriter, logger *slog.Logger) *Stream {
	return &Stream{w: w, control: http.NewResponseController(w), logger: logger}
}

// Write sends bytes unchanged, within writeTime.
func (s *Stream) Write(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", StreamType)
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("Connection", "close") // otherwise the write deadline would apply to the next response on the connection
		s.w.WriteHeader(http.StatusOK)
	}
	_ = s.control.SetWriteDeadline(clock.Deadline(writeTime)) // a writer without deadlines returns an error, which does not matter
	return s.w.Write(p)
}

func (s *Stream) line(l StreamLine) error {
	if err := json.NewEncoder(s).Encode(l); err != nil {
		return err
	}
	if err := s.control.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Progress writes a progress line, unless little has changed since the last one.
func (s *Stream) Progress(done, total int64) {
	if s.gone != nil || done < total && done < s.reported+max(total/progressParts, 1) {
		return
	}
	s.reported = done
	s.gone = s.line(StreamLine{Progress: &ProgressLine{done, total}})
}

// end writes the line with the result, unless writing to the client has failed.
func (s *Stream) end(result any) error {
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if s.gone == nil {
		s.gone = s.line(StreamLine{Result: text})
	}
	return s.gone
}

// Deliver writes the line with the result, and then the content.
func (s *Stream) Deliver(result any, content io.Reader) error {
	if err := s.end(result); err != nil {
		return err
	}
	_, s.gone = io.Copy(s, content) // after an error, s.gone prevents a further line in the middle of the content
	return s.gone
}

// DefineStream returns an operation that responds with a stream. The result has type
// O and may be followed by content; see Stream.Deliver.
func DefineStream[E, I, O any](o Operation, do func(ctx context.Context, e E, by *identity.Principal, in *I, out *Stream) error) Op[E] {
	o.Content = StreamType
	return DefineRaw[E, I, O](o, func(ctx context.Context, e E, by *identity.Principal, in *I, x *Exchange) error {
		return x.stream(ctx, func(s *Stream) error { return do(ctx, e, by, in, s) })
	})
}

// DefineProgress returns a long operation. It responds with a progress stream if the
// client accepts StreamType, and otherwise like any other operation.
func DefineProgress[E, I, O any](o Operation, do func(ctx context.Context, e E, by *identity.Principal, in *I, progress Progress) (O, error)) Op[E] {
	o.Content = StreamType
	return DefineRaw[E, I, O](o, func(ctx context.Context, e E, by *identity.Principal, in *I, x *Exchange) error {
		if x.R.Header.Get("Accept") != StreamType {
			result, err := do(ctx, e, by, in, nil)
			if err != nil {
				return err
			}
			var text bytes.Buffer
			if err := marshal(&text, result); err != nil {
				return err
			}
			x.W.Header().Set("Content-Type", "application/json")
			_, _ = x.W.Write(text.Bytes()) // fails only if the client has disconnected
			return nil
		}
		return x.stream(ctx, func(s *Stream) error {
			result, err := do(ctx, e, by, in, s.Progress)
			if err != nil {
				return err
			}
			return s.end(result)
		})
	})
}

// stream responds with a stream and calls serve to write it. If serve fails after the
// first piece, the last line reports the error.
func (x *Exchange) stream(ctx context.Context, serve func(*Stream) error) error {
	s := newStream(x.W, x.mount.o.Logger)
	err := serve(s)
	switch {
	case s.gone != nil:
		s.logger.Warn("a stream ended early: its client is gone", "operation", x.op.ID, "error", s.gone)
		return errReported
	case err != nil && s.begun:
		p := x.mount.problem(ctx, x.op.ID, err)
		_ = s.line(StreamLine{Problem: p}) // fails only if the client has disconnected
		return errReported
	}
	return err
}
