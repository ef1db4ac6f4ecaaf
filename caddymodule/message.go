package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// readMessage reads the body and the message in it, strictly: what is judged
// here are the bytes that will be forwarded.
func (x *exchange) readMessage() *gate.Refusal {
	if x.r.ContentLength > x.h.MaxBody {
		return &gate.Refusal{Code: gate.MessageTooLarge}
	}
	var body []byte
	var err error
	if x.often == nil {
		body, err = x.readBody(x.h.MaxBody, x.r.ContentLength, bodyTime)
	} else { // it is read for its id alone
		body, err = x.readBody(min(x.h.MaxBody, peekLimit), 0, peekTime)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err != nil && x.often != nil:
		x.body = []byte{} // what there is was read
		return x.often
	case errors.As(err, &tooLarge):
		return &gate.Refusal{Code: gate.MessageTooLarge}
	case share.ClassOf(err) != "":
		return x.noShare(err)
	case errors.Is(err, share.ErrSlow):
		return &gate.Refusal{Code: gate.MessageMalformed, Cause: err, Reason: "the body came too slowly"}
	case err != nil:
		return &gate.Refusal{Code: gate.MessageMalformed, Cause: err, Reason: "the body could not be read to its end"}
	}
	x.body = body
	x.message, err = mcp.Decode(body)
	if err == nil && mcp.IsUpkeep(&x.message) {
		x.quota, x.often = x.h.gate.CountUpkeep(x.key, x.often == nil)
	}
	if err == nil {
		x.era, err = mcp.CheckHeaders(x.r.Header, &x.message)
		x.misheaded = err != nil
	}
	var refused *mcp.Error
	if !errors.As(err, &refused) {
		return x.readRetryKey()
	}
	if x.message.ID.IsZero() {
		x.message.ID = refused.ID
	}
	return &gate.Refusal{Code: malformed[refused.Code], Reason: refused.Reason, Cause: refused}
}

// readRetryKey takes the key by which the caller may send the request again
// from the header, if it is not in the message.
func (x *exchange) readRetryKey() *gate.Refusal {
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

// malformed maps what package mcp says of a message to a refusal.
var malformed = map[int]gate.Code{
	mcp.ParseError:     gate.MessageMalformed,
	mcp.InvalidRequest: gate.MessageInvalid,
	mcp.InvalidParams:  gate.ParamsInvalid,
	mcp.HeaderMismatch: gate.HeaderMismatch,
}

// bodyTime is how long a client may take for its body.
const bodyTime = time.Minute

// readBody reads the whole body, within a time and what its holder may have of
// the memory. net/http notices a client that leaves only once its body was read
// to the end.
func (x *exchange) readBody(limit, length int64, patience time.Duration) ([]byte, error) {
	return x.memory.ReadAll(http.MaxBytesReader(x.w, x.r.Body, limit), share.Body{
		Length: min(length, limit), Time: patience, Rate: shares.rate.Load(),
		Source: http.NewResponseController(x.w),
	})
}

// setBody makes the upstream receive the very bytes that were judged. GetBody
// stays nil: with it, a transport may send a request twice.
func (x *exchange) setBody() {
	x.r.Body = io.NopCloser(bytes.NewReader(x.body))
	x.r.GetBody = nil
	x.r.ContentLength = int64(len(x.body))
	x.r.TransferEncoding = nil
}

// setHeaders sets what the upstream is to know.
func (x *exchange) setHeaders() {
	header := x.r.Header
	header.Set("Accept-Encoding", "identity")
	if x.h.upstreamAuth != "" {
		header.Set("Authorization", x.h.upstreamAuth)
	}
	if x.h.IdentityHeaders {
		header.Set("X-Farebox-Account", x.key.Account)
		header.Set("X-Farebox-Key", x.key.ID)
		header.Set("X-Farebox-Scopes", strings.Join(x.h.gate.Scopes(x.key), " "))
	}
}
