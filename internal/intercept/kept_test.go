package intercept

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// keeping returns a rig with a call that stores its response.
func keeping(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := newRig(t, change)
	r.books.keeps = true
	return r
}

// TestKeptAnswerWaitsForItsClient checks when a client that has left is charged. A
// client that leaves during the capture is charged if the response is stored, because
// the client can then come back for it. If the response is not stored, the client is
// not charged. A client that left before the capture is never charged. No client that
// has left is sent anything.
func TestKeptAnswerWaitsForItsClient(t *testing.T) {
	for _, kind := range []string{typeJSON, typeEvents} {
		for _, keeps := range []bool{true, false} {
			for _, when := range []string{"before", "during"} {
				for _, detached := range []bool{true, false} {
					name := fmt.Sprintf("%s, keeps %v, left %s the capture, detached %v", kind, keeps, when, detached)
					r := newRig(t, func(o *Options) { o.Detached = detached })
					r.books.keeps = keeps
					if when == "before" {
						r.leave()
					}
					r.books.during = r.leave
					r.upstream(200, map[string]string{"Content-Type": kind}, frame(kind, result))
					if want := keeps && when == "during"; r.books.captured != want {
						t.Errorf("%s: charged is %v, want %v", name, r.books.captured, want)
					}
					if r.out() != "" || !r.Unanswered() {
						t.Errorf("%s: sent %q", name, r.out())
					}
					if want := map[bool]string{true: result}[when == "during" && (keeps || kind == typeJSON)]; strings.Join(r.books.kept, "") != want {
						t.Errorf("%s: given %q, want %q", name, r.books.kept, want)
					}
				}
			}
		}
	}
}

// TestLongAnswerIsNotKept checks that a response too long to hold is not stored. A
// client that leaves during its capture is not charged. A client that stays is
// refunded if the outcome is not charged.
func TestLongAnswerIsNotKept(t *testing.T) {
	for _, kind := range []string{typeJSON, typeEvents} {
		for tail, outcome := range map[string]mcp.Outcome{`},"id":7}`: mcp.OutcomeResult, `,"isError":true},"id":7}`: mcp.OutcomeToolError, ``: mcp.OutcomeUnknown} {
			for _, leaves := range []bool{true, false} {
				name := fmt.Sprintf("%s ending in %q, client leaves %v", kind, tail, leaves)
				r := keeping(t, func(o *Options) { o.Hold, o.Detached = 1000, true })
				if leaves {
					r.books.during = r.leave
				}
				text := frame(kind, `{"jsonrpc":"2.0","result":{"content":["`+long(3000)+`"]`+tail)
				var failure *gate.Refusal
				if tail == "" {
					text, failure = strings.TrimRight(text, "\n"), upstreamFailed("broke")
				}
				r.Header().Set("Content-Type", kind)
				for _, piece := range []string{text[:900], text[900:2000], text[2000:]} {
					if _, err := io.WriteString(r.Interceptor, piece); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				r.end(failure)
				if want := outcome == mcp.OutcomeResult && !leaves; r.books.captured != want || !want && r.books.released == 0 {
					t.Errorf("%s: charged is %v, released %d times", name, r.books.captured, r.books.released)
				}
				if r.books.given[0] != nil {
					t.Errorf("%s: %d bytes were given to be kept", name, len(r.books.given[0]))
				}
			}
		}
	}
}

// TestKeptIsTheMessage checks that exactly the server's message is stored, wherever
// the body is split: without the receipt, the framing of its event, or any other
// event.
func TestKeptIsTheMessage(t *testing.T) {
	lines := "{\"jsonrpc\":\"2.0\",\"id\":7,\n\"result\":{\"content\":[]}}"
	for name, c := range map[string]struct{ kind, body, want string }{
		"JSON":              {typeJSON, result, result},
		"JSON with spaces":  {typeJSON, " \n" + result + "\n", " \n" + result + "\n"},
		"event":             {typeEvents, event(result), result},
		"among others":      {typeEvents, event(progress) + ": comment\n\n" + event(result) + event(progress), result},
		"with other fields": {typeEvents, "id: 5\nevent: message\nretry: 10\ndata:" + result + "\n: comment\n\n", result},
		"in lines":          {typeEvents, "data: " + strings.ReplaceAll(lines, "\n", "\ndata: ") + "\n\n", lines},
		"in lines by CRLF":  {typeEvents, "data: " + strings.ReplaceAll(lines, "\n", "\r\ndata: ") + "\r\n\r\n", lines},
		"by CR":             {typeEvents, "data: " + result + "\r\r", result},
		"after a mark":      {typeEvents, "\xef\xbb\xbfdata: " + result + "\n\n", result},
		"at the end":        {typeEvents, event(progress) + "data: " + result, result},
	} {
		for cut := range len(c.body) {
			r := keeping(t, nil)
			r.upstream(200, map[string]string{"Content-Type": c.kind}, c.body[:cut], c.body[cut:])
			if len(r.books.kept) != 1 || r.books.kept[0] != c.want {
				t.Fatalf("%s, cut at %d: kept %q, want %q", name, cut, r.books.kept, c.want)
			}
			if !strings.Contains(r.out(), "dev.farebox/receipt") {
				t.Fatalf("%s, cut at %d: no receipt in %q", name, cut, r.out())
			}
		}
	}
}

// TestKeptNeverChanges checks that a stored response does not change when later bytes
// reuse the buffers it was read into.
func TestKeptNeverChanges(t *testing.T) {
	for kind, body := range map[string]string{
		typeJSON:   result,
		typeEvents: event(result) + event(foreign) + "data: X\n\n" + event(progress) + ": " + long(200),
	} {
		r := keeping(t, nil)
		r.upstream(200, map[string]string{"Content-Type": kind}, body)
		if got := string(r.books.given[0]); got != result {
			t.Errorf("%s: what was kept became %q", kind, got)
		}
		given := r.books.given[0]
		if _ = append(given, "!"...); string(given) != result {
			t.Errorf("%s: it has room that is not its own", kind)
		}
	}
}

// TestAnswerWithoutReceipt checks promise 1 of docs/promises.md: a response that cannot
// carry a receipt is charged and stored, and passes without a receipt. Such a response
// has a _meta that is not an object, or has _meta twice.
func TestAnswerWithoutReceipt(t *testing.T) {
	for _, meta := range []string{`5`, `[]`, `{},"_meta":{"a":1}`} {
		for _, kind := range []string{typeJSON, typeEvents} {
			answer := `{"jsonrpc":"2.0","id":7,"result":{"content":[],"_meta":` + meta + `}}`
			r := keeping(t, nil)
			r.upstream(200, map[string]string{"Content-Type": kind}, frame(kind, answer))
			if !r.books.captured || len(r.books.kept) != 1 || r.books.kept[0] != answer || r.out() != frame(kind, answer) {
				t.Errorf("%s: given %q, sent %q", kind, r.books.kept, r.out())
			}
		}
	}
	r := keeping(t, nil)
	r.books.started, r.books.captured = true, true // the call was charged when it started, and its error cannot carry a receipt
	r.upstream(200, asJSON, rpcError)
	if r.out() != rpcError {
		t.Errorf("sent %q", r.out())
	}
}

// TestReadAnswerIsAtHand checks a call that must read its response to be settled
// (Call.Reads). Settle gets the whole message, in JSON and in events, even if the
// response is neither stored nor bound. For other calls, no message is extracted from
// an event.
func TestReadAnswerIsAtHand(t *testing.T) {
	for _, kind := range []string{typeJSON, typeEvents} {
		for _, reads := range []bool{true, false} {
			r := newRig(t, nil)
			r.books.reads = reads
			r.upstream(200, map[string]string{"Content-Type": kind}, frame(kind, result))
			if want := map[bool]string{true: result}[reads || kind == typeJSON]; strings.Join(r.books.kept, "") != want {
				t.Errorf("%s, reads %v: given %q", kind, reads, r.books.kept)
			}
		}
	}
}
