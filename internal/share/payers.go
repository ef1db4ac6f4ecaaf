package share

import (
	"sync"
	"time"
)

const (
	// payerTime is the minimum time for which an account counts as paying. The
	// maximum is twice as long.
	payerTime = 24 * time.Hour
	// maxPayers bounds memory: at most twice as many accounts are remembered.
	maxPayers = 1 << 16
)

// Payers remembers the accounts for which this process reserved a call recently. After
// a restart no account counts as paying. Payers is safe for concurrent use.
type Payers struct {
	now func() time.Time

	mu       sync.RWMutex
	began    time.Time // when current was created
	current  map[string]struct{}
	previous map[string]struct{}
}

// NewPayers returns an empty Payers.
func NewPayers(now func() time.Time) *Payers {
	return &Payers{now: now, began: now(), current: make(map[string]struct{})}
}

// Note records that the account pays.
func (p *Payers) Note(account string) {
	p.mu.RLock()
	_, known := p.current[account]
	stale := p.stale()
	p.mu.RUnlock()
	if known && !stale {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale() || len(p.current) >= maxPayers {
		p.previous, p.current, p.began = p.current, make(map[string]struct{}), p.now()
	}
	p.current[account] = struct{}{}
}

func (p *Payers) stale() bool { return p.now().Sub(p.began) >= payerTime }

// Paid reports whether the account has paid recently.
func (p *Payers) Paid(account string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	age := p.now().Sub(p.began)
	if _, ok := p.current[account]; ok {
		return age < 2*payerTime
	}
	_, ok := p.previous[account]
	return ok && age < payerTime
}
