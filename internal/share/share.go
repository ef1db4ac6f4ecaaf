// Package share divides a resource of a process, such as bytes, requests or
// streams, among its holders, so that no holder can starve the others.
//
// A Budget has a total and limits how much of it each holder may hold at once:
//
//   - A key, identified by its lineage, may hold 1/64 of the total. It may hold more
//     as long as it holds at most a quarter of the free amount.
//   - An account may hold 1/32 of the total. It may hold more as long as it holds at
//     most a third of the free amount.
//   - Holders that have not paid recently may hold three quarters of the total
//     together, and half of the total from one address. The free amount for their
//     keys and accounts is the smallest of three amounts: the unused parts of the
//     total, the three quarters and the half.
//
// The free amount shrinks as more is held. A key that holds a fifth of the total
// holds a quarter of the rest, so a single key gets at most a fifth. In the same
// way, a single account gets at most a quarter. Ten keys that take all they can, one
// after the other, leave a tenth of the total free, from which every other key may
// still take its 1/64 (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
// Transactions on Networking 6(2), 1998). The number of holders need not be known.
//
// If a holder is within the limits of its key and account but there is no room, the
// oldest allocation that may be cut (see Allocation.Cuttable) is cut. Allocations of
// holders that have not paid are cut first. Other allocations are cut only for a holder
// that has paid.
package share

import (
	"errors"
	"net/netip"
	"sync"
)

// Divisors of the total or the free amount; see the package comment.
const (
	keyFloor     = 64 // total/keyFloor is always within the limit of a key
	accountFloor = 32 // total/accountFloor is always within the limit of an account
	keyPart      = 4  // free/keyPart is the limit of a key beyond its floor
	accountPart  = 3  // free/accountPart is the limit of an account beyond its floor
	unpaidRest   = 4  // total/unpaidRest is kept for holders that have paid
	addressShare = 2  // unpaid holders at one address get at most total/addressShare
)

// sharesOfUnpaid returns two limits for holders that have not paid: for all of them
// together, and for those with the same address.
func sharesOfUnpaid(total int64) (all, address int64) {
	return max(total-total/unpaidRest, 1), max(total/addressShare, 1)
}

// Class names the limit that a refused holder has reached. Its values are labels of
// metrics.
type Class string

// The values of Class.
const (
	Key     Class = "key"
	Account Class = "account"
	Address Class = "address" // holders at one address that have not paid
	Unpaid  Class = "unpaid"  // all holders that have not paid
	All     Class = "all"     // the limit is the total of the budget
	Cut     Class = "cut"     // the allocation was cut for another holder
)

// RefusedError means that a holder cannot take more.
type RefusedError struct{ Class Class }

// Error describes the exhausted limit.
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

// Holder identifies the holder of an allocation. Unknown fields are empty. For a
// client that is not authenticated, only the address is known.
type Holder struct {
	Address netip.Addr
	Account string // the id of the account
	Lineage string
	Paid    bool // true if the account has paid recently
}

// name identifies a key, an account or an address.
type name struct {
	class   Class
	text    string
	address netip.Prefix
}

// held records the amount that a key, an account or an address holds.
type held struct {
	name   name
	n      int64
	open   int  // number of open allocations
	unpaid list // only for an address: its allocations that can be cut
}

// Budget divides a total among its holders. It is safe for concurrent use.
type Budget struct {
	refused func(Class)

	mu     sync.Mutex
	total  int64
	used   int64
	unpaid int64 // the amount that belongs to holders that have not paid; included in used
	held   map[name]*held
	spare  []*held // unused records for new holders
	cuts   [2]list // allocations that can be cut: at index 0 those of holders that have not paid, at index 1 the others
}

// maxSpare is the maximum length of Budget.spare.
const maxSpare = 256

// New returns a budget with the given total. The budget calls refused(class) for each
// request that it refuses and each allocation that it cuts. refused may be nil.
func New(total int64, refused func(Class)) *Budget {
	if refused == nil {
		refused = func(Class) {}
	}
	b := &Budget{refused: refused, total: total, held: make(map[name]*held)}
	b.cuts[0].index, b.cuts[1].index = inAll, inAll
	return b
}

// SetTotal changes the total. Existing allocations keep their amounts, even if these
// exceed the new total.
func (b *Budget) SetTotal(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total = total
}

// Total returns the total.
func (b *Budget) Total() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Used returns the amount that all allocations hold together.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Largest returns the largest amount that a single key can hold if its account has not
// paid and the rest of the total is unused.
func Largest(total int64) int64 { return total / addressShare / (keyPart + 1) }

// Allocation is the part of a budget that one request or stream holds. The zero
// value is closed: all its methods do nothing until Budget.Open.
type Allocation struct {
	b                     *Budget
	n                     int64
	paid                  bool
	key, account, address *held
	gone                  bool // the allocation was cut

	cutting sync.Mutex // held while cut() runs
	cut     func()     // nil unless the allocation can be cut

	links [2]link
}

// Open opens the allocation c for the holder h. c holds nothing yet. The caller must
// close c.
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

// join returns the record of a key, an account or an address, and counts one more
// open allocation in that record.
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

// Take takes n more from the budget. It cuts other allocations if needed and allowed.
// The only error is a RefusedError.
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

// over returns the class of the limit that c would exceed with n more, or "".
func (b *Budget) over(c *Allocation, n int64) Class {
	free := b.total - b.used - n
	var unpaid, address int64 // the amounts that would be left for all unpaid holders together, and for the unpaid holders at the address of c
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

// toCut returns the allocation to cut so that c gets room, or nil if there is no such
// allocation. The class names the limit that c would exceed.
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

// drop takes everything from the allocation. Later calls of Take for the allocation
// fail with the class Cut.
func (b *Budget) drop(c *Allocation) {
	b.add(c, -c.n)
	b.keep(c)
	c.gone = true
}

// keep removes the allocation from the lists of those that can be cut.
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

// Give gives n back, or everything if the allocation holds less.
func (c *Allocation) Give(n int64) {
	b := c.b
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(c, -min(n, c.n))
}

// Cuttable allows the budget to cut the allocation, to make room for others, until Keep
// or Close. The budget then takes everything from the allocation and calls cut(), at
// most once and possibly from another goroutine. cut() must not block and must not use
// the budget.
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

// Keep undoes Cuttable. After Keep returns, cut() is not running and is not called
// again.
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
	c.gone = false
	b.mu.Unlock()
	c.cutting.Lock()
	defer c.cutting.Unlock()
	c.cut, c.b = nil, nil
	c.key, c.account, c.address = nil, nil, nil
}

// Network returns the network that counts as one client: for IPv6 the /64, since one
// customer usually has all addresses of a /64. The zero Prefix stands for all clients
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
