package intercept

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// rule is a charge_on rule as an Interceptor sees it.
type rule struct {
	name      string
	charges   map[mcp.Outcome]bool
	abandoned bool
	started   bool
}

var (
	onResult = map[mcp.Outcome]bool{mcp.OutcomeResult: true}
	onError  = map[mcp.Outcome]bool{mcp.OutcomeToolError: true}
	onBoth   = map[mcp.Outcome]bool{mcp.OutcomeResult: true, mcp.OutcomeToolError: true}

	rules = []rule{
		{"success", onResult, false, false},
		{"tool_error", onError, false, false},
		{"success tool_error", onBoth, false, false},
		{"success abandoned", onResult, true, false},
		{"tool_error abandoned", onError, true, false},
		{"success tool_error abandoned", onBoth, true, false},
		{"started", map[mcp.Outcome]bool{}, false, true},
	}
)

// ruled returns a rig with a call that is charged by the given rule.
func ruled(t *testing.T, rule rule, change func(*Options)) *rig {
	t.Helper()
	r := newRig(t, change)
	r.books.charges, r.books.abandoned, r.books.started = rule.charges, rule.abandoned, rule.started
	r.books.captured = rule.started // the call was captured before it was forwarded
	return r
}

// frame writes a message as a JSON body or as an event.
func frame(kind, message string) string {
	if kind == typeEvents {
		return event(message)
	}
	return message
}

// TestChargeOn covers every rule, outcome and form of a response, with a client that
// stays or leaves. Exactly the outcomes that the rule names are charged. Each charged
// result carries the receipt. A client that has left is sent nothing.
func TestChargeOn(t *testing.T) {
	answers := []struct {
		body    string
		outcome mcp.Outcome // OutcomeUnknown if the response is withheld
		result  bool        // the response can carry a receipt
	}{
		{result, mcp.OutcomeResult, true},
		{toolError, mcp.OutcomeToolError, true},
		{asking, mcp.OutcomeInputRequired, true},
		{rpcError, mcp.OutcomeError, false},
		{foreign, mcp.OutcomeUnknown, false},
		{`{"jsonrpc":"2.0","id":7,"result":{"task":{"taskId":"1"}}}`, mcp.OutcomeUnknown, false},
		{`{"jsonrpc":"2.0","id":7,"resu`, mcp.OutcomeUnknown, false},
	}
	for _, rule := range rules {
		for _, answer := range answers {
			for _, kind := range []string{typeJSON, typeEvents} {
				for _, client := range []string{"stays", "left", "leaves during the capture"} {
					for _, detached := range []bool{true, false} {
						name := fmt.Sprintf("%s, %s in %s, client %s, detached %v", rule.name, answer.body, kind, client, detached)
						r := ruled(t, rule, func(o *Options) { o.Detached = detached })
						switch client {
						case "left":
							r.leave()
						case "leaves during the capture":
							r.books.during = r.leave
						}
						r.upstream(200, map[string]string{"Content-Type": kind}, frame(kind, answer.body))

						gone := r.gone()
						worth := rule.charges[answer.outcome] && (!gone || rule.abandoned)
						if want := rule.started || worth; r.books.captured != want {
							t.Errorf("%s: charged is %v, want %v", name, r.books.captured, want)
						}
						receipt := strings.Contains(r.out(), "dev.farebox/receipt")
						if want := r.books.captured && answer.result && !gone; receipt != want {
							t.Errorf("%s: receipt is %v, want %v, in %q", name, receipt, want, r.out())
						}
						if gone && (r.out() != "" || !r.Unanswered()) || !gone && r.Unanswered() {
							t.Errorf("%s: sent %q, unanswered is %v", name, r.out(), r.Unanswered())
						}
					}
				}
			}
		}
	}
}

// TestChargeOnLongAnswers checks that a long response is captured before it streams
// if its outcome may be charged. If the actual outcome is not charged, the charge
// is refunded. If the client left before the response could stream, the call is
// settled by the actual outcome.
func TestChargeOnLongAnswers(t *testing.T) {
	ends := []struct {
		tail    string
		outcome mcp.Outcome
	}{
		{`},"id":7}`, mcp.OutcomeResult},
		{`,"isError":true},"id":7}`, mcp.OutcomeToolError},
		{`},"id":8}`, mcp.OutcomeUnknown},
		{``, mcp.OutcomeUnknown}, // the response breaks off
	}
	for _, rule := range rules {
		for _, end := range ends {
			for _, kind := range []string{typeJSON, typeEvents} {
				for _, client := range []string{"stays", "left", "leaves during the capture"} {
					for _, detached := range []bool{true, false} {
						name := fmt.Sprintf("%s, end %q in %s, client %s, detached %v", rule.name, end.tail, kind, client, detached)
						r := ruled(t, rule, func(o *Options) { o.Hold, o.Detached = 1000, detached })
						switch client {
						case "left":
							r.leave()
						case "leaves during the capture":
							r.books.during = r.leave
						}
						text := frame(kind, `{"jsonrpc":"2.0","result":{"content":["`+long(3000)+`"]`+end.tail)
						var failure *gate.Refusal
						if end.tail == "" {
							text, failure = strings.TrimRight(text, "\n"), upstreamFailed("broke")
						}
						r.Header().Set("Content-Type", kind)
						for _, piece := range []string{text[:900], text[900:2000], text[2000:]} {
							if _, err := io.WriteString(r.Interceptor, piece); err != nil {
								t.Errorf("%s: %v", name, err)
							}
						}
						r.end(failure)

						gone := r.gone()
						worth := rule.charges[end.outcome] && (!gone || rule.abandoned && detached)
						if want := rule.started || worth; r.books.captured != want {
							t.Errorf("%s: charged is %v, want %v", name, r.books.captured, want)
						}
						if gone && (r.out() != "" || !r.Unanswered()) || !gone && (r.Unanswered() || !strings.HasPrefix(r.out(), text[:2000])) {
							t.Errorf("%s: sent %d bytes, unanswered is %v", name, len(r.out()), r.Unanswered())
						}
						if !gone && !rule.started && r.books.before != "" {
							t.Errorf("%s: %d bytes were out before the capture", name, len(r.books.before))
						}
					}
				}
			}
		}
	}
}

// TestChargeOnWithoutAnswer checks calls without a response. The upstream returns an
// error, or the stream ends without a response. Such a call is charged only if it
// was charged when it started.
func TestChargeOnWithoutAnswer(t *testing.T) {
	for _, rule := range rules {
		for name, play := range map[string]func(*rig){
			"500":              func(r *rig) { r.upstream(500, nil, "") },
			"500 as JSON":      func(r *rig) { r.upstream(500, asJSON, rpcError) },
			"202":              func(r *rig) { r.upstream(202, nil) },
			"stream ends":      func(r *rig) { r.upstream(200, asEvents, event(progress)) },
			"stream breaks":    func(r *rig) { r.WriteHeader(200); r.end(upstreamFailed("broke")) },
			"nothing":          func(r *rig) { r.end(nil) },
			"timeout":          func(r *rig) { r.end(&gate.Refusal{Code: gate.UpstreamTimeout}) },
			"left, then 499":   func(r *rig) { r.leave(); r.upstream(499, nil) },
			"left, then ended": func(r *rig) { r.leave(); r.end(upstreamFailed("cancelled")) },
		} {
			r := ruled(t, rule, nil)
			play(r)
			if r.books.captured != rule.started || r.books.released == 0 {
				t.Errorf("%s, %s: charged is %v, released %d times", rule.name, name, r.books.captured, r.books.released)
			}
			if r.Unanswered() != r.gone() {
				t.Errorf("%s, %s: unanswered is %v", rule.name, name, r.Unanswered())
			}
		}
	}
}

// TestAbandonedAnswerAfterAFailedFlush checks that a response is settled as abandoned
// if the events before it cannot be flushed to the client.
func TestAbandonedAnswerAfterAFailedFlush(t *testing.T) {
	for _, rule := range rules {
		r := ruled(t, rule, nil)
		r.Header().Set("Content-Type", typeEvents)
		r.WriteHeader(200)
		r.wire.fail = context.Canceled
		_, _ = io.WriteString(r.Interceptor, event(result))
		r.end(upstreamFailed("gave up"))
		if want := rule.started || rule.abandoned && rule.charges[mcp.OutcomeResult]; r.books.captured != want {
			t.Errorf("%s: charged is %v, want %v", rule.name, r.books.captured, want)
		}
	}
}

// TestLongNotificationToNobody checks that a long notification is not mistaken for
// the response when the client has left. A later event settles the call.
func TestLongNotificationToNobody(t *testing.T) {
	note := event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + long(2000) + `"}}`)
	for body, charged := range map[string]bool{result: true, toolError: false, foreign: false} {
		r := ruled(t, rule{"success abandoned", onResult, true, false}, func(o *Options) { o.Hold, o.Detached = 1000, true })
		r.leave()
		r.upstream(200, asEvents, note, note, event(body))
		if r.books.captured != charged || r.out() != "" {
			t.Errorf("%s: charged is %v, sent %q", body, r.books.captured, r.out())
		}
	}
}
