package ledger

import (
	"fmt"
	"math"
	"time"
)

// UsageBy is the length of the periods that a report of usage sums up. Periods begin
// at full hours, days and months in UTC.
type UsageBy string

// The periods of a report of usage.
const (
	ByHour  UsageBy = "hour"
	ByDay   UsageBy = "day"
	ByMonth UsageBy = "month"
)

// UsageGroup says which charges of a period a report of usage sums up together.
type UsageGroup string

// The groups of a report of usage.
const (
	GroupNone    UsageGroup = "none"    // all charges of a period together
	GroupAccount UsageGroup = "account" // the charges of each paying account
	GroupKey     UsageGroup = "key"     // the charges of each lineage of keys
	GroupServer  UsageGroup = "server"  // the charges at each server
	GroupTool    UsageGroup = "tool"    // the charges for each tool of each server
)

// UsageQuery selects charges, and says how a report sums them up. Zero fields of the
// filter match all charges.
type UsageQuery struct {
	Page
	Account  string // id of the paying account
	Provider string // id of the earning account
	Key      string // lineage of the paying keys
	Server   string // name of the server
	Tool     string // as in Order
	Test     bool   // whether charges by test keys are selected, instead of those by live keys
	// Since and Until are extended to whole periods. The first period is the one that
	// contains Since. The last period is the one that ends at Until or contains it.
	Since time.Time
	Until time.Time
	By    UsageBy    // "" means ByDay
	Group UsageGroup // "" means GroupNone
}

// UsageSums are sums over charges and over calls that were not charged. Refunds count
// in the period in which they were made, and in the group of their charge. A sum that
// would overflow becomes the largest Amount.
type UsageSums struct {
	Calls       int64  // number of charges, including those that a free quota paid
	Free        int64  // number of charges that a free quota paid
	Charged     Amount // amount paid by the accounts, before refunds
	RefundCount int64
	Refunded    Amount
	Fee         Amount // the part of Charged that the operator gets
	FeeReturned Amount // the part of Fee that refunds gave back

	// Refused and Failed are calls that are not among Calls, because nothing was charged.
	Refused, Failed int64
}

// CallCount counts the refused and the failed calls of one hour. The counted calls have
// the same account, lineage, server and tool.
type CallCount struct {
	At       time.Time // any time in the hour
	Test     bool
	Account  string // id of the calling account
	Provider string // id of the account that earns at the server
	Lineage  string // the lineage of the key
	Server   string
	Tool     string // the price book's entry, "" for calls that asked for no tool

	Refused, Failed int64
}

// Add adds the sums in o to s.
func (s *UsageSums) Add(o *UsageSums) {
	s.Calls, s.Free, s.RefundCount = addCount(s.Calls, o.Calls), addCount(s.Free, o.Free), addCount(s.RefundCount, o.RefundCount)
	s.Charged, s.Refunded = addCount(s.Charged, o.Charged), addCount(s.Refunded, o.Refunded)
	s.Fee, s.FeeReturned = addCount(s.Fee, o.Fee), addCount(s.FeeReturned, o.FeeReturned)
	s.Refused, s.Failed = addCount(s.Refused, o.Refused), addCount(s.Failed, o.Failed)
}

// addCount adds two numbers that are not negative. A sum that would overflow becomes
// math.MaxInt64.
func addCount[N int64 | Amount](a, b N) N {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Earned returns the earnings of the providers: the charged amount without refunds and
// without the operator's fees.
func (s *UsageSums) Earned() Amount { return s.Charged - s.Refunded - (s.Fee - s.FeeReturned) }

// UsageRow has the sums of one group in one period. Only the fields that identify a
// group of the query's kind are set.
type UsageRow struct {
	At      time.Time // the beginning of the period
	Account string    // id of the paying account; set for GroupAccount and GroupKey
	Key     string    // lineage of the paying keys; set for GroupKey
	Server  string    // set for GroupServer and GroupTool
	Tool    string    // set for GroupTool
	UsageSums
}

// UsageReport is one part of a report of usage. A group without calls and refunds in a
// period has no row.
type UsageReport struct {
	Rows []UsageRow
	Next string // the cursor of the next part, "" at the end; even a part without rows may have a next part
	// Complete is true if the sums include every transaction of the journal. Otherwise
	// the store is still summing up older transactions, and the sums include only those
	// up to the time AsOf.
	Complete bool
	AsOf     time.Time // the time of the last transaction in the sums; zero if the sums are empty
	// From is set for ByHour if the store has deleted old hourly sums. It is the time
	// before which they are deleted.
	From time.Time
	// Archived is set if some transactions were archived before the store had sums of
	// usage. The sums do not include these transactions. Archived is the time of the
	// last of them.
	Archived time.Time
}

// UsageProgress is the state of the sums of usage.
type UsageProgress struct {
	Summed  int64         // number of transactions that this call has summed up
	Pending int64         // estimated number of transactions that are not summed up yet
	Lag     time.Duration // age of the oldest transaction that is not summed up yet; 0 if there is no such transaction
	More    bool          // whether another call could sum up more at once
}

// Check returns the query with its defaults filled in. It returns an ErrInvalid if the
// query is not allowed.
func (q UsageQuery) Check() (UsageQuery, error) {
	if q.By == "" {
		q.By = ByDay
	}
	if q.Group == "" {
		q.Group = GroupNone
	}
	switch q.By {
	case ByHour, ByDay, ByMonth:
	default:
		return q, fmt.Errorf("%w: period %q: want hour, day or month", ErrInvalid, clip(string(q.By)))
	}
	switch q.Group {
	case GroupNone, GroupAccount, GroupKey, GroupServer, GroupTool:
	default:
		return q, fmt.Errorf("%w: group %q: want none, account, key, server or tool", ErrInvalid, clip(string(q.Group)))
	}
	return q, nil
}
