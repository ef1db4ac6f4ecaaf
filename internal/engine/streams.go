package engine

import (
	"maps"
	"slices"
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
)

// streams are the open streams of each key. They outlive the check of the key
// that opened them, so whoever serves one is told when the key was changed, and
// when the runtime is about to close.
type streams struct {
	closing chan struct{}
	ended   sync.Once // closing is closed

	mu   sync.Mutex
	open map[keys.Half]map[*Stream]struct{} // a platform tells of no more
}

// Stream is an open stream of a key.
type Stream struct {
	// Changed has a value when the key has been changed since it was last read.
	Changed <-chan struct{}
	// Closing is closed when the runtime begins to close: the stream must end.
	Closing <-chan struct{}
	// End must be called when the stream has ended.
	End func()

	changed chan struct{}
}

func newStreams() *streams {
	return &streams{closing: make(chan struct{}), open: make(map[keys.Half]map[*Stream]struct{})}
}

func (s *streams) end() { s.ended.Do(func() { close(s.closing) }) }

func (s *streams) watch(d keys.Digest) *Stream {
	changed := make(chan struct{}, 1)
	w := &Stream{Changed: changed, Closing: s.closing, changed: changed}
	half := d.Half()
	w.End = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open[half], w)
		if len(s.open[half]) == 0 {
			delete(s.open, half)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[half] == nil {
		s.open[half] = make(map[*Stream]struct{})
	}
	s.open[half][w] = struct{}{}
	return w
}

// tellAll tells all streams that their keys may have been changed.
func (s *streams) tellAll() {
	s.mu.Lock()
	halves := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, half := range halves {
		s.tellHalf(half)
	}
}

// tell tells the streams of a key that it was changed.
func (s *streams) tell(d keys.Digest) { s.tellHalf(d.Half()) }

func (s *streams) tellHalf(half keys.Half) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open[half] {
		select {
		case w.changed <- struct{}{}:
		default: // it is due to be checked already
		}
	}
}
