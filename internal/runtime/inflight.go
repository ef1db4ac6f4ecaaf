package runtime

import "sync"

// inflight are the requests that are under way, so that no two of a session
// have one id. Servers find the stream of an answer by its id: of two requests
// with the same one, the second would get the answer to the first, and could be
// a free call that gets a paid result.
type inflight struct {
	mu   sync.Mutex
	open map[string]struct{}
}

// claim takes the name and reports whether it was free.
func (f *inflight) claim(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.open[name]; taken {
		return false
	}
	f.open[name] = struct{}{}
	return true
}

func (f *inflight) release(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, name)
}
