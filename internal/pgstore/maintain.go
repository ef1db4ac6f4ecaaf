package pgstore

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgerr"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// Intervals and bounds of maintenance.
const (
	maintainEvery = time.Second
	probeEvery    = 100 * time.Millisecond // the interval of maintenance while the database is down
	rarelyEvery   = 30                     // the number of ticks from one run of the rare jobs to the next
	maintainLimit = 500                    // rows or accounts that one run of a job handles; some jobs handle ten times as many
)

// maintain runs periodic clean-up and probes the database's health until the store
// closes. The results of calls do not depend on maintenance.
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

// maintainOnce runs each job in its own transaction. It runs the rare jobs only if all
// is true.
func (s *Store) maintainOnce(all bool) error {
	ctx, cancel := pgquery.Bounded(s.ctx)
	defer cancel()
	if err := s.readArchived(ctx); err != nil {
		return err
	}
	if err := s.db.Exec(ctx, `SELECT expire_reservations($1, $2)`, s.shift(), maintainLimit); err != nil {
		return err
	}
	if err := s.db.Exec(ctx, `SELECT fold_earnings($1)`, maintainLimit); err != nil {
		return err
	}
	if err := s.db.Exec(ctx, `SELECT expire_idempotency($1, $2, $3)`, s.shift(), ledger.IdempotencyLife, 10*maintainLimit); err != nil {
		return err
	}
	if err := s.db.Exec(ctx, `SELECT delete_ended($1, $2, $3)`, s.shift(), s.o.Remember, 10*maintainLimit); err != nil {
		return err
	}
	if !all {
		return nil
	}
	if err := s.db.Exec(ctx, `SELECT delete_nodes($1)`, keepRevocations); err != nil {
		return err
	}
	return s.db.Exec(ctx, `SELECT bound_responses($1)`, s.o.MaxAnswers)
}
