package share

// The lists that an allocation is in while it can be cut.
const (
	inAll     = iota // all that can be cut
	inAddress        // all of one address
)

// link is an allocation's place in a list.
type link struct {
	prev, next *Allocation
	in         bool
}

// list is an intrusive list of allocations, the oldest first.
type list struct {
	first, last *Allocation
	index       int // into Allocation.links
}

func (l *list) add(c *Allocation) {
	k := &c.links[l.index]
	if k.in {
		return
	}
	*k = link{prev: l.last, in: true}
	if l.last == nil {
		l.first = c
	} else {
		l.last.links[l.index].next = c
	}
	l.last = c
}

func (l *list) remove(c *Allocation) {
	k := &c.links[l.index]
	if !k.in {
		return
	}
	if k.prev == nil {
		l.first = k.next
	} else {
		k.prev.links[l.index].next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		k.next.links[l.index].prev = k.prev
	}
	*k = link{}
}

// oldest returns the oldest allocation other than c, or nil.
func (l *list) oldest(c *Allocation) *Allocation {
	if l.first == c && c != nil {
		return c.links[l.index].next
	}
	return l.first
}
