package exchange

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// reading holds the bounds for reading a body.
type reading struct {
	limit  int64 // the highest allowed length, in bytes
	length int64 // announced length, for which memory is allocated; 0 if unknown
	time   time.Duration
}

const (
	// bodyTime limits how long a client may take to send its body.
	bodyTime = time.Minute

	// The bounds of a body that is read only for the request's id. The sender of such a
	// body has no valid key, or is over a rate limit. Without these bounds, the gateway
	// could hold many more bytes for the sender than the sender has sent.
	peekLimit = 64 << 10
	peekTime  = 2 * time.Second
)

// peek holds the bounds for reading a body only for the request's id.
var peek = reading{limit: peekLimit, time: peekTime}

// readMessage reads and decodes the message. It checks the same bytes that will be
// forwarded. If limited is not nil, the caller is over a rate limit, and the body is
// read only for the request's id. stillLimited is nil if the request may pass all the
// same, because upkeep (the handshake, lists, notifications) is counted separately.
func (x *Exchange) readMessage(limited *gate.Refusal) (stillLimited, refusal *gate.Refusal) {
	if x.r.ContentLength > x.site.MaxBody {
		return nil, &gate.Refusal{Code: gate.MessageTooLarge}
	}
	how := reading{limit: x.site.MaxBody, length: x.r.ContentLength, time: bodyTime}
	if limited != nil {
		how = peek
		how.limit = min(how.limit, x.site.MaxBody)
	}
	asked := clock.Now()
	body, err := x.read(how)
	x.timing.body = clock.Since(asked)
	switch {
	case err != nil && limited != nil:
		x.advance(readBody) // nothing more can be read
		return nil, limited
	case err != nil:
		return nil, bodyRefusal(err)
	}
	x.advance(readBody)
	x.body = body
	x.message, err = mcp.Decode(body)
	if err != nil {
		return nil, x.malformed(err)
	}
	x.advance(decodedMessage)
	if mcp.IsUpkeep(&x.message) {
		x.quota, limited = x.site.Gate.CountUpkeep(&x.caller, limited == nil)
	}
	if x.era, err = mcp.CheckHeaders(x.r.Header, &x.message); err != nil {
		x.advance(refusedHeaders)
		return nil, x.malformed(err)
	}
	return limited, x.readIdempotencyKey()
}

// bodyRefusal returns the refusal for an error of x.read.
func bodyRefusal(err error) *gate.Refusal {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &gate.Refusal{Code: gate.MessageTooLarge}
	case share.ClassOf(err) != "":
		return shareRefusal(err)
	case errors.Is(err, share.ErrSlow):
		return &gate.Refusal{Code: gate.MessageMalformed, Cause: err, Reason: "the body came too slowly"}
	}
	return &gate.Refusal{Code: gate.MessageMalformed, Cause: err, Reason: "the body could not be read to its end"}
}

// malformed returns the refusal for an error of package mcp. It keeps the request's
// id if the package found the id in spite of the error.
func (x *Exchange) malformed(err error) *gate.Refusal {
	var refused *mcp.Error
	if !errors.As(err, &refused) {
		return &gate.Refusal{Code: gate.MessageMalformed, Cause: err}
	}
	if x.message.ID.IsZero() {
		x.message.ID = refused.ID
	}
	return &gate.Refusal{Code: malformedCodes[refused.Code], Reason: refused.Reason, Cause: refused}
}

// malformedCodes maps the codes of package mcp to refusals.
var malformedCodes = map[int]gate.Code{
	mcp.ParseError:     gate.MessageMalformed,
	mcp.InvalidRequest: gate.MessageInvalid,
	mcp.InvalidParams:  gate.ParamsInvalid,
	mcp.HeaderMismatch: gate.HeaderMismatch,
}

// readIdempotencyKey takes the caller's idempotency key from the header if the message
// has no such key.
func (x *Exchange) readIdempotencyKey() *gate.Refusal {
	if len(x.retry) == 0 {
		return nil
	}
	key := x.retry[0]
	reason := ""
	switch {
	case len(x.retry) > 1:
		reason = "there is more than one Idempotency-Key header"
	case key == "" || len(key) > mcp.MaxIdempotencyKey:
		reason = "the Idempotency-Key header must have 1 to 256 bytes"
	case x.message.IdempotencyKey != "" && x.message.IdempotencyKey != key:
		reason = "the Idempotency-Key header and the key in _meta differ"
	}
	if reason != "" {
		return &gate.Refusal{Code: gate.ParamsInvalid, Reason: reason}
	}
	x.message.IdempotencyKey = key
	return nil
}

// read reads the whole body, within a time limit and within the caller's share of
// memory. It reads to the end because only then does net/http notice that a client
// leaves.
func (x *Exchange) read(how reading) ([]byte, error) {
	return x.memory.ReadAll(http.MaxBytesReader(x.w, x.r.Body, how.limit), share.Body{
		Length: min(how.length, how.limit), Time: how.time, Rate: x.site.Shares.BodyRate.Load(),
		Source: http.NewResponseController(x.w),
	})
}

// setBody makes the upstream receive the bytes that were checked. GetBody stays
// nil, because a transport that has GetBody may send a request twice.
func (x *Exchange) setBody() {
	x.r.Body = io.NopCloser(bytes.NewReader(x.body))
	x.r.GetBody = nil
	x.r.ContentLength = int64(len(x.body))
	x.r.TransferEncoding = nil
}

// setHeaders sets the gateway's own headers for the upstream.
func (x *Exchange) setHeaders() {
	header := x.r.Header
	header.Set("Accept-Encoding", "identity")
	if x.site.UpstreamAuthorization != "" {
		header.Set("Authorization", x.site.UpstreamAuthorization)
	}
	if x.site.IdentityHeaders {
		header.Set("X-Farebox-Account", x.caller.Account)
		header.Set("X-Farebox-Key", x.caller.Subject)
		header.Set("X-Farebox-Scopes", strings.Join(x.site.Gate.Scopes(&x.caller), " "))
	}
}
