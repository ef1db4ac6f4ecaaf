package share

// A claim that can be cut is in two lists: of all such, and of its address.
const (
	inAll = iota
	inAddress
)

// link is a claim's place in a list.
type link struct {
	prev, next *Allocation
	in         bool
}

// list is a list of claims, the oldest first, whose links are in the claims.
type list struct {
	first, last *Allocation
	index       int // of the links
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

// oldest returns the oldest claim other than c, nil if there is none.
func (l *list) oldest(c *Allocation) *Allocation {
	if l.first == c && c != nil {
		return c.links[l.index].next
	}
	return l.first
}
