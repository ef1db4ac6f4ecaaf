package process

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Bounds of the log of a process.
const (
	maxLogged  = 4 << 10  // the bytes of a line
	readLogged = 64 << 10 // the bytes of a line in which secrets are searched
	burst      = 50       // the lines at once
	perSecond  = 10       // the lines each second, after the burst
)

// Limiter bounds how many lines are logged, and counts those that are left out. It is not
// safe for concurrent use.
type Limiter struct {
	tokens  float64
	last    time.Time
	skipped int
}

// Allow reports whether a line may be logged, and how many lines were left out before it.
func (l *Limiter) Allow() (skipped int, ok bool) {
	now := clock.Now()
	if l.last.IsZero() {
		l.tokens = burst
	} else {
		l.tokens = min(burst, l.tokens+now.Sub(l.last).Seconds()*perSecond)
	}
	l.last = now
	if l.tokens < 1 {
		l.skipped++
		return 0, false
	}
	l.tokens--
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// logLines logs the lines of a process's stderr until its end.
func logLines(r io.Reader, pid int, logger func() *slog.Logger, redact *strings.Replacer) {
	var limit Limiter
	in := bufio.NewReaderSize(r, readLogged)
	for {
		part, err := in.ReadSlice('\n')
		text := strings.TrimRight(string(part), "\r\n")
		cut := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) { // skip the rest of the line
			_, err = in.ReadSlice('\n')
		}
		if text != "" {
			if skipped, ok := limit.Allow(); ok {
				logLine(logger(), pid, Shorten(text, redact, cut), skipped)
			}
		}
		if err != nil {
			if limit.skipped > 0 {
				logger().Warn("lines of a stdio server's stderr were left out of the log", slog.Int("pid", pid), slog.Int("left_out", limit.skipped))
			}
			return
		}
	}
}

func logLine(logger *slog.Logger, pid int, text string, skipped int) {
	attrs := []any{slog.Int("pid", pid), slog.String("line", text)}
	if skipped > 0 {
		attrs = append(attrs, slog.Int("left_out", skipped))
	}
	logger.Info("stderr of a stdio server", attrs...)
}

// Shorten returns a line without secrets, cut to 4 KiB. A line that was cut before loses
// its second half, because its end could be the beginning of a secret.
func Shorten(text string, redact *strings.Replacer, cut bool) string {
	if redact != nil {
		text = redact.Replace(text)
	}
	if len(text) > maxLogged {
		return strings.ToValidUTF8(text[:maxLogged], "?") + "…"
	}
	if cut {
		return text[:len(text)/2] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
