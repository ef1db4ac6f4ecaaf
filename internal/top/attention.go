package top

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/internal/scrape"
)

// Level says how urgent a notice is.
type Level string

// The levels, the most urgent first.
const (
	Critical Level = "critical" // calls fail, or money is at risk
	Warning  Level = "warning"  // calls will fail if nothing is done
	Note     Level = "note"     // worth knowing
)

// Notice is something that needs the attention of an operator.
type Notice struct {
	Level Level  `json:"level"`
	Code  string `json:"code"` // the code of the notice, such as STORE_DOWN; codes do not change between versions
	Text  string `json:"text"` // the notice in one line for people
}

// The thresholds of notices.
const (
	manyFailures = .05 // a notice if at least this fraction of the requests fails
	fewHits      = .8  // a notice if the cache answers less than this fraction of the lookups
	enough       = 50  // a fraction is computed only from at least this number of lookups or requests in the interval
	nearlyFull   = .8  // a notice if at least this fraction of a limit is in use
	diskLow      = .1  // a warning if less than this fraction of the disk is free
	diskFull     = .03
	lagging      = .5  // a notice if the revocation lag is at least this fraction of its limit
	clockStep    = 1.0 // a notice if the clock was set by at least this number of seconds since the start of the process
	settling     = 300 // for this number of seconds after the start of the process, an empty cache is normal
)

// attention returns the notices about a gateway, the most urgent first.
func (r reader) attention(v *View) []Notice {
	found := []Notice{}
	add := func(level Level, code, format string, args ...any) {
		found = append(found, Notice{level, code, fmt.Sprintf(format, args...)})
	}
	r.attendStore(v, add)
	r.attendMoney(v, add)
	r.attendTraffic(v, add)
	r.attendProcess(v, add)
	order := []Level{Critical, Warning, Note}
	slices.SortStableFunc(found, func(a, b Notice) int { return slices.Index(order, a.Level) - slices.Index(order, b.Level) })
	return found
}

// adder is a function that adds a notice. It formats the text for people as fmt.Sprintf
// does.
type adder func(level Level, code, format string, args ...any)

func (r reader) attendStore(v *View, add adder) {
	s := v.Store
	if s.Up != nil && !*s.Up {
		add(Critical, "STORE_DOWN", "the store does not answer: calls are refused")
	}
	if n, ok := r.Increase("farebox_store_commits_total", scrape.Labels{"result": "failed"}); ok && n > 0 {
		add(Critical, "COMMITS_FAIL", "commits of the store fail: %s", number(n))
	}
	if used, ok := part(s.QueueLength, s.QueueLimit); ok && used >= nearlyFull {
		add(Warning, "QUEUE_NEARLY_FULL", "the queue of the store is %s full", percent(used))
	}
	if free, ok := part(s.DiskFreeBytes, s.DiskBytes); ok && free < diskLow {
		level := Warning
		if free < diskFull {
			level = Critical
		}
		add(level, "DISK_NEARLY_FULL", "the disk of the store is %s full, %s are free", percent(1-free), humanize.IBytes(uint64(*s.DiskFreeBytes)))
	}
	if n := value(s.LedgerDifferences); n > 0 {
		add(Critical, "LEDGER_DIFFERS", "the books do not balance: %s differences, see ledger verify", number(n))
	}
	if lag, ok := part(v.Keys.LagSeconds, v.Keys.LagLimitSeconds); ok && lag >= lagging {
		level, text := Warning, "deleted keys take %s to end, calls are refused at %s"
		if lag >= 1 {
			level, text = Critical, "calls are refused: the store was not asked for deleted keys for %s, the limit is %s"
		}
		add(level, "REVOCATION_LAG", text, seconds(*v.Keys.LagSeconds), seconds(*v.Keys.LagLimitSeconds))
	}
}

func (r reader) attendMoney(v *View, add adder) {
	if n := value(v.Money.FailedCharges.PerSecond); n > 0 {
		add(Critical, "CHARGES_FAIL", "calls could not be charged, so their results are withheld")
	}
	if n := value(v.Money.RefundsOwed); n > 0 {
		add(Warning, "REFUNDS_OWED", "refunds are owed that the store has not taken: %s", number(n))
	}
}

func (r reader) attendTraffic(v *View, add adder) {
	all, _ := r.Increase(requestsTotal, nil)
	for _, k := range v.Requests.Kinds {
		if k.Kind == Failed && all >= enough && value(k.Share) >= manyFailures {
			worst := slices.IndexFunc(v.Requests.Decisions, func(d DecisionCount) bool { return d.Kind == Failed })
			add(Warning, "REQUESTS_FAIL", "%s of the requests fail, mostly %s", percent(*k.Share), v.Requests.Decisions[worst].Decision)
		}
	}
	lookups, _ := r.Increase("farebox_key_lookups_total", nil)
	if hits := v.Keys.HitRatio; hits != nil && *hits < fewHits && lookups >= enough && value(v.Gateway.UptimeSeconds) > settling {
		add(Warning, "FEW_CACHE_HITS", "only %s of the keys are found in the cache", percent(*hits))
	}
	if n := v.Keys.Expiring["1d"]; n > 0 {
		add(Note, "KEYS_EXPIRE", "keys that expire within a day: %s", number(n))
	}
}

func (r reader) attendProcess(v *View, add adder) {
	for _, s := range v.Gateway.Shares {
		if used, ok := part(s.Used, s.Limit); ok && used >= nearlyFull {
			add(Warning, "SHARE_NEARLY_USED", "%s of the %s of the process are in use", percent(used), s.Of)
		}
	}
	if n, ok := r.Increase("farebox_config_loads_total", scrape.Labels{"result": "failed"}); ok && n > 0 {
		add(Warning, "RELOAD_FAILED", "a config could not be loaded, the one before goes on")
	}
	if offset := r.gauge("farebox_clock_offset_seconds", nil); offset != nil && math.Abs(*offset) >= clockStep {
		add(Warning, "CLOCK_STEPPED", "the clock was set by %s since the start", seconds(*offset))
	}
	if v.Gateway.Restarted {
		add(Note, "RESTARTED", "the gateway restarted")
	}
}

// part returns the first argument divided by the second. The bool is false if an
// argument is unknown or the second is 0.
func part(of, whole *float64) (float64, bool) {
	if of == nil || whole == nil || *whole <= 0 {
		return 0, false
	}
	return *of / *whole, true
}

// percent prints a fraction as a percentage. It prints 100 % only for exactly 1.
func percent(part float64) string {
	if part < 1 {
		part = min(part, .999)
	}
	return fmt.Sprintf("%.0f %%", math.Floor(part*100))
}

func number(n float64) string { return humanize.Comma(int64(n)) }

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
