// Package rollup sums the journal up by account, key, server and tool, and by hours,
// days and months. The sums are derived from the journal. The cursor is the last
// transaction of the journal that is in the sums. A store changes the cursor and the
// sums in one database transaction. A report reads the sums and adds the transactions
// after the cursor. Refused and failed calls are not in the journal; a store adds them
// to the same rows without moving the cursor.
//
// The package decides which sums exist, which of them a report reads, and how they are
// verified. It does no I/O. Stores implement Reader, by which the package reads the
// journal and the sums.
package rollup

import (
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// dim is a dimension by which the journal is summed up.
type dim uint8

const (
	unused dim = iota
	account
	provider
	key
	server
	tool
)

// projection is a set of sums. It has one row for each combination of its dimensions in
// each period. Its rows are sorted by the dimension called subject first, then by the
// period, and then by the other dimensions.
type projection struct {
	id      int64
	name    string // the name of the projection in the messages of a Verifier
	subject dim
	columns [3]dim // the dimensions in the columns x, y and z
	hours   bool   // whether the projection has hourly sums
}

// dims returns the dimensions in the order subject, x, y, z.
func (p *projection) dims() [4]dim {
	return [4]dim{p.subject, p.columns[0], p.columns[1], p.columns[2]}
}

// The projections. There are only a few, because each charge changes one row of each
// projection in each kind of period. For each common report, there is a projection with
// the rows that the report shows, in the same order. So a page of the report reads only
// the rows that it shows. The ids of projections are stored and must not change.
var (
	totals        = &projection{id: 1, name: "all charges", hours: true}
	servers       = &projection{id: 2, name: "servers", columns: [3]dim{server, provider}, hours: true}
	tools         = &projection{id: 3, name: "tools", columns: [3]dim{server, tool, provider}, hours: true}
	serverTools   = &projection{id: 4, name: "tools of servers", subject: server, columns: [3]dim{tool, provider}}
	providerTools = &projection{id: 5, name: "tools of providers", subject: provider, columns: [3]dim{server, tool}}
	accounts      = &projection{id: 6, name: "accounts", columns: [3]dim{account}}
	accountTools  = &projection{id: 7, name: "tools of accounts", subject: account, columns: [3]dim{server, tool, provider}, hours: true}
	keys          = &projection{id: 8, name: "keys", columns: [3]dim{key}}
	keyTools      = &projection{id: 9, name: "tools of keys", subject: key, columns: [3]dim{server, tool, provider}, hours: true}
	toolServers   = &projection{id: 10, name: "servers of tools", subject: tool, columns: [3]dim{server, provider}}
	oneServer     = &projection{id: 11, name: "each server", subject: server, columns: [3]dim{provider}, hours: true}
	oneProvider   = &projection{id: 12, name: "servers of providers", subject: provider, columns: [3]dim{server}, hours: true}
	oneAccount    = &projection{id: 13, name: "each account", subject: account, hours: true}

	projections = []*projection{
		totals, servers, tools, serverTools, providerTools, accounts, accountTools, keys, keyTools, toolServers, oneServer, oneProvider, oneAccount,
	}
)

// period is a length of time for which there are sums: an hour, a day or a month.
type period int64

const (
	hours period = iota
	days
	months
)

func periodOf(by ledger.UsageBy) period {
	switch by {
	case ledger.ByHour:
		return hours
	case ledger.ByMonth:
		return months
	default:
		return days
	}
}

// Microseconds of an hour and a day.
const (
	hourMicros = 3600 * 1_000_000
	dayMicros  = 24 * hourMicros
)

// bucketOf returns the number of the hour, day or month that contains the given time,
// in microseconds since 1970. Number 0 is the first period in 1970.
func (p period) bucketOf(at int64) int64 {
	switch p {
	case hours:
		return floorDiv(at, hourMicros)
	case months:
		t := time.UnixMicro(at).UTC()
		return int64(t.Year()-1970)*12 + int64(t.Month()) - 1
	default:
		return floorDiv(at, dayMicros)
	}
}

// begin returns the time at which the period with the given number begins.
func (p period) begin(bucket int64) time.Time {
	switch p {
	case hours:
		return time.UnixMicro(bucket * hourMicros).UTC()
	case months:
		return time.Date(1970, time.Month(1+bucket), 1, 0, 0, 0, 0, time.UTC)
	default:
		return time.UnixMicro(bucket * dayMicros).UTC()
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// viewOf returns the number of a view. A view is the part of a projection for one
// length of period and one environment.
func viewOf(p *projection, by period, test bool) int64 {
	v := p.id<<3 | int64(by)<<1
	if test {
		v |= 1
	}
	return v
}

// Key identifies a stored row of sums. Subject, X, Y and Z are the numbers that stand
// for an account, a key, a server or a tool; 0 means that the projection does not have
// that dimension.
type Key struct {
	View    int64
	Subject int64
	Bucket  int64 // the number of the period
	X, Y, Z int64
}

// Kind is the kind of a transaction. Transactions that change the sums in the same way
// have the same kind.
type Kind uint8

// The kinds of transactions. Transactions of the kind Other, such as top-ups, change no
// sums.
const (
	Other Kind = iota
	Charge
	Refund
	FeeReturned // a part of a fee that was returned with a refund
	// Uncharged stands for calls that were refused or failed. Such transactions are not
	// in the journal; see CallBatch.
	Uncharged
)

// Transaction is a transaction of the journal, or a number of refused and failed calls.
// For a refund or a returned fee, the fields from Account to Tool describe the charge
// that was refunded. They are not set for the kind Other.
type Transaction struct {
	Seq      int64
	At       int64 // microseconds since 1970
	Kind     Kind
	Amount   ledger.Amount // the amount that the transaction moved
	Test     bool
	Account  int64 // the number of the paying account
	Provider int64 // the number of the earning account
	Lineage  string
	Server   string
	Tool     string
	Free     bool          // whether a free quota paid for the charge
	Fee      ledger.Amount // the fee of the charge; set for Charge only
	Refused  int64         // number of refused calls; only for Uncharged
	Failed   int64         // number of failed calls; only for Uncharged
}

// sums returns the amounts that the transaction adds to the sums.
func (t *Transaction) sums() (s ledger.UsageSums) {
	switch t.Kind {
	case Charge:
		s.Calls, s.Charged = 1, t.Amount
		if t.Free {
			s.Free = 1
		} else {
			s.Fee = t.Fee
		}
	case Refund:
		s.RefundCount, s.Refunded = 1, t.Amount
	case FeeReturned:
		s.FeeReturned = t.Amount
	case Uncharged:
		s.Refused, s.Failed = t.Refused, t.Failed
	}
	return s
}

// place has a number for each dimension. The numbers identify the parties of a
// transaction.
type place struct{ account, provider, key, server, tool int64 }

func (p *place) of(d dim) int64 {
	switch d {
	case account:
		return p.account
	case provider:
		return p.provider
	case key:
		return p.key
	case server:
		return p.server
	case tool:
		return p.tool
	}
	return 0
}

// eachKey calls do(projection, period, key) for each row of the sums that a transaction
// changes. The transaction is given by its time, its environment and its place.
func eachKey(at int64, test bool, p *place, do func(*projection, period, Key)) {
	buckets := [...]int64{hours: hours.bucketOf(at), days: days.bucketOf(at), months: months.bucketOf(at)}
	for _, of := range projections {
		for by, bucket := range buckets {
			if period(by) == hours && !of.hours {
				continue
			}
			do(of, period(by), Key{
				View: viewOf(of, period(by), test), Subject: p.of(of.subject), Bucket: bucket,
				X: p.of(of.columns[0]), Y: p.of(of.columns[1]), Z: p.of(of.columns[2]),
			})
		}
	}
}
