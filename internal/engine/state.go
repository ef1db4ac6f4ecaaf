package engine

import (
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// State returns the state of the store, its cache and its queue as metrics show it.
func (r *Runtime) State() telemetry.State {
	s := telemetry.State{
		Up: r.StoreUp(), OpenReservations: r.store.OpenReservations(), RefundsOwed: r.debts.Owed(),
		CacheEntries: r.cache.Len(), Sessions: r.requests.count(), Kind: r.kind,
	}
	if r.verifier != nil {
		s.Verifies, s.VerifyEvery = true, time.Duration(r.verifier.every.Load())
	}
	if r.follower != nil {
		s.RevocationLag, s.RevocationLimit = r.RevocationLag(), LeaseTime
	}
	if queue, ok := r.store.(interface{ Queue() (length, limit int) }); ok {
		s.Queue, s.QueueLimit = queue.Queue()
	}
	if pool, ok := r.store.(interface {
		Connections() (inUse, idle, limit int, waited time.Duration)
	}); ok {
		s.Connections.InUse, s.Connections.Idle, s.Connections.Limit, s.Connections.Waited = pool.Connections()
	}
	return s
}

// Sizes returns the sizes of the store. They are at most a few seconds old. It returns
// false if the last measurement failed, or if a platform keeps the store.
func (r *Runtime) Sizes() (ledger.Sizes, bool) {
	if r.survey == nil {
		return ledger.Sizes{}, false
	}
	s, ok := r.survey.latest()
	if r.ownLog != nil { // the nodes are this process and the gateways that follow its log
		s.Nodes = 1 + r.ownLog.leases()
	}
	return s, ok
}

// Verified returns the result of the last verification that the runtime started by
// itself. It returns false before the first verification.
func (r *Runtime) Verified() (telemetry.Verified, bool) { return r.verifier.latest() }

// UsageProgress returns the progress of the sums of usage after the last step, or false
// if that step failed or the sums are kept elsewhere.
func (r *Runtime) UsageProgress() (ledger.UsageProgress, bool) { return r.roller.latest() }

// refundedBy returns a function that counts a refund in the metric of refunds, under
// the given reason.
func (r *Runtime) refundedBy(reason string) func(string, ledger.Amount, bool) {
	return func(server string, amount ledger.Amount, test bool) { r.metrics.Refunded(server, reason, amount, test) }
}
