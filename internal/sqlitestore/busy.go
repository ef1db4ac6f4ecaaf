package sqlitestore

import (
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Busy returns how long the writer has worked on its current write, or 0 if the writer
// waits for work. A long time means that the disk hangs.
func (s *Store) Busy() time.Duration { return s.writer.busy() }

// starts notes that work begins now.
func (w *writer) starts() { w.begun.Store(int64(clock.Since(w.opened)) + 1) }

// busy returns how long the current work has taken so far, or 0 without work.
func (w *writer) busy() time.Duration {
	begun := w.begun.Load()
	if begun == 0 {
		return 0
	}
	return max(0, clock.Since(w.opened)-time.Duration(begun))
}
