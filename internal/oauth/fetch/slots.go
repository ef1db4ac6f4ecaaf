package fetch

import "sync"

// slots counts the requests in flight, in all and by name. A name is the network that
// caused a request, or the host that gets the request.
type slots struct {
	mu     sync.Mutex
	total  int
	byName map[string]int
}

// limit is how many requests with a name may be in flight.
type limit struct {
	name string
	max  int
}

// take reserves a slot. It returns false if the total or a limit is reached. The caller
// releases a reserved slot by the returned function.
func (s *slots) take(total int, limits ...limit) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= total {
		return nil, false
	}
	for _, l := range limits {
		if s.byName[l.name] >= l.max {
			return nil, false
		}
	}
	if s.byName == nil {
		s.byName = make(map[string]int)
	}
	s.total++
	for _, l := range limits {
		s.byName[l.name]++
	}
	return func() { s.release(limits) }, true
}

func (s *slots) release(limits []limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	for _, l := range limits {
		if s.byName[l.name]--; s.byName[l.name] == 0 {
			delete(s.byName, l.name)
		}
	}
}
