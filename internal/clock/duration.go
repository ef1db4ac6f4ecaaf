package clock

import (
	"regexp"
	"strconv"
	"time"
)

var days = regexp.MustCompile(`(?:\d+\.?\d*|\.\d+)d`)

// ParseDuration parses a duration as time.ParseDuration does. In addition, it accepts
// days of 24 hours, as in 90d or 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	return time.ParseDuration(days.ReplaceAllStringFunc(text, func(part string) string {
		n, err := strconv.ParseFloat(part[:len(part)-1], 64)
		if err != nil {
			return part // too many days; time.ParseDuration refuses the text because it does not know days
		}
		return strconv.FormatFloat(n*24, 'f', -1, 64) + "h"
	}))
}
