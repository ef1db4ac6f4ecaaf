package engine

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// background is a task that runs until its end is called.
type background struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// begin calls run in a goroutine. The context of run ends when end is called.
func begin(run func(context.Context)) *background {
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cancel: cancel}
	b.running.Go(func() { run(ctx) })
	return b
}

// end ends the task and waits until it has returned. It does nothing if b is nil.
func (b *background) end() {
	if b != nil {
		b.cancel()
		b.running.Wait()
	}
}

// repeat calls do at once, and again after each pause, until ctx ends. Each call may take
// at most limit. It calls failed with the first error after a success.
func repeat(ctx context.Context, pause, limit time.Duration, do func(context.Context) error, failed func(error)) {
	once := func() error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return do(ctx)
	}
	for failing := false; ; {
		err := once()
		if err != nil && !failing && ctx.Err() == nil {
			failed(err)
		}
		failing = err != nil
		if clock.Sleep(ctx, pause) != nil {
			return
		}
	}
}
