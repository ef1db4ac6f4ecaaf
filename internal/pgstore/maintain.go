package pgstore

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgerr"
)

// Intervals and bounds of maintenance.
const (
	maintainEvery = time.Second
	probeEvery    = 100 * time.Millisecond // while the database is down
	rarelyEvery   = 30                     // ticks between runs of the rare jobs
	maintainLimit = 500                    // rows or accounts per run; some jobs take ten times as many
)

// maintain runs periodic clean-up and probes the database's health until the store
// closes. The results of calls do not depend on it.
func (s *Store) maintain() {
	for tick := 0; ; tick++ {
		every := maintainEvery
		if s.down.Load() != nil {
			every = probeEvery
		}
		if clock.Sleep(s.ctx, every) != nil {
			return
		}
		err := s.maintainOnce(tick%rarelyEvery == 0)
		switch {
		case err == nil:
			s.reached()
		case s.ctx.Err() != nil:
		case pgerr.Broken(err):
			s.failed(err)
		default:
			s.o.Logger.Warn("cleaning up the database", "error", err)
		}
	}
}

// maintainOnce runs each job in its own transaction. It runs the rare jobs only if
// the parameter all is true.
func (s *Store) maintainOnce(all bool) error {
	ctx, cancel := bounded(s.ctx)
	defer cancel()
	if err := s.readArchived(ctx); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT expire_reservations($1, $2)`, s.shift(), maintainLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT fold_earnings($1)`, maintainLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT expire_idempotency($1, $2, $3)`, s.shift(), ledger.IdempotencyLife, 10*maintainLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT delete_ended($1, $2, $3)`, s.shift(), s.o.Remember, 10*maintainLimit); err != nil {
		return err
	}
	if !all {
		return nil
	}
	if err := s.exec(ctx, `SELECT delete_nodes($1)`, keepRevocations); err != nil {
		return err
	}
	return s.exec(ctx, `SELECT bound_responses($1)`, s.o.MaxAnswers)
}
