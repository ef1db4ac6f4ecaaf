package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// StreamType is the content type of an answer that tells of its progress: lines
// of JSON, each a StreamLine, of which the last has the result or the problem.
// An operation that takes long answers so if it is what Accept names.
const StreamType = "application/vnd.farebox.progress"

// StreamLine is one line of a stream. Exactly one of its members is set.
type StreamLine struct {
	Progress *Progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Problem  *Problem        `json:"problem,omitempty"`
}

// Progress says how much of an operation is done, in units of its own.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// progressParts is how many lines of progress an operation tells at most, about.
const progressParts = 100

// writeTime bounds how long a client may take to accept a piece of a stream.
const writeTime = 30 * time.Second

// stream writes an answer piece by piece. Nothing is sent before the first
// piece, so that an operation can still be refused with a status.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	told    int64 // the last Done
	gone    error // why the client gets no more
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, control: http.NewResponseController(w)}
}

// Write sends bytes as they are, within writeTime.
func (s *stream) Write(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", StreamType)
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("Connection", "close") // its limits of time are not for what comes after
		s.w.WriteHeader(http.StatusOK)
	}
	_ = s.control.SetWriteDeadline(clock.Deadline(writeTime)) // not every writer has deadlines
	return s.w.Write(p)
}

func (s *stream) line(l StreamLine) error {
	if err := json.NewEncoder(s).Encode(l); err != nil {
		return err
	}
	if err := s.control.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// progress tells how much is done, if that is enough more than was told last.
func (s *stream) progress(done, total int64) {
	if s.gone != nil || done < total && done < s.told+max(total/progressParts, 1) {
		return
	}
	s.told = done
	s.gone = s.line(StreamLine{Progress: &Progress{done, total}})
}

// end writes the last line, unless the client has left.
func (s *stream) end(result any) error {
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if s.gone == nil {
		s.gone = s.line(StreamLine{Result: text})
	}
	return s.gone
}

// lasting serves an operation that may take long: as a stream if the client
// asks for one, else as any other.
func (h *Handler) lasting(serve func(r *http.Request, progress func(done, total int64)) (any, error)) http.HandlerFunc {
	plain := h.answer(func(r *http.Request) (int, any, error) {
		result, err := serve(r, nil)
		return http.StatusOK, result, err
	})
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != StreamType {
			plain(w, r)
			return
		}
		s := newStream(w)
		// A server sees that the client leaves only when the body was read.
		_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
		var result any
		if err == nil {
			result, err = serve(r, s.progress)
		}
		if err == nil {
			err = s.end(result)
		}
		h.fail(s, r, err)
	}
}

// fail tells a client why it gets no result: by the status, or, if the stream
// has begun, by its last line. A client that has left is told nothing.
func (h *Handler) fail(s *stream, r *http.Request, err error) {
	if err == nil || s.gone != nil {
		return
	}
	status, problem := h.problem(r, err)
	if !s.begun {
		writeJSON(s.w, status, problem)
		return
	}
	_ = s.line(StreamLine{Problem: &problem}) // or the client has left
}
