package alert

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/recent"
)

const (
	// maxSeen bounds the number of pairs in memory.
	maxSeen = 1 << 16
	// maxNew bounds the number of new pairs that wait to be written. A new pair beyond
	// the bound is dropped, and noticed again at the next call of the same key from the
	// same network.
	maxNew = 1 << 12
	// maxNetworks bounds the remembered networks of a lineage. Further networks raise
	// no alert, because no network is unusual for a key that is used everywhere.
	maxNetworks = 64
	// networksMost is the number of pairs that one transaction writes.
	networksMost = 100
	// networksTime bounds the time that one evaluation spends on new networks. The
	// rest of the evaluation's time is for alerts about money.
	networksTime = stepTime / 3
)

// Networks records, in memory, from which networks keys are used. It is safe for
// concurrent use.
type Networks struct {
	wanted atomic.Pointer[map[string]struct{}] // ids of the accounts that want alerts about networks; nil if no account does

	mu      sync.RWMutex
	seen    *recent.Map[pair, struct{}]
	waiting []use
	taken   int // the number of uses that were taken with Networks.take, and that are being written
}

// pair is a lineage, and a network from which a key of the lineage was used.
type pair struct {
	lineage string
	network netip.Prefix
}

// use is the first use of a pair that this process has seen.
type use struct {
	pair
	account, name, hint string
}

func newNetworks() *Networks {
	return &Networks{seen: recent.New[pair, struct{}](maxSeen)}
}

// Charged records that a call with the key was charged. The call came from the given
// address. It does nothing if the key's account wants no alerts about networks. It
// allocates no memory for a known network, and never waits for the store.
func (n *Networks) Charged(k *keys.Key, client netip.Addr) {
	wanted := n.wanted.Load()
	if wanted == nil || k.Environment == keys.Test {
		return
	}
	if _, ok := (*wanted)[k.Account]; !ok {
		return
	}
	network, ok := networkOf(client)
	if !ok {
		return
	}
	p := pair{k.Lineage, network}
	n.mu.RLock()
	_, known := n.seen.Get(p)
	n.mu.RUnlock()
	if known {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.seen.Get(p); known || len(n.waiting)+n.taken >= maxNew {
		return
	}
	n.seen.Put(p, struct{}{})
	n.waiting = append(n.waiting, use{p, k.Account, k.Name, k.Hint})
}

// take returns the waiting uses, and empties the list. Until n.give is called, the
// returned uses still count toward maxNew.
func (n *Networks) take() []use {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.waiting
	n.waiting, n.taken = nil, len(all)
	return all
}

// give must be called after each call of n.take. It puts back the uses that could not
// be written.
func (n *Networks) give(left []use) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting, n.taken = append(left, n.waiting...), 0
}

// refreshNetworks reads which accounts want alerts about networks, and writes the
// waiting pairs. Pairs that cannot be written wait for the next evaluation.
func (s *Service) refreshNetworks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, networksTime)
	defer cancel()
	var accounts []string
	err := s.store.View(ctx, func(tx Tx) (err error) {
		accounts, err = tx.WithNetworks()
		return err
	})
	if err != nil {
		return err
	}
	var wanted *map[string]struct{}
	if len(accounts) > 0 {
		set := make(map[string]struct{}, len(accounts))
		for _, a := range accounts {
			set[a] = struct{}{}
		}
		wanted = &set
	}
	s.networks.wanted.Store(wanted)
	uses := s.networks.take()
	for len(uses) > 0 && err == nil {
		part := uses[:min(len(uses), networksMost)]
		if err = s.writeNetworks(ctx, part); err == nil {
			uses = uses[len(part):]
		}
	}
	s.networks.give(uses)
	return err
}

// writeNetworks stores pairs, and raises an alert for each new one. The transaction
// itself checks which pairs are new, so that two nodes do not raise an alert for the
// same pair.
func (s *Service) writeNetworks(ctx context.Context, uses []use) error {
	now := s.o.Now()
	alerts := make([]Alert, len(uses))
	for i, u := range uses {
		alerts[i] = Alert{ID: s.o.NewID("alr_"), Kind: Network, Account: u.account, Key: u.lineage, At: now, Data: Data{KeyName: u.name, KeyHint: u.hint, Network: u.network.String()}}
	}
	targets, err := s.targetsOf(ctx, alerts)
	if err != nil {
		return err
	}
	var raised []Alert
	err = s.store.Change(ctx, func(tx Tx) error {
		raised = nil
		for i, u := range uses {
			sub := subject(u.lineage, u.network.String())
			known, err := tx.States(Network, []string{sub})
			if err != nil {
				return err
			}
			n, err := tx.CountStates(Network, subject(u.lineage, ""), maxNetworks)
			if err != nil {
				return err
			}
			if len(known) > 0 || n >= maxNetworks {
				continue
			}
			if err := tx.PutState(State{Kind: Network, Subject: sub, At: now}); err != nil {
				return err
			}
			if n > 0 { // the first network of a lineage is expected
				raised = append(raised, alerts[i])
			}
		}
		return insert(tx, raised, targets)
	})
	if err == nil {
		s.noteRaised(raised)
	}
	return err
}
