package fetch

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxAge returns how long a private cache may use a response: the max-age of its
// Cache-Control less its Age, 0 with no-store or no-cache, and -1 without a directive
// about time (RFC 9111, 4.2 and 5.2.2).
func maxAge(h http.Header) time.Duration {
	age := time.Duration(-1)
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			age = seconds(strings.Trim(value, `"`))
		}
	}
	if age > 0 {
		age = max(age-max(seconds(h.Get("Age")), 0), 0)
	}
	return age
}

// maxSeconds is the largest number of seconds that seconds returns: 30 years.
const maxSeconds = 1 << 30

// seconds parses a number of seconds. Malformed and negative ones are 0.
func seconds(text string) time.Duration {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, maxSeconds)) * time.Second
}
