package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// readMessage reads the body and the message in it, strictly: what is judged
// here are the bytes that will be forwarded.
func (x *exchange) readMessage() *gate.Refusal {
	if x.r.ContentLength > x.h.MaxBody {
		return &gate.Refusal{Code: gate.MessageTooLarge}
	}
	limit, patience := x.h.MaxBody, bodyTime
	if x.often != nil { // it is read for its id alone, and must not fill what all bodies share
		limit, patience = min(limit, peekLimit), peekTime
	}
	body, err := x.readBody(limit, patience, x.often == nil)
	var tooLarge *http.MaxBytesError
	switch {
	case err != nil && x.often != nil:
		x.body = []byte{} // what there is was read
		return x.often
	case errors.As(err, &tooLarge):
		return &gate.Refusal{Code: gate.MessageTooLarge}
	case errors.Is(err, errBusy):
		return &gate.Refusal{Code: gate.PlatformUnavailable, Cause: err}
	case err != nil:
		return &gate.Refusal{Code: gate.MessageMalformed, Cause: err, Reason: "the body could not be read to its end"}
	}
	x.body = body
	x.message, err = mcp.Decode(body)
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
	case key == "" || len(key) > mcp.MaxRetryKey:
		reason = "the Idempotency-Key header must have 1 to 256 bytes"
	case x.message.RetryKey != "" && x.message.RetryKey != key:
		reason = "the Idempotency-Key header and the key in _meta differ"
	}
	if reason != "" {
		return &gate.Refusal{Code: gate.ParamsInvalid, Reason: reason}
	}
	x.message.RetryKey = key
	return nil
}

// malformed maps what package mcp says of a message to a refusal.
var malformed = map[int]gate.Code{
	mcp.ParseError:     gate.MessageMalformed,
	mcp.InvalidRequest: gate.MessageInvalid,
	mcp.InvalidParams:  gate.ParamsInvalid,
	mcp.HeaderMismatch: gate.HeaderMismatch,
}

var errBusy = errors.New("too many bytes are held in this process")

const (
	bodyTime  = time.Minute // how long a client may take for its body
	bodyChunk = 16 << 10
)

// readBody reads the whole body, within a time and, if it counts, the process's
// budget. net/http notices a client that leaves only once its body was read to
// the end.
func (x *exchange) readBody(limit int64, patience time.Duration, counts bool) ([]byte, error) {
	// A writer that has no deadlines (of HTTP/3, say) has bounds of its own.
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(clock.Deadline(patience))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	reader := http.MaxBytesReader(x.w, x.r.Body, limit)
	body := make([]byte, 0, max(min(x.r.ContentLength, limit, bodyChunk), 512)+1)
	for {
		n, err := reader.Read(body[len(body):cap(body)])
		if counts && n > 0 {
			if !budget.Take(n) {
				return nil, errBusy
			}
			x.taken += n
		}
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			body = slices.Grow(body, min(len(body), 1<<20))
		}
	}
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
