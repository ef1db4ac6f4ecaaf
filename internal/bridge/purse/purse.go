// Package purse limits the spending of one bridge: the price of a call, and the sum of
// all calls.
//
// Each call reserves its highest possible price before it is sent, and is sent with
// that amount as its own maximum, so the gateway refuses a price that has risen. The
// reservation is settled once, by the charge in the response. If it is unknown whether a
// call was charged, its whole reservation counts as spent. Concurrent calls therefore
// never exceed the budget together.
package purse

import (
	"fmt"
	"math"
	"sync"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Limits are the limits of a Purse. A nil limit does not exist.
type Limits struct {
	MaxPrice *ledger.Amount // the highest price of one call; at least zero
	Budget   *ledger.Amount // the highest sum of all calls; at least zero
}

// Price is the listed price of an item.
type Price struct {
	Most     ledger.Amount // the price of a call, or the highest one
	Varies   bool          // a call may cost less than Most
	Currency string
}

// BudgetError refuses a call that would exceed the budget.
type BudgetError struct {
	Price           Price
	Budget          ledger.Amount
	Spent, Reserved ledger.Amount // Reserved is for calls that are under way
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("the call costs %s %s, but of the budget of %s %s only %s is left (%s spent, %s reserved for calls under way)",
		e.Price.Most, e.Price.Currency, e.Budget, e.Price.Currency, e.Budget-e.Spent-e.Reserved, e.Spent, e.Reserved)
}

// Purse counts the spending of one bridge. It is safe for concurrent use.
type Purse struct {
	limits Limits

	mu       sync.Mutex
	spent    ledger.Amount
	reserved ledger.Amount
	prices   map[string]Price
	receipts bool             // a response has had a charge, so the gateway adds them
	tasks    map[string]*Hold // reservations of calls that run as tasks, by task id
	ended    []string         // those that have ended without a charge, the oldest first
}

// New returns a Purse with these limits.
func New(limits Limits) *Purse {
	return &Purse{limits: limits, prices: make(map[string]Price), tasks: make(map[string]*Hold)}
}

// Limited reports whether there is a limit, so calls need a maximum.
func (p *Purse) Limited() bool { return p.limits.MaxPrice != nil || p.limits.Budget != nil }

// Learn records the price of an item. A negative price is ignored.
func (p *Purse) Learn(item string, price Price) {
	if price.Most < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prices[item] = price
}

// PriceOf returns the recorded price of an item.
func (p *Purse) PriceOf(item string) (Price, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	price, ok := p.prices[item]
	return price, ok
}

// Hold is the reservation of one call.
type Hold struct {
	purse    *Purse
	amount   ledger.Amount
	max      ledger.Amount
	limited  bool
	priced   bool // the item is listed with a price above zero
	known    bool // the item is listed
	finished bool
	ended    bool // as a task without a charge, which may be charged later
}

// Reserve reserves the highest price of a call. The error is a [*BudgetError].
func (p *Purse) Reserve(item string) (*Hold, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	price, known := p.prices[item]
	h := &Hold{purse: p, max: math.MaxInt64, known: known, priced: price.Most > 0}
	if p.limits.MaxPrice != nil {
		h.max, h.limited = *p.limits.MaxPrice, true
	}
	if p.limits.Budget == nil {
		return h, nil
	}
	left := max(0, *p.limits.Budget-p.spent-p.reserved)
	need := h.max
	if known {
		need = min(need, price.Most)
	}
	if known && need > left && (!price.Varies || left == 0) {
		return nil, &BudgetError{Price: price, Budget: *p.limits.Budget, Spent: p.spent, Reserved: p.reserved}
	}
	h.amount, h.limited = min(need, left), true
	h.max = h.amount
	p.reserved += h.amount
	return h, nil
}

// Max returns the maximum that the call must be sent with, or false if it has none.
func (h *Hold) Max() (ledger.Amount, bool) { return h.max, h.limited }

// Charged settles the reservation by the amount of the charge, also that of a task that
// has ended without one so far. A negative amount, which
// no gateway charges, counts as zero. Only the first settlement counts.
func (h *Hold) Charged(amount ledger.Amount) {
	h.purse.mu.Lock()
	defer h.purse.mu.Unlock()
	h.purse.receipts = true
	if h.ended {
		h.ended, h.finished = false, false
		h.purse.reserved += h.amount // which settle gives back
	}
	h.settle(amount)
}

// Free settles the reservation of a call that was not charged.
func (h *Hold) Free() {
	h.purse.mu.Lock()
	defer h.purse.mu.Unlock()
	h.settle(0)
}

// InDoubt settles the reservation of a call that may have been charged: its whole
// amount counts as spent.
func (h *Hold) InDoubt() {
	h.purse.mu.Lock()
	defer h.purse.mu.Unlock()
	h.settle(h.amount)
}

// Unstamped settles the reservation of a call that has a result without a charge. Such
// a call was free, unless the gateway adds no charges to results: those of responses
// that are long, or all of them (receipts off). In these cases the call counts as
// charged, unless its item is listed as free.
func (h *Hold) Unstamped(long bool) {
	h.purse.mu.Lock()
	defer h.purse.mu.Unlock()
	if h.known && !h.priced || h.purse.receipts && !long {
		h.settle(0)
		return
	}
	h.settle(h.amount)
}

// settle must be called with the purse's lock held.
func (h *Hold) settle(amount ledger.Amount) {
	if h.finished {
		return
	}
	h.finished = true
	h.purse.reserved -= h.amount
	sum, err := h.purse.spent.Add(max(0, amount))
	if err != nil {
		sum = math.MaxInt64
	}
	h.purse.spent = sum
}

// Park keeps the reservation of a call that runs as a task until the task is charged.
func (h *Hold) Park(task string) {
	h.purse.mu.Lock()
	defer h.purse.mu.Unlock()
	h.purse.tasks[task] = h
}

// Task returns the reservation of the call that runs as the task, or nil.
func (p *Purse) Task(task string) *Hold {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tasks[task]
}

// maxEnded bounds the tasks without a charge that are remembered.
const maxEnded = 1024

// End gives back the reservation of a task that has ended without a charge. A charge that
// comes later counts nevertheless: some sites charge failed tasks with their results.
func (p *Purse) End(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.tasks[task]
	if h == nil || h.finished {
		return
	}
	h.settle(0)
	h.ended = true
	p.ended = append(p.ended, task)
	if len(p.ended) > maxEnded {
		delete(p.tasks, p.ended[0])
		p.ended = p.ended[1:]
	}
}

// Forget forgets a task with a known charge.
func (p *Purse) Forget(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tasks, task)
}

// Spent returns the sum spent so far, and the rest of the budget without reservations.
// If there is no budget, limited is false.
func (p *Purse) Spent() (spent, left ledger.Amount, limited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limits.Budget == nil {
		return p.spent, 0, false
	}
	return p.spent, *p.limits.Budget - p.spent - p.reserved, true
}
