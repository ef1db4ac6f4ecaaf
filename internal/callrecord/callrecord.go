// Package callrecord keeps records of calls that charged nothing: refused calls, failed
// calls and, if the operator wants them, free calls. Paid calls need no such record,
// because they have a charge. A Recorder writes records in the background, so that no
// call waits for its record.
package callrecord

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Outcome says why a call charged nothing.
type Outcome string

// The outcomes of recorded calls.
const (
	Refused Outcome = "refused" // the gateway refused the call
	Failed  Outcome = "failed"  // the gateway, its store or the server failed, the result was an error, or the client left
	Free    Outcome = "free"    // the call has no price, or its result is exempt from the price
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Refused, Failed, Free} }

// The codes of calls that were not refused. The record of a refused call has the
// code of its refusal.
const (
	ToolError   = "TOOL_ERROR"   // the result has isError: true
	ServerError = "SERVER_ERROR" // the server answered with a JSON-RPC error
	Abandoned   = "ABANDONED"    // the client left before the response
	Unpriced    = "FREE"         // the tool has no price
	Exempt      = "EXEMPT"       // a condition of the price exempts the result
	Replayed    = "REPLAYED"     // the stored response of a paid call was sent again
)

// Record describes one call that charged nothing. It contains only ids, and names from
// the config. It must not contain arguments, results or addresses, or a name that only
// the client has chosen.
type Record struct {
	At       time.Time // the end of the call
	Account  string    // id of the account
	Key      string    // id of the key, or of another credential
	Server   string
	Method   string // the MCP method, named as in the labels of metrics
	Tool     string // the price book's entry for the tool, prompt or resource; "" if the call has none
	Outcome  Outcome
	Code     string
	Test     bool
	Price    *ledger.Amount // nil if the price is unknown
	Status   int            // HTTP status of a refusal, otherwise 0
	Duration time.Duration  // from the arrival of the request to the end of the response
	Trace    string         // id of the sampled trace, or ""

	// The sums of usage need the fields below. They are not stored with the record.
	Lineage  string // the lineage of the key
	Provider string // id of the account that earns at the server
}

// Filter selects the records that match all of its fields. A zero field matches all
// records.
type Filter struct {
	ledger.Page
	Account string // id of an account
	Key     string // id of a key
	Server  string
	Tool    string
	Outcome Outcome
	Code    string
	Since   time.Time
	Until   time.Time // only records before this time are selected
}

// Matches reports whether the record matches the filter. It ignores the filter's times
// and page.
func (f *Filter) Matches(r *Record) bool {
	is := func(want, has string) bool { return want == "" || want == has }
	return is(f.Account, r.Account) && is(f.Key, r.Key) && is(f.Server, r.Server) && is(f.Tool, r.Tool) &&
		is(string(f.Outcome), string(r.Outcome)) && is(f.Code, r.Code)
}

// Lister lists stored records.
type Lister interface {
	// Calls lists the records that match the filter, newest first. It also returns the
	// cursor of the next page, which is "" on the last page. A page may have fewer
	// records than its limit, or none, although another page follows. For a malformed
	// cursor, the error is ledger.ErrInvalid.
	Calls(ctx context.Context, f *Filter) (list []Record, next string, err error)
}

// Settings are the part of the operator's config that concerns records.
type Settings struct {
	Keep time.Duration // how long records are kept; 0 for no records
	Free bool          // whether free calls are recorded
	Most int64         // if there are more records than this, the oldest ones are deleted
}

// The defaults of Settings.
const (
	DefaultKeep = 30 * 24 * time.Hour
	DefaultMost = 1_000_000
)
