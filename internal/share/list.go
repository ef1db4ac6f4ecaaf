package share

// Indexes of Allocation.links: the lists that contain an allocation while it can be
// cut.
const (
	inAll     = iota // the budget's list, one of Budget.cuts
	inAddress        // the list of one address, held.unpaid
)

// link is the position of an allocation in one list.
type link struct {
	prev, next *Allocation
	in         bool
}

// list is an intrusive linked list of allocations, in the order in which they were
// added.
type list struct {
	first, last *Allocation
	index       int // the index of this list in Allocation.links
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

// oldest returns the first allocation in the list that is not c, or nil.
func (l *list) oldest(c *Allocation) *Allocation {
	if l.first == c && c != nil {
		return c.links[l.index].next
	}
	return l.first
}
