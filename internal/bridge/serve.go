package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/purse"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// maxRenewals bounds the sessions that one call begins.
const maxRenewals = 3

var errShortSessions = errors.New("the server ends each new session at once")

// serve gets the response to a request, and writes it to the client.
func (b *Bridge) serve(c *call) {
	r := b.perform(c)
	c.wrote()
	b.settle(c, &r)
	b.calls.release(c)
	if r.state == answered {
		b.write(r.message)
	}
}

// perform sends a request until there is a response, or until a repetition is useless or
// could do harm. The state of its result is answered or gone.
func (b *Bridge) perform(c *call) result {
	if c.ctx.Err() != nil {
		return result{state: gone}
	}
	if err := b.reserve(c); err != nil {
		return b.overBudget(c, err)
	}
	w := waits{patience: &b.patience}
	renewals := 0
	for {
		r := b.attempt(c)
		switch r.state {
		case answered, gone:
			return r
		case noSession:
			if r.err = b.renew(&state{generation: r.generation}); r.err == nil {
				if c.cancelled.Load() { // nobody waits for the call, and it was not run
					return result{state: gone}
				}
				if renewals++; renewals > maxRenewals {
					r.err = errShortSessions
					return b.giveUp(c, &r)
				}
				continue
			}
		case lost:
			c.doubt = true
		}
		if c.cancelled.Load() {
			return result{state: gone}
		}
		bound := b.bound(c, &r)
		if bound > 0 && c.tries == 1 {
			b.notes.say("%s: %v; trying again", describe(c.m), r.reason())
		}
		if bound == 0 || !w.next(c.ctx, r.wait, bound) {
			if c.ctx.Err() != nil {
				return result{state: gone}
			}
			return b.giveUp(c, &r)
		}
	}
}

// bound returns the time for which a request is repeated after an attempt that ended
// like this, or 0 if it must not be repeated.
func (b *Bridge) bound(c *call, r *result) time.Duration {
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(r.err, &untrusted):
		return 0
	case c.streams:
		return maxStreamWait
	case errors.Is(r.err, errNoSession):
		return 0
	case r.state == noSession:
		return b.patience.unsent
	case r.state == busy && c.doubt:
		return b.patience.running
	case r.state == unsent && !c.doubt:
		return b.patience.unsent
	case !c.repeats || r.state == busy:
		return 0
	case r.state == undecided && !c.doubt, !c.costs:
		return b.patience.refused
	}
	return b.patience.doubt
}

// maxStreamWait bounds the repetition of a request for a stream that has no end.
const maxStreamWait = 24 * time.Hour

// giveUp returns the error of a request that is not repeated any more.
func (b *Bridge) giveUp(c *call, r *result) result {
	at := shown(b.o.URL)
	switch r.state {
	case unsent:
		return b.own(c, http.StatusServiceUnavailable, fmt.Sprintf("the server at %s cannot be reached: %v.%s", at, r.reason(), c.chargeText()), nil)
	case busy, undecided:
		if !c.doubt && r.message != nil { // the gateway's own words are right
			r.state = answered
			return *r
		}
		return b.own(c, http.StatusServiceUnavailable, fmt.Sprintf("the response was lost, and repetitions have brought none: %v.%s", r.reason(), c.chargeText()), nil)
	case noSession:
		return b.own(c, http.StatusNotFound, fmt.Sprintf("%v.%s", r.reason(), c.chargeText()), nil)
	}
	return b.own(c, http.StatusBadGateway, fmt.Sprintf("no response came from the server at %s: %v.%s", at, r.reason(), c.chargeText()), nil)
}

// chargeText says whether a request that failed was charged.
func (c *call) chargeText() string {
	switch {
	case !c.costs:
		return ""
	case !c.doubt:
		return " Nothing was charged."
	}
	return " It is not known whether the call was charged: look at the account's charges before you call again."
}

// afterLoss returns chargeText if an earlier attempt may have been charged, otherwise "".
func (c *call) afterLoss() string {
	if !c.doubt {
		return ""
	}
	return c.chargeText()
}

// overBudget refuses a call that the budget cannot pay. Models read the text of a
// tool's result.
func (b *Bridge) overBudget(c *call, err error) result {
	text := "The call was not sent and nothing was charged: " + err.Error() + ". The budget is that of farebox connect (--budget); start the client again with a higher one, if the price is acceptable."
	b.notes.say("%s: %v", describe(c.m), err)
	if c.m.Method != "tools/call" {
		return b.own(c, http.StatusPaymentRequired, text, nil)
	}
	return result{
		state: answered, own: true, message: mcp.AppendToolRefusal(nil, c.m.ID, c.era, text, nil),
		verdict: mcp.Verdict{Class: mcp.ClassAnswer, Outcome: mcp.OutcomeToolError},
	}
}

// reserve reserves the price of a request that may be charged, and adds the maximum to
// the message. The error is a [*purse.BudgetError].
func (b *Bridge) reserve(c *call) error {
	if !c.charged {
		return nil
	}
	hold, err := b.purse.Reserve(itemOf(c.m))
	var over *purse.BudgetError
	if errors.As(err, &over) {
		return over
	}
	c.hold = hold
	if most, limited := hold.Max(); limited {
		c.body = withMaxPrice(c.m, c.body, most)
	}
	return nil
}

// describe names a request for people, such as "tool echo".
func describe(m *mcp.Message) string {
	method, _ := mcp.LookupMethod(m.Method)
	target := method.Target(m)
	switch {
	case target == "":
		return m.Method
	case method.About == mcp.AboutTool:
		return "tool " + target
	}
	return m.Method + " " + target
}

// waits are the waits between the attempts of one request: longer each time, each a
// little different from those of other bridges.
type waits struct {
	patience *patience
	began    time.Time
	n        int
}

// next waits. It returns false without a wait if the bound, counted from the first
// failure, would be exceeded, and also if ctx ends. ask is the wait that the server asks
// for, or 0.
func (w *waits) next(ctx context.Context, ask, bound time.Duration) bool {
	if w.began.IsZero() {
		w.began = clock.Now()
	}
	d := max(ask, jitter(min(w.patience.first<<min(w.n, 10), w.patience.most)))
	if clock.Since(w.began)+d > bound {
		return false
	}
	w.n++
	return sleep(ctx, d) == nil
}

// jitter returns a duration between half of d and d.
func jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}
