package exchange

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// CallLog receives a record of each request that a site has answered. Its methods
// must be safe for concurrent use.
type CallLog interface {
	// Enabled reports whether the record of a request that begins now is wanted.
	Enabled() bool
	// Log writes a record. The context is that of the request, which may have ended.
	Log(ctx context.Context, r *Record)
}

// Record is one request and its response, as the call log shows them. It has ids and
// names from the config. It never has a secret, an argument, a result, or a name that
// only the client has chosen.
type Record struct {
	Server, Method string // as in the labels of metrics
	Entry          string // price book's entry for the item, pricing.Other, or "" if no item was asked for
	Tool           string // item of the charge; "" without a charge
	Decision       string // as in the labels of metrics
	Code           gate.Code

	Account, Key string // ids of the account and of the key; "" for an unknown caller
	Test         bool

	Charge   string         // id of the charge; "" without a charge
	Amount   *ledger.Amount // charged by this request; nil if this request has charged nothing
	Replayed bool           // the response is the one that was stored with the charge

	Status            int // HTTP status that was sent to the client; 0 if no head was sent
	Ended             Ending
	BytesRead         int   // length of the request's body
	BytesSent         int64 // length of the response's body
	ProtocolVersion   string
	Client            netip.Addr
	Duration          time.Duration // from the request's arrival to the end of the exchange
	Added, Upstream   time.Duration // the parts of Duration that Farebox and the server took
	Reserve, Captured time.Duration // the parts of Added that the store took to reserve and to capture
}

// Ending is the way in which the response to a request ended.
type Ending string

// The endings of responses.
const (
	Complete  Ending = "complete"    // the response, or the refusal, was sent to its end
	Abandoned Ending = "abandoned"   // the client left before the response
	Left      Ending = "client_left" // the client left a stream, or left within the response
	Suspended Ending = "suspended"   // the stream ended before the response, and the client can resume it
	Withdrawn Ending = "withdrawn"   // a change of the key or of the site's rules, or the gateway's stop, ended the stream
	Cut       Ending = "cut"         // the gateway broke the response off
)

// counted is the outcome of a request as it was counted in the metrics.
type counted struct{ method, decision string }

// sent is the response writer of an exchange with a record. It notes the head's status
// and the length of the body.
type sent struct {
	http.ResponseWriter
	status int
	size   int64
}

// Unwrap returns the underlying writer, for flushes and deadlines.
func (s *sent) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader notes the status, unless it is an informational one.
func (s *sent) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write notes the length of the body.
func (s *sent) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := s.ResponseWriter.Write(p)
	s.size += int64(n)
	return n, err
}

// openRecord prepares the record of the exchange, if the site has a call log.
func (x *Exchange) openRecord() {
	if x.site.Calls != nil && x.site.Calls.Enabled() {
		x.sent = &sent{ResponseWriter: x.w}
		x.w = x.sent
	}
}

// noteStatus notes the status of a response that the host writes after the exchange.
func (x *Exchange) noteStatus(status int) {
	if x.sent != nil {
		x.sent.status = status
	}
}

// writeRecord writes the record of the exchange, if a record was prepared. An exchange
// that was not counted writes no record, because another exchange serves the request
// and writes its record.
func (x *Exchange) writeRecord() {
	if x.sent == nil || x.counted.decision == "" {
		return
	}
	total := clock.Since(x.timing.began)
	r := Record{
		Server: x.site.Server, Method: x.counted.method, Decision: x.counted.decision, Code: x.code(), Entry: x.entry(),
		Tool: x.charged.tool, Charge: x.charged.id, Status: x.sent.status, Ended: x.ending(),
		BytesRead: len(x.body), BytesSent: x.sent.size, ProtocolVersion: knownVersion(x.r.Header), Client: x.client(),
		Duration: total, Added: x.timing.added(total), Upstream: x.timing.upstream,
	}
	if x.caller.Known() {
		r.Account, r.Key, r.Test = x.caller.Account, x.caller.Subject, x.caller.Environment == keys.Test
	}
	if x.call != nil {
		r.Replayed = x.counted.decision == replayed
		r.Reserve, _ = x.call.Took()
	}
	if x.settled != nil {
		_, r.Captured = x.settled.Took()
		if amount, ok := x.settled.Charged(); ok {
			r.Amount = &amount
		}
	}
	x.site.Calls.Log(x.r.Context(), &r)
}

// code returns the code of the latest refusal, "" for none.
func (x *Exchange) code() gate.Code {
	if x.refusal == nil {
		return ""
	}
	return x.refusal.Code
}

// entry returns the price book's entry for the requested item. Before the engine runs,
// there is no price book.
func (x *Exchange) entry() string {
	if x.call != nil && x.call.Entry() != "" {
		return x.call.Entry()
	}
	if x.settled != nil && x.settled.Entry() != "" {
		return x.settled.Entry()
	}
	if !x.running {
		return ""
	}
	return x.site.Gate.Entry(&x.message)
}

// ending returns how the response ended. If no other ending was noted, the ending is
// Complete, or Cut if no head was sent because a handler panicked.
func (x *Exchange) ending() Ending {
	switch {
	case x.left.Load():
		return Abandoned
	case x.ended != "":
		return x.ended
	case x.sent.status == 0:
		return Cut
	}
	return Complete
}

// protocolVersions lists the versions of MCP that records name.
var protocolVersions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// knownVersion returns the version of MCP that a client names, "other" for an
// unknown one, and "" if the client names none.
func knownVersion(h http.Header) string {
	version := h.Get("Mcp-Protocol-Version")
	if version == "" || slices.Contains(protocolVersions, version) {
		return version
	}
	return "other"
}
