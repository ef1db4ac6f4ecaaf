// Package share divides what a process can hold, bytes or requests or streams,
// among those who hold it, so that none of them can keep the others from their
// work.
//
// A Budget has a total. Who has paid lately may hold any of it, within these
// shares:
//
//   - a key, by its lineage, may hold 1/64 of the total, and beyond that a
//     quarter as much as is left free;
//   - an account may hold 1/32 of the total, and beyond that a third as much as
//     is left free;
//   - all who have not paid may hold three quarters of it together, and a half
//     from one address. What is left free of these is what counts for the keys
//     and accounts among them.
//
// What is left free shrinks as more is held. A key alone so gets a fifth of the
// total and an account a quarter; ten keys that take all they can, one after the
// other, leave a tenth of it to the others, of which each has 1/64 for certain
// (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking
// 6(2), 1998). Nothing has to be known of how many holders there are.
//
// Where a holder within its first share finds no room, the oldest claim that
// can be cut is: of those who have not paid first, of those who have only for
// one who has, too.
package share

import (
	"errors"
	"net/netip"
	"sync"
)

// The parts of a total; see the package comment.
const (
	keyFloor     = 64 // what a key may hold in any case is the total by this
	accountFloor = 32
	keyPart      = 4 // beyond that, what is left free by this
	accountPart  = 3
	unpaidRest   = 4 // all but this part is for who has not paid
	addressShare = 2
)

// sharesOfUnpaid returns how much of a total all who have not paid may hold, and
// how much from one address.
func sharesOfUnpaid(total int64) (all, address int64) {
	return max(total-total/unpaidRest, 1), max(total/addressShare, 1)
}

// Class is whose share is used up. Its values are labels of metrics.
type Class string

// The classes.
const (
	Key     Class = "key"
	Account Class = "account"
	Address Class = "address" // of those who have not paid
	Unpaid  Class = "unpaid"  // all who have not paid
	All     Class = "all"     // everything is in use
	Cut     Class = "cut"     // it was taken away for somebody else
)

// RefusedError says that a holder cannot have more.
type RefusedError struct{ Class Class }

// Error tells whose share it is.
func (e *RefusedError) Error() string { return refusals[e.Class] }

var refusals = map[Class]string{
	Key:     "this key holds as much as it may at once",
	Account: "this account holds as much as it may at once",
	Address: "those who have not paid hold as much from this address as they may at once",
	Unpaid:  "those who have not paid hold as much as they may at once",
	All:     "as much is held as this process can",
	Cut:     "it was cut to make room for others",
}

// ClassOf returns whose share an error tells of, "" if it is of another kind.
func ClassOf(err error) Class {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Class
	}
	return ""
}

// Holder is who holds something. What is not known is left out: of a client who
// has not been authenticated, all but the address.
type Holder struct {
	Address netip.Addr
	Account string // id
	Lineage string
	Paid    bool // it has paid lately
}

// name is what holders are told apart by.
type name struct {
	class   Class
	text    string
	address netip.Prefix
}

// held is what a key, an account or an address holds.
type held struct {
	name   name
	n      int64
	claims int  // that are open
	unpaid list // its claims that can be cut, if it is an address
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
	cuts   [2]list // the claims that can be cut: of who has not paid, of who has
}

// maxSpare is how many structs are kept for new holders.
const maxSpare = 256

// New returns a budget of a total. Refused is told of each claim that was
// refused or cut; nil is not.
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

// Largest returns how much one key that has not paid can hold of a total that
// nobody else uses.
func Largest(total int64) int64 { return total / addressShare / (keyPart + 1) }

// Claim is what one request or stream holds. Its zero value is closed, and all
// methods but Open do nothing with it.
type Allocation struct {
	b                     *Budget
	n                     int64
	paid                  bool
	key, account, address *held
	gone                  bool // it was cut

	cutting sync.Mutex // held while cut runs
	cut     func()     // nil if it cannot be cut

	links [2]link
}

// Open opens a claim, which holds nothing yet. It must be closed.
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

// join returns what a holder holds, for one more claim.
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
	h.claims++
	return h
}

func (b *Budget) leave(h *held) {
	if h == nil {
		return
	}
	if h.claims--; h.claims > 0 {
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

// over returns whose share n more would be above, "" if it is nobody's.
func (b *Budget) over(c *Allocation, n int64) Class {
	free := b.total - b.used - n
	var unpaid, address int64 // that are left
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

// toCut returns the claim that makes room for c, nil if there is none.
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

// add adds n, which may be below 0, to what the claim holds.
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

// drop takes from a claim what it holds, and has it refused more.
func (b *Budget) drop(c *Allocation) {
	b.add(c, -c.n)
	b.keep(c)
	c.gone = true
}

// keep takes the claim out of those that can be cut.
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

// Give gives n back, or what is left of what is held.
func (c *Allocation) Give(n int64) {
	b := c.b
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(c, -min(n, c.n))
}

// Cuttable lets the claim be cut for others until Keep or Close is called: it
// holds nothing from then on, and cut is called, at most once and maybe from
// another goroutine. It must not wait, nor use the budget.
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

// Keep ends what Cuttable began. When it returns, cut does not run and will not.
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

// Opened reports whether the claim is open.
func (c *Allocation) Opened() bool { return c.b != nil }

// WasCut reports whether the claim was cut.
func (c *Allocation) WasCut() bool {
	if c.b == nil {
		return false
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.gone
}

// Close gives all back.
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

// Network is what counts as one client: an IPv6 network of 64 bits is one
// customer's, who has all of its addresses. The zero Prefix stands for all whose
// address is not known.
func Network(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := client.BitLen()
	if client.Is6() {
		bits = 64
	}
	prefix, _ := client.Prefix(bits)
	return prefix
}
