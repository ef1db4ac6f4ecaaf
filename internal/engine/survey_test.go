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

// TestSurvey checks that a store is measured in the background, that a failure removes
// the sizes and is logged once, and that a store that hangs does not delay closing.
func TestSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var n atomic.Int64
		var hangs, fails atomic.Bool
		s := newSurvey(func(ctx context.Context) (ledger.Sizes, error) {
			if hangs.Load() {
				<-ctx.Done()
				return ledger.Sizes{}, ctx.Err()
			}
			if fails.Load() {
				return ledger.Sizes{}, ledger.ErrUnavailable
			}
			return ledger.Sizes{Disk: n.Add(1)}, nil
		}, slog.New(slog.NewTextHandler(&log, nil)))
		expect := func(what string, disk int64, ok bool) {
			t.Helper()
			synctest.Wait()
			if got, known := s.latest(); known != ok || got.Disk != disk {
				t.Errorf("%s: %+v, %v", what, got, known)
			}
		}
		expect("at first", 1, true)
		time.Sleep(surveyEvery)
		expect("after a while", 2, true)
		fails.Store(true)
		time.Sleep(2 * surveyEvery)
		expect("failed twice", 0, false)
		if got := strings.Count(log.String(), "cannot be measured"); got != 1 {
			t.Errorf("the failure was logged %d times", got)
		}
		fails.Store(false)
		time.Sleep(surveyEvery)
		expect("again", 3, true)
		hangs.Store(true)
		time.Sleep(surveyEvery + surveyTime)
		expect("hangs", 0, false)
		time.Sleep(surveyEvery + surveyTime/2)
		s.close() // a measurement is running at this moment
	})
}
