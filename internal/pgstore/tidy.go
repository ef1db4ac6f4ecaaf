package pgstore

import (
	"time"
)

// How often the background does what, and how much at a time.
const (
	tidyEvery   = time.Second
	probeEvery  = 100 * time.Millisecond // while the database is down
	slowlyEvery = 30                     // ticks, for what may wait
	tidyLimit   = 500
)

// tidy tidies up until the store closes, and finds out when the database is
// gone or back. It does nothing that calls depend on.
func (s *Store) tidy() {
	for tick := 0; ; tick++ {
		every := tidyEvery
		if s.down.Load() != nil {
			every = probeEvery
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		err := s.tidyOnce(tick%slowlyEvery == 0)
		switch {
		case err == nil:
			s.reached()
		case s.ctx.Err() != nil:
		case broken(err):
			s.failed(err)
		default:
			s.o.Logger.Warn("tidying the database up", "error", err)
		}
	}
}

// tidyOnce does each thing once, in transactions of their own.
func (s *Store) tidyOnce(all bool) error {
	ctx, cancel := bounded(s.ctx)
	defer cancel()
	if err := s.readArchived(ctx); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT tidy_reservations($1, $2)`, s.shift(), tidyLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT tidy_earnings($1)`, tidyLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT tidy_retries($1, $2)`, s.shift(), 10*tidyLimit); err != nil {
		return err
	}
	if err := s.exec(ctx, `SELECT tidy_old($1, $2, $3)`, s.shift(), s.o.Remember.Microseconds(), 10*tidyLimit); err != nil {
		return err
	}
	if !all {
		return nil
	}
	if err := s.exec(ctx, `SELECT tidy_nodes($1)`, keepRevocations); err != nil {
		return err
	}
	return s.exec(ctx, `SELECT tidy_answers($1)`, s.o.MaxAnswers)
}
