//go:build unix

package pgstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestKeptAnswersAreBounded checks that the store drops the oldest responses when the
// responses exceed MaxAnswers, but keeps their idempotency keys. It also checks that
// the store drops the keys after a day.
func TestKeptAnswersAreBounded(t *testing.T) {
	long(t)
	const size, calls = 1000, 1200
	var ahead atomic.Int64
	s := opened(t, Options{
		DSN: cluster.Database(t, template), MaxAnswers: 2*size + size/2, Shift: func() time.Duration { return time.Duration(ahead.Load()) },
	})
	o := order(account(t, s, "payer", calls+1), account(t, s, "payee", 0), 1)
	terms := func(i int) ledger.Terms { return ledger.Terms{Idempotency: ledger.Idempotency{Key: fmt.Sprint(i)}} }
	for from := 0; from < calls; from += calls / 4 { // one group after the other, so that the test knows which responses are the oldest
		together(calls/4, func(i int) {
			if _, _, err := s.Charge(t.Context(), newID("chg_"), o, terms(from+i), bytes.Repeat([]byte("x"), size)); err != nil {
				t.Error(err)
			}
		})
	}
	if err := s.maintainOnce(true); err != nil {
		t.Fatal(err)
	}
	answers, gone := 0, 0
	for i := range calls {
		switch got, err := s.Reserve(t.Context(), newID("chg_"), o, terms(i)); {
		case errors.Is(err, ledger.ErrGone):
			gone++
		case err == nil && got.First != nil && len(got.First.Body) == size:
			answers++
			if i < calls*3/4 {
				t.Errorf("the answer of call %d is kept, and of later ones is not", i)
			}
		default:
			t.Errorf("call %d: %+v, %v", i, got, err)
		}
	}
	if answers != 2 || gone != calls-2 {
		t.Errorf("%d answers are kept and %d are gone, want 2 and %d", answers, gone, calls-2)
	}
	clean(t, s)
	ahead.Store(int64(ledger.IdempotencyLife))
	for range 4 { // each run deletes a limited number of rows
		if err := s.maintainOnce(true); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s.o.DSN, `SELECT count(*) FROM idempotency`); n != 0 {
		t.Errorf("%d calls are remembered after a day", n)
	}
	if got, err := s.Reserve(t.Context(), newID("chg_"), o, terms(0)); err != nil || got.First != nil {
		t.Errorf("a call of the day before: %+v, %v", got, err)
	}
	clean(t, s)
}

// TestTooManyIdempotencyKeys checks that the store refuses calls with an idempotency
// key when it has too many keys, and still accepts calls without a key.
func TestTooManyIdempotencyKeys(t *testing.T) {
	s := fresh(t)
	payer, payee := account(t, s, "payer", 10), account(t, s, "payee", 0)
	terms := ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}
	// Replace the background job, which would overwrite the count.
	query(t, s.o.DSN, `CREATE OR REPLACE FUNCTION bound_responses(v_max bigint) RETURNS void LANGUAGE sql AS ''`)
	for _, full := range []string{
		fmt.Sprintf(`UPDATE figure SET idempotency_keys = %d`, maxKeys),
		fmt.Sprintf(`UPDATE figure SET idempotency_keys = 0; UPDATE account SET idempotency_keys = %d WHERE name = 'payer'`, maxKeysPerAccount),
	} {
		query(t, s.o.DSN, full)
		if _, err := s.Reserve(t.Context(), newID("chg_"), order(payer, payee, 1), terms); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("a call with a key after %s: %v", full, err)
		}
		if _, err := s.Reserve(t.Context(), newID("chg_"), order(payer, payee, 1), ledger.Terms{}); err != nil {
			t.Errorf("a call without a key after %s: %v", full, err)
		}
	}
	query(t, s.o.DSN, `UPDATE account SET idempotency_keys = 0`)
	clean(t, s)
}
