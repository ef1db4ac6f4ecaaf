package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate bounds the frequency of requests. Requests is the number of requests allowed in
// each period, Per is the length of a period, and Burst is the number of requests that
// may come together after a pause. The zero Rate means that there is no bound.
type Rate struct {
	Requests int64         `json:"requests"`
	Per      time.Duration `json:"per"` // nanoseconds in JSON
	Burst    int64         `json:"burst"`
}

// The bounds of a Rate.
const (
	maxRequests = 1_000_000
	minPer      = time.Second
	maxPer      = 24 * time.Hour
	maxRefill   = 31 * 24 * time.Hour // the longest time in which a whole burst may refill
)

// IsZero reports whether the rate is zero, which means that there is no bound.
func (r Rate) IsZero() bool { return r == Rate{} }

// Check returns an error if the rate is out of bounds. Requests and Burst must be from
// 1 to 1,000,000, and Per from 1 s to 24 h. A whole burst must refill within 31 days.
// The zero Rate is out of bounds.
func (r Rate) Check() error {
	switch {
	case r.Requests < 1 || r.Requests > maxRequests || r.Burst < 1 || r.Burst > maxRequests:
		return fmt.Errorf("a rate has 1 to %d requests, and so has its burst", maxRequests)
	case r.Per < minPer || r.Per > maxPer:
		return fmt.Errorf("a rate counts over %s to %s", minPer, maxPer)
	case r.Burst > int64(maxRefill/r.Every()):
		return fmt.Errorf("a burst must be made up for within %s: it is too large for so few requests", maxRefill)
	}
	return nil
}

// Every returns the time after which one more request is allowed, rounded up to a
// nanosecond.
func (r Rate) Every() time.Duration {
	return time.Duration((int64(r.Per) + r.Requests - 1) / r.Requests)
}

// String returns the rate in the form that ParseRate reads, such as "60/1m burst 100",
// or "none" for the zero Rate.
func (r Rate) String() string {
	if r.IsZero() {
		return "none"
	}
	per := r.Period()
	if r.Burst == r.Requests {
		return fmt.Sprintf("%d/%s", r.Requests, per)
	}
	return fmt.Sprintf("%d/%s burst %d", r.Requests, per, r.Burst)
}

// Period returns Per in short form, such as "1m".
func (r Rate) Period() string {
	per := r.Per.String()
	for _, zero := range []string{"m0s", "h0m"} { // "1m0s" becomes "1m", and "1h0m" becomes "1h"
		if strings.HasSuffix(per, zero) {
			per = per[:len(per)-2]
		}
	}
	return per
}

var errRate = errors.New("want requests in a time, and how many may come at once, as in: 60/1m burst 100")

// ParseRate parses a rate such as "60/1m" or "60/1m burst 100". Without a burst, all
// requests of a period may come together.
func ParseRate(text string) (Rate, error) {
	words := strings.Fields(text)
	if len(words) != 1 && (len(words) != 3 || words[1] != "burst") {
		return Rate{}, fmt.Errorf("rate %q: %w", text, errRate)
	}
	count, per, _ := strings.Cut(words[0], "/")
	n, err := strconv.ParseInt(count, 10, 64)
	d, errPer := time.ParseDuration(per)
	r := Rate{Requests: n, Per: d, Burst: n}
	if len(words) == 3 && err == nil {
		r.Burst, err = strconv.ParseInt(words[2], 10, 64)
	}
	if err != nil || errPer != nil {
		return Rate{}, fmt.Errorf("rate %q: %w", text, errRate)
	}
	if err := r.Check(); err != nil {
		return Rate{}, fmt.Errorf("rate %q: %w", text, err)
	}
	return r, nil
}
