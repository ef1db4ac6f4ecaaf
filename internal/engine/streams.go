package engine

import (
	"maps"
	"slices"
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
)

// streams holds the open streams of each key. A key is checked when a stream begins,
// but may change while the stream is open. So streams are notified when their key
// changes and when the runtime is about to close.
type streams struct {
	closing chan struct{}
	ended   sync.Once // lets s.end close the channel only once

	mu   sync.Mutex
	open map[keys.Half]map[*Stream]struct{} // by half digest, because a platform sends only half digests
}

// Stream is an open stream of a key.
type Stream struct {
	// Changed receives a value if the key may have changed since the last receive.
	Changed <-chan struct{}
	// Closing is closed when the runtime begins to close. The stream must then end.
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

// notifyAll notifies all streams that their keys may have changed.
func (s *streams) notifyAll() {
	s.mu.Lock()
	halves := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, half := range halves {
		s.notifyHalf(half)
	}
}

// notify notifies the streams of a key that the key has changed.
func (s *streams) notify(d keys.Digest) { s.notifyHalf(d.Half()) }

func (s *streams) notifyHalf(half keys.Half) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open[half] {
		select {
		case w.changed <- struct{}{}:
		default: // a notification is pending already
		}
	}
}
