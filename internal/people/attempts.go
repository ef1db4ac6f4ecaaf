package people

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/recent"
)

// limit slows down the attempts of one person or from one address.
type limit struct {
	free int           // number of failures that cause no delay
	most time.Duration // the longest delay
}

// The limits. perAddress allows more failures, because many persons may share an
// address. The delay of a person is short, so that a stranger that knows the person's
// e-mail address cannot lock the person out for long.
var (
	perPerson  = limit{free: 5, most: time.Minute}
	perAddress = limit{free: 20, most: 15 * time.Minute}
)

const (
	// forgetAfter is the time after the last failed attempt at which the failures are
	// forgotten.
	forgetAfter = time.Hour
	// maxTracked bounds the memory for failures and beginnings: the latest maxTracked
	// persons or addresses are remembered; see recent.Map.
	maxTracked = 1 << 15
)

// failures are the recent failed attempts of one person or address.
type failures struct {
	count int
	last  time.Time
}

// attempts counts failed attempts by person and by address. The counts are in memory,
// so each node has its own. The type is safe for concurrent use.
type attempts struct {
	now       func() time.Time
	mu        sync.Mutex
	persons   *recent.Map[Digest, failures] // the key is the digest of the e-mail address
	addresses *recent.Map[netip.Prefix, failures]
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, persons: recent.New[Digest, failures](maxTracked), addresses: recent.New[netip.Prefix, failures](maxTracked)}
}

// network returns the network by which attempts from an address are counted: the IPv4
// address itself, or the /64 of an IPv6 address, because one customer has a whole /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // for the zero Addr, which stands for an unknown address, p is the zero Prefix
	return p
}

// wait returns how long the next attempt must wait. If the result is not positive, the
// attempt need not wait.
func (l limit) wait(f failures, now time.Time) time.Duration {
	if f.count < l.free {
		return 0
	}
	delay := l.most
	if n := f.count - l.free; n < 20 {
		delay = min(delay, time.Second<<n)
	}
	return delay - now.Sub(f.last)
}

// recall returns the recorded failures of a key. If the last failure was longer ago
// than forgetAfter, recall returns no failures.
func recall[K comparable](m *recent.Map[K, failures], key K, now time.Time) failures {
	f, _ := m.Get(key)
	if now.Sub(f.last) >= forgetAfter {
		return failures{}
	}
	return f
}

// attempt is an admitted attempt to sign in or to register. It counts as failed until
// it succeeds.
type attempt struct {
	a       *attempts
	person  Digest
	named   bool
	network netip.Prefix
}

// begin admits an attempt, or returns a *DelayError. The attempt counts as failed from
// now on, so that attempts at the same time cannot exceed the limit. email is "" if the
// attempt concerns no particular person. Such an attempt counts for the address only.
func (a *attempts) begin(c Client, email string) (*attempt, error) {
	t := &attempt{a: a, named: email != "", network: network(c.Address)}
	if t.named {
		t.person = sha256.Sum256([]byte(email))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	byAddress := recall(a.addresses, t.network, now)
	wait := perAddress.wait(byAddress, now)
	var byPerson failures
	if t.named {
		byPerson = recall(a.persons, t.person, now)
		wait = max(wait, perPerson.wait(byPerson, now))
	}
	if wait > 0 {
		return nil, &DelayError{Wait: wait}
	}
	a.addresses.Put(t.network, failures{byAddress.count + 1, now})
	if t.named {
		a.persons.Put(t.person, failures{byPerson.count + 1, now})
	}
	return t, nil
}

// succeeded forgets the failures of the person, and no longer counts this attempt as a
// failure of the address. The address keeps its other failures. Otherwise an attacker
// with a login of its own could reset these failures by signing in.
func (t *attempt) succeeded() {
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.giveBack()
	if t.named {
		t.a.persons.Put(t.person, failures{})
	}
}

// cancel no longer counts the attempt as failed. It is called if the credentials could
// not be checked, for example because the store is down.
func (t *attempt) cancel() {
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.giveBack()
	if f := recall(t.a.persons, t.person, t.a.now()); t.named && f.count > 0 {
		f.count--
		t.a.persons.Put(t.person, f)
	}
}

func (t *attempt) giveBack() {
	if f := recall(t.a.addresses, t.network, t.a.now()); f.count > 0 {
		f.count--
		t.a.addresses.Put(t.network, f)
	}
}

// The pace: at most paceCount beginnings in each paceWindow from one address. Anyone
// can begin a ceremony, and everyone that knows the code can begin a registration. Each
// ceremony and each registration stores a row.
const (
	paceCount  = 60
	paceWindow = time.Minute
)

// pace bounds how many ceremonies and registrations an address may begin in a window of
// time. The counts are in memory, so each node has its own. The type is safe for
// concurrent use.
type pace struct {
	now       func() time.Time
	mu        sync.Mutex
	addresses *recent.Map[netip.Prefix, failures] // beginnings in the window, and the time of the first
}

func newPace(now func() time.Time) *pace {
	return &pace{now: now, addresses: recent.New[netip.Prefix, failures](maxTracked)}
}

// begin counts a ceremony or registration that the client begins, or returns a
// *DelayError.
func (p *pace) begin(c Client) error {
	key := network(c.Address)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	f, _ := p.addresses.Get(key)
	passed := now.Sub(f.last)
	switch {
	case passed < 0 || passed >= paceWindow:
		f = failures{last: now}
	case f.count >= paceCount:
		return &DelayError{Wait: paceWindow - passed}
	}
	f.count++
	p.addresses.Put(key, f)
	return nil
}
