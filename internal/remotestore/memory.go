package remotestore

import (
	"container/list"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxOpen bounds the number of open reservations of this gateway.
const maxOpen = 1 << 17

// memory holds the orders of this gateway's open reservations. If the platform
// restarts and loses a reservation, the gateway can still charge the reservation's
// order. memory drops reservations when they expire.
type memory struct {
	bound int
	now   func() time.Time

	mu       sync.Mutex
	byID     map[string]*list.Element
	expiring list.List // elements are *held, ordered by expiry
}

// held is an open reservation.
type held struct {
	id      string
	order   ledger.Order
	terms   ledger.Terms
	expires time.Time
}

func newMemory(bound int, now func() time.Time) *memory {
	return &memory{bound: bound, now: now, byID: make(map[string]*list.Element)}
}

// sweep drops expired reservations and returns the current time. m.mu must be locked.
func (m *memory) sweep() time.Time {
	now := m.now()
	for e := m.expiring.Front(); e != nil && !now.Before(e.Value.(*held).expires); e = m.expiring.Front() {
		m.remove(e)
	}
	return now
}

func (m *memory) remove(e *list.Element) {
	delete(m.byID, m.expiring.Remove(e).(*held).id)
}

// room reports whether there is room for one more reservation.
func (m *memory) room() bool { return m.count() < m.bound }

// count returns the number of open reservations.
func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	return len(m.byID)
}

// add adds a reservation that was made just now, replacing one with the same id.
func (m *memory) add(id string, o ledger.Order, t ledger.Terms) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.sweep()
	if e := m.byID[id]; e != nil {
		m.remove(e)
	}
	m.byID[id] = m.expiring.PushBack(&held{id, o, t, now.Add(ledger.ReservationLife)})
}

// renew extends a reservation to ledger.ReservationLife from now.
func (m *memory) renew(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.sweep()
	if e := m.byID[id]; e != nil {
		e.Value.(*held).expires = now.Add(ledger.ReservationLife)
		m.expiring.MoveToBack(e)
	}
}

// get returns the reservation with that id.
func (m *memory) get(id string) (h held, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	e := m.byID[id]
	if e == nil {
		return held{}, false
	}
	return *e.Value.(*held), true
}

// drop removes a reservation.
func (m *memory) drop(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byID[id]; e != nil {
		m.remove(e)
	}
}
