package pgstore

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgrows"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// failed records an outage of the database, and returns the time at which it began.
func (s *Store) failed(err error) (since time.Time) {
	d := &pgquery.Outage{Cause: err, Since: clock.Now()}
	if s.ctx.Err() == nil && s.down.CompareAndSwap(nil, d) {
		s.o.Logger.Error("the database cannot be reached", "error", err)
	}
	if now := s.down.Load(); now != nil {
		return now.Since
	}
	return d.Since
}

// reached ends the outage that s.failed has recorded, if there is such an outage.
func (s *Store) reached() {
	if d := s.down.Load(); d != nil && !errors.Is(d.Cause, errClosed) && s.down.CompareAndSwap(d, nil) {
		s.o.Logger.Info("the database is reached again")
	}
}

// refresh drops the idle connections of all pools, because after a restart of the
// server a dead connection looks alive until it is used.
func (s *Store) refresh() {
	for _, p := range [...]*pgxpool.Pool{s.pool, s.reserves.pool, s.settles.pool} {
		p.Reset()
	}
}

// Rows returns access to the tables of other packages, such as those of the console's
// people.
func (s *Store) Rows() sqltx.Database {
	return &pgrows.Database{Begin: s.db.Begin, Query: s.db.Query, Bounded: pgquery.Bounded, Failure: pgquery.Failure, Shift: s.shift, Audited: s.o.Audited}
}
