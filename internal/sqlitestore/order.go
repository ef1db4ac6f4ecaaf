package sqlitestore

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// OrderByID returns the order of the reservation with the given id, in any state,
// or of the captured charge with that id. Errors: ledger.ErrNotFound if neither is
// known, for example because a restart forgot the reservation;
// ledger.ErrUnavailable.
func (s *Store) OrderByID(ctx context.Context, id string) (ledger.Order, error) {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return ledger.Order{}, err
	}
	if o, known := s.heldOrder(u); known {
		return o, nil
	}
	r, err := s.captured(u)
	if err != nil {
		return ledger.Order{}, err
	}
	c, err := s.charge(&r)
	return c.Order, err
}

func (s *Store) heldOrder(u uuid) (o ledger.Order, known bool) {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	h := s.books.holds[u]
	if h == nil {
		return o, false
	}
	return h.order, true
}
