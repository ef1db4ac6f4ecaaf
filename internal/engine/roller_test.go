package engine

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestRoller checks four promises of a roller. It sums usage up every few seconds. A
// roller that is behind leaves most of the time to calls. A failure is logged once, and
// the next step tries again. Closing the roller cancels a step that hangs.
func TestRoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var steps atomic.Int64
		var behind, fails, hangs atomic.Bool
		r := newRoller(func(ctx context.Context) (ledger.UsageProgress, error) {
			if hangs.Load() {
				<-ctx.Done()
				return ledger.UsageProgress{}, ctx.Err()
			}
			if fails.Load() {
				return ledger.UsageProgress{}, ledger.ErrUnavailable
			}
			time.Sleep(10 * time.Millisecond)
			steps.Add(1)
			return ledger.UsageProgress{Pending: 7, More: behind.Load()}, nil
		}, slog.New(slog.NewTextHandler(&log, nil)))
		if _, known := r.latest(); known {
			t.Error("there is a progress before the first step")
		}
		time.Sleep(3*(rollEvery+10*time.Millisecond) + time.Millisecond)
		synctest.Wait()
		if n := steps.Load(); n != 3 {
			t.Errorf("%d steps in three periods", n)
		}
		if p, known := r.latest(); !known || p.Pending != 7 {
			t.Errorf("the progress is %+v, %v", p, known)
		}
		behind.Store(true)
		time.Sleep(rollEvery)
		steps.Store(0)
		time.Sleep(10 * time.Second)
		if n := steps.Load(); n < 240 || n > 260 {
			t.Errorf("%d steps of 10 ms in 10 s while it is behind, want a quarter of the time", n)
		}
		fails.Store(true)
		time.Sleep(3 * rollEvery)
		if _, known := r.latest(); known {
			t.Error("there is a progress after a failure")
		}
		if got := strings.Count(log.String(), "cannot be summed up"); got != 1 {
			t.Errorf("the failure was logged %d times", got)
		}
		fails.Store(false)
		time.Sleep(rollEvery + time.Second)
		if _, known := r.latest(); !known {
			t.Error("it does not go on after a failure")
		}
		hangs.Store(true)
		time.Sleep(rollEvery)
		r.close()
	})
	var none *roller
	none.close()
	if _, known := none.latest(); known {
		t.Error("no roller has a progress")
	}
}
