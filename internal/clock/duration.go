package clock

import (
	"regexp"
	"strconv"
	"time"
)

var days = regexp.MustCompile(`(?:\d+\.?\d*|\.\d+)d`)

// ParseDuration parses a duration as time.ParseDuration does, and also accepts the
// unit d for days of 24 hours, as in 90d or 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	return time.ParseDuration(days.ReplaceAllStringFunc(text, func(part string) string {
		n, err := strconv.ParseFloat(part[:len(part)-1], 64)
		if err != nil {
			return part // out of range; time.ParseDuration will refuse it, because it does not know the unit d
		}
		return strconv.FormatFloat(n*24, 'f', -1, 64) + "h"
	}))
}
