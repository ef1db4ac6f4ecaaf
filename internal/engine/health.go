package engine

import (
	"fmt"
	"time"
)

// Condition is a condition in which a process should get no calls. The texts of
// conditions are stable: load balancers and scripts may compare them.
type Condition string

// The conditions, in the order in which they are reported.
const (
	// Draining means that the process or the site is shutting down. Calls in flight
	// are finished.
	Draining Condition = "DRAINING"
	// Starting means that the store is not open yet.
	Starting Condition = "STARTING"
	// StoreDown means that the store cannot write, so that paid calls fail.
	StoreDown Condition = "STORE_DOWN"
	// KeysStale means that this process has not read the key changes of other
	// processes for longer than LeaseTime, so that it does not trust the keys in its
	// memory.
	KeysStale Condition = "KEYS_STALE"
)

// Conditions has all conditions. Do not change it.
var Conditions = []Condition{Draining, Starting, StoreDown, KeysStale}

// Message explains the condition in a sentence that anybody may read, because it has no
// details.
func (c Condition) Message() string {
	switch c {
	case Draining:
		return "the gateway is shutting down: calls in flight are finished, new ones belong elsewhere"
	case Starting:
		return "the store is not open yet"
	case StoreDown:
		return "the store cannot write: paid calls fail"
	case KeysStale:
		return "changes of keys cannot be followed: cached keys are not used"
	}
	return string(c)
}

// Reason is why a process should get no calls now.
type Reason struct {
	Condition
	// Detail is the cause, for operators only: it may name hosts and files. It is nil
	// if no more is known.
	Detail error
}

// Unready returns the reasons why calls should go to another process now. It returns
// nil if the process is ready. Unready is cheap, because it only reads the findings of
// background tasks. It asks neither the store nor a platform. So a store that breaks
// while it is idle is noticed only when a background task uses the store next.
func (r *Runtime) Unready() []Reason {
	if r.Acquire() != nil { // the store may be closed already, so nothing further is known
		return []Reason{{Condition: Draining}}
	}
	defer r.Release()
	var reasons []Reason
	if err := r.writable(); err != nil {
		reasons = append(reasons, Reason{StoreDown, err})
	}
	if r.follower != nil {
		if stale, err := r.follower.stale(); stale {
			reasons = append(reasons, Reason{KeysStale, err})
		}
	}
	return reasons
}

// stalledAfter is how long a write may take until it counts as one that hangs.
const stalledAfter = 5 * time.Second

// writable returns nil, or the reason why the store cannot write.
func (r *Runtime) writable() error {
	if err := r.store.Healthy(); err != nil {
		return err
	}
	if s, ok := r.store.(interface{ Busy() time.Duration }); ok { // other stores have a time limit for each write
		if busy := s.Busy(); busy >= stalledAfter {
			return fmt.Errorf("the current write has taken %s so far", busy.Round(time.Second))
		}
	}
	return nil
}
