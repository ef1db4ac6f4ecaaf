package runtime

import (
	"sync"

	"github.com/fareboxhq/farebox/internal/keys"
)

// streams are the open streams of each key. They outlive the check of the key
// that opened them, so whoever serves one is told when the key was changed.
type streams struct {
	mu   sync.Mutex
	open map[keys.Digest]map[*watcher]struct{}
}

type watcher struct{ changed func() }

func newStreams() *streams {
	return &streams{open: make(map[keys.Digest]map[*watcher]struct{})}
}

// watch calls the function, which must be fast, each time that the key has
// been changed, until stop is called.
func (s *streams) watch(d keys.Digest, changed func()) (stop func()) {
	w := &watcher{changed}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[d] == nil {
		s.open[d] = make(map[*watcher]struct{})
	}
	s.open[d][w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open[d], w)
		if len(s.open[d]) == 0 {
			delete(s.open, d)
		}
	}
}

// tell tells the watchers of a key that it was changed.
func (s *streams) tell(d keys.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.open[d] {
		w.changed()
	}
}
