package cli

import (
	"regexp"
	"strconv"
	"time"
)

var days = regexp.MustCompile(`(?:\d+\.?\d*|\.\d+)d`)

// parseDuration parses a duration like time.ParseDuration, and in addition days
// (24 hours each): 90d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	return time.ParseDuration(days.ReplaceAllStringFunc(text, func(part string) string {
		n, err := strconv.ParseFloat(part[:len(part)-1], 64)
		if err != nil {
			return part // out of range: an invalid duration, too
		}
		return strconv.FormatFloat(n*24, 'f', -1, 64) + "h"
	}))
}
