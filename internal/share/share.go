// Package share divides a resource of a process, such as bytes, requests or
// streams, among its holders, so that none of them can starve the others.
//
// A Budget has a total. An account that has paid lately may hold any part of it
// within these shares:
//
//   - a key, by its lineage, may hold 1/64 of the total, and beyond that a
//     quarter as much as is free;
//   - an account may hold 1/32 of the total, and beyond that a third as much as
//     is free;
//   - all accounts that have not paid may hold three quarters of it together, and
//     a half from one address. For the keys and accounts among them, only the free
//     part of these counts as free.
//
// The free part shrinks as more is held. So a single key gets at most a fifth of
// the total and a single account a quarter. Ten keys that take all they can, one
// after the other, leave a tenth of it to the others, and each of those has 1/64
// for certain (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on
// Networking 6(2), 1998). The number of holders need not be known.
//
// If there is no room for a holder within its first share, the oldest allocation
// that can be cut is cut: first those of accounts that have not paid, and then, for
// an account that has paid, others as well.
package share

import (
	"errors"
	"net/netip"
	"sync"
)

// Divisors of a total; see the package comment.
const (
	keyFloor     = 64 // of the total: the share that a key always has
	accountFloor = 32
	keyPart      = 4 // of the free part: the share of a key beyond that
	accountPart  = 3
	unpaidRest   = 4 // of the total: the part reserved for accounts that have paid
	addressShare = 2 // of the total: the bound of an address that has not paid
)

// sharesOfUnpaid returns the bounds on all holders that have not paid together, and
// on those of one address.
func sharesOfUnpaid(total int64) (all, address int64) {
	return max(total-total/unpaidRest, 1), max(total/addressShare, 1)
}

// Class names an exhausted share. Its values are labels of metrics.
type Class string

// The classes.
const (
	Key     Class = "key"
	Account Class = "account"
	Address Class = "address" // one address, without payment
	Unpaid  Class = "unpaid"  // all holders that have not paid
	All     Class = "all"     // the whole total
	Cut     Class = "cut"     // the allocation was cut for another holder
)

// RefusedError says that a holder cannot have more.
type RefusedError struct{ Class Class }

// Error describes the exhausted share.
func (e *RefusedError) Error() string { return refusals[e.Class] }

var refusals = map[Class]string{
	Key:     "this key holds as much as it may at once",
	Account: "this account holds as much as it may at once",
	Address: "those who have not paid hold as much from this address as they may at once",
	Unpaid:  "those who have not paid hold as much as they may at once",
	All:     "as much is held as this process can",
	Cut:     "it was cut to make room for others",
}

// ClassOf returns the class of a RefusedError, or "" for other errors.
func ClassOf(err error) Class {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Class
	}
	return ""
}

// Holder identifies the holder of an allocation. Unknown fields are empty: for a
// client that is not authenticated, all but the address.
type Holder struct {
	Address netip.Addr
	Account string // id
	Lineage string
	Paid    bool // it has paid lately
}

// name identifies a key, an account or an address.
type name struct {
	class   Class
	text    string
	address netip.Prefix
}

// held is what a key, an account or an address holds.
type held struct {
	name   name
	n      int64
	open   int  // number of open allocations
	unpaid list // of an address: its allocations that can be cut
}

// Budget divides a total among its holders. It is safe for concurrent use.
type Budget struct {
	refused func(Class)

	mu     sync.Mutex
	total  int64
	used   int64
	unpaid int64 // of used
	held   map[name]*held
	spare  []*held
	cuts   [2]list // allocations that can be cut, by paidIndex
}

// maxSpare bounds the structs that are kept for new holders.
const maxSpare = 256

// New returns a budget of a total. It calls refused, unless nil, for each allocation
// that is refused or cut.
func New(total int64, refused func(Class)) *Budget {
	if refused == nil {
		refused = func(Class) {}
	}
	b := &Budget{refused: refused, total: total, held: make(map[name]*held)}
	b.cuts[0].index, b.cuts[1].index = inAll, inAll
	return b
}

// SetTotal changes the total. What is held stays held.
func (b *Budget) SetTotal(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total = total
}

// Used returns how much is held.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Largest returns the largest amount that a single key which has not paid can hold
// of an otherwise unused total.
func Largest(total int64) int64 { return total / addressShare / (keyPart + 1) }

// Allocation is the part of a budget that one request or stream holds. The zero
// value is closed: all its methods do nothing until Budget.Open.
type Allocation struct {
	b                     *Budget
	n                     int64
	paid                  bool
	key, account, address *held
	gone                  bool // cut

	cutting sync.Mutex // held while cut runs
	cut     func()     // nil unless it can be cut

	links [2]link
}

// Open opens an allocation, which holds nothing yet. It must be closed.
func (b *Budget) Open(c *Allocation, h Holder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.b, c.paid = b, h.Paid
	if h.Lineage != "" {
		c.key = b.join(name{class: Key, text: h.Lineage})
	}
	if h.Account != "" {
		c.account = b.join(name{class: Account, text: h.Account})
	}
	if !h.Paid {
		c.address = b.join(name{class: Address, address: Network(h.Address)})
	}
}

// join returns the record of a holder, for one more allocation.
func (b *Budget) join(of name) *held {
	h := b.held[of]
	if h == nil {
		if last := len(b.spare) - 1; last >= 0 {
			h, b.spare = b.spare[last], b.spare[:last]
		} else {
			h = new(held)
		}
		*h = held{name: of, unpaid: list{index: inAddress}}
		b.held[of] = h
	}
	h.open++
	return h
}

func (b *Budget) leave(h *held) {
	if h == nil {
		return
	}
	if h.open--; h.open > 0 {
		return
	}
	delete(b.held, h.name)
	if len(b.spare) < maxSpare {
		b.spare = append(b.spare, h)
	}
}

// Take takes n more. It fails with a RefusedError.
func (c *Allocation) Take(n int64) error {
	b := c.b
	if b == nil || n <= 0 {
		return nil
	}
	for {
		b.mu.Lock()
		over := b.over(c, n)
		if over == "" {
			b.add(c, n)
			b.mu.Unlock()
			return nil
		}
		other := b.toCut(c, over)
		if other != nil {
			b.drop(other)
		}
		b.mu.Unlock()
		if other == nil {
			b.refused(over)
			return &RefusedError{over}
		}
		b.refused(Cut)
		other.callCut()
	}
}

// over returns the share that n more would exceed, or "".
func (b *Budget) over(c *Allocation, n int64) Class {
	free := b.total - b.used - n
	var unpaid, address int64 // remaining
	if !c.paid {
		all, one := sharesOfUnpaid(b.total)
		unpaid, address = all-b.unpaid-n, one-c.address.n-n
		free = min(free, max(unpaid, 0), max(address, 0))
	}
	switch {
	case c.gone:
		return Cut
	case c.key != nil && c.key.n+n > max(b.total/keyFloor, 1) && keyPart*(c.key.n+n) > free:
		return Key
	case c.account != nil && c.account.n+n > max(b.total/accountFloor, 1) && accountPart*(c.account.n+n) > free:
		return Account
	case address < 0:
		return Address
	case unpaid < 0:
		return Unpaid
	case b.used+n > b.total:
		return All
	}
	return ""
}

// toCut returns the allocation to be cut for c, or nil.
func (b *Budget) toCut(c *Allocation, over Class) *Allocation {
	switch over {
	case Address:
		return c.address.unpaid.oldest(c)
	case Unpaid:
		return b.cuts[0].oldest(c)
	case All:
		if other := b.cuts[0].oldest(c); other != nil || !c.paid {
			return other
		}
		return b.cuts[1].oldest(c)
	}
	return nil
}

// add adds n, which may be negative, to the allocation.
func (b *Budget) add(c *Allocation, n int64) {
	c.n += n
	b.used += n
	if !c.paid {
		b.unpaid += n
	}
	for _, h := range [...]*held{c.key, c.account, c.address} {
		if h != nil {
			h.n += n
		}
	}
}

// drop takes everything from an allocation and has it refused more.
func (b *Budget) drop(c *Allocation) {
	b.add(c, -c.n)
	b.keep(c)
	c.gone = true
}

// keep makes the allocation one that cannot be cut.
func (b *Budget) keep(c *Allocation) {
	if c.address != nil {
		c.address.unpaid.remove(c)
	}
	b.cuts[paidIndex(c.paid)].remove(c)
}

func paidIndex(paid bool) int {
	if paid {
		return 1
	}
	return 0
}

// Give gives n back, or everything if less is held.
func (c *Allocation) Give(n int64) {
	b := c.b
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(c, -min(n, c.n))
}

// Cuttable allows cutting the allocation for others until Keep or Close. An
// allocation that is cut holds nothing any more, and cut is called, at most once
// and possibly from another goroutine. It must neither block nor use the budget.
func (c *Allocation) Cuttable(cut func()) {
	b := c.b
	if b == nil {
		return
	}
	c.cutting.Lock()
	c.cut = cut
	c.cutting.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.gone {
		return
	}
	b.cuts[paidIndex(c.paid)].add(c)
	if c.address != nil {
		c.address.unpaid.add(c)
	}
}

// Keep undoes Cuttable. When it returns, cut is not running and never will.
func (c *Allocation) Keep() {
	if c.b == nil {
		return
	}
	c.b.mu.Lock()
	c.b.keep(c)
	c.b.mu.Unlock()
	c.cutting.Lock()
	defer c.cutting.Unlock()
	c.cut = nil
}

func (c *Allocation) callCut() {
	c.cutting.Lock()
	defer c.cutting.Unlock()
	if c.cut != nil {
		c.cut()
		c.cut = nil
	}
}

// Opened reports whether the allocation is open.
func (c *Allocation) Opened() bool { return c.b != nil }

// WasCut reports whether the allocation was cut.
func (c *Allocation) WasCut() bool {
	if c.b == nil {
		return false
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.gone
}

// Close gives everything back and closes the allocation.
func (c *Allocation) Close() {
	b := c.b
	if b == nil {
		return
	}
	b.mu.Lock()
	b.add(c, -c.n)
	b.keep(c)
	b.leave(c.key)
	b.leave(c.account)
	b.leave(c.address)
	b.mu.Unlock()
	c.cutting.Lock()
	defer c.cutting.Unlock()
	c.cut, c.b = nil, nil
	c.key, c.account, c.address = nil, nil, nil
}

// Network returns the network that counts as one client: for IPv6 the /64, since a
// customer usually has all of its addresses. The zero Prefix stands for all clients
// without a known address.
func Network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	prefix, _ := client.Prefix(bits)
	return prefix
}
