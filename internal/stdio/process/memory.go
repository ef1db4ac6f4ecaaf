package process

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// watchEvery is the time between two looks at the memory of the process groups.
const watchEvery = 500 * time.Millisecond

// limit is the limit of one process group.
type limit struct {
	most   int64
	exceed func()
}

// watcher ends process groups that exceed their limits of resident memory. It looks at all
// groups at once, because that is one walk through /proc. It is safe for concurrent use.
//
// A limit of the address space or of data (RLIMIT_AS, RLIMIT_DATA) would act at once, but
// Node and Go reserve far more than they use, and such a limit counts each process of the
// group by itself.
type watcher struct {
	mu     sync.Mutex
	groups map[int]limit
	stop   context.CancelFunc // nil while nothing is watched
}

var watched watcher

func (w *watcher) add(pid int, most int64, exceed func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.groups == nil {
		w.groups = make(map[int]limit)
	}
	w.groups[pid] = limit{most: most, exceed: exceed}
	if w.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		w.stop = stop
		go w.run(ctx)
	}
}

func (w *watcher) remove(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.groups, pid)
	if len(w.groups) == 0 && w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *watcher) run(ctx context.Context) {
	for clock.Sleep(ctx, watchEvery) == nil {
		used := residentMemory()
		w.mu.Lock()
		for pid, l := range w.groups {
			if used[pid] > l.most {
				l.exceed()
			}
		}
		w.mu.Unlock()
	}
}
