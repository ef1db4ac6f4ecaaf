package engine

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// measured is a store that knows its size.
type measured interface {
	Sizes(ctx context.Context) (ledger.Sizes, error)
}

const (
	// surveyEvery is the pause between two measurements of a store.
	surveyEvery = 15 * time.Second
	// surveyTime bounds one measurement.
	surveyTime = 10 * time.Second
)

// survey measures a store in the background, because a scrape must not wait for it.
type survey struct {
	measure func(context.Context) (ledger.Sizes, error)
	logger  *slog.Logger
	last    atomic.Pointer[ledger.Sizes] // nil if the last measurement failed
	task    *background
}

func newSurvey(measure func(context.Context) (ledger.Sizes, error), logger *slog.Logger) *survey {
	s := &survey{measure: measure, logger: logger}
	s.task = begin(s.run)
	return s
}

func (s *survey) run(ctx context.Context) {
	repeat(ctx, surveyEvery, surveyTime, s.once, func(err error) {
		s.logger.Warn("the size of the store cannot be measured", "error", err)
	})
}

func (s *survey) once(ctx context.Context) error {
	sizes, err := s.measure(ctx)
	if err != nil {
		s.last.Store(nil)
		return err
	}
	s.last.Store(&sizes)
	return nil
}

// latest returns the result of the last measurement, or false if it failed.
func (s *survey) latest() (ledger.Sizes, bool) {
	last := s.last.Load()
	if last == nil {
		return ledger.Sizes{}, false
	}
	return *last, true
}

// close ends the background task. It does nothing if s is nil.
func (s *survey) close() {
	if s != nil {
		s.task.end()
	}
}
