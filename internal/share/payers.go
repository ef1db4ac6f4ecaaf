package share

import (
	"sync"
	"time"
)

const (
	// payerTime is the minimum time for which an account counts as paying. The
	// maximum is twice as long.
	payerTime = 24 * time.Hour
	// maxPayers bounds memory: at most 2 * maxPayers accounts are remembered.
	maxPayers = 1 << 16
)

// Payers remembers the accounts for which this process reserved a call recently. After
// a restart no account counts as paying. Payers is safe for concurrent use.
type Payers struct {
	now func() time.Time

	mu       sync.RWMutex
	current  payments // new payments are added here until this set is payerTime old
	previous payments
}

// payments is a set of accounts: those that have paid since the set was begun.
type payments struct {
	began    time.Time
	accounts map[string]struct{}
}

// has reports whether the account is in the set, and the set is not too old.
func (p *payments) has(account string, now time.Time) bool {
	_, ok := p.accounts[account]
	return ok && now.Sub(p.began) < 2*payerTime
}

// NewPayers returns an empty Payers.
func NewPayers(now func() time.Time) *Payers {
	return &Payers{now: now, current: newPayments(now())}
}

func newPayments(began time.Time) payments {
	return payments{began, make(map[string]struct{})}
}

// Note records that the account has paid now.
func (p *Payers) Note(account string) {
	now := p.now()
	p.mu.RLock()
	_, known := p.current.accounts[account]
	stale := p.stale(now)
	p.mu.RUnlock()
	if known && !stale {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale(now) || len(p.current.accounts) >= maxPayers {
		p.previous, p.current = p.current, newPayments(now)
	}
	p.current.accounts[account] = struct{}{}
}

func (p *Payers) stale(now time.Time) bool { return now.Sub(p.current.began) >= payerTime }

// Paid reports whether the account has paid recently.
func (p *Payers) Paid(account string) bool {
	now := p.now()
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.current.has(account, now) || p.previous.has(account, now)
}
