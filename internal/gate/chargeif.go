package gate

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Reads reports whether Settle needs to read the response.
func (c *Call) Reads() bool { return c.when != nil }

// exempt reports whether the operator's charge_if condition exempts a result from the
// charge. Such a condition recognizes results that report a failure only in their text
// or in a field of their own. If the condition cannot judge a result, the result is
// charged, as it would be without a condition, and exempt logs a line for the operator.
// response is the whole message, or nil if the message is too long to hold. If embedded
// is true, the response embeds the result of a task.
func (c *Call) exempt(ctx context.Context, response []byte, embedded bool) bool {
	if c.when == nil || c.on.Has(pricing.Started) {
		return false
	}
	charged, err := c.judge(ctx, response, embedded)
	if err != nil {
		c.log(slog.LevelWarn, "charge_if could not judge a result, which is charged", err)
		c.gate.deps.Metrics.Unjudged(c.entry)
		return false
	}
	return !charged
}

var errNotHeld = errors.New("the answer is too long to be held")

func (c *Call) judge(ctx context.Context, response []byte, embedded bool) (charged bool, err error) {
	if response == nil {
		return false, errNotHeld
	}
	result, err := mcp.ResultOf(response, embedded)
	if err != nil {
		return false, err
	}
	item, err := items.Parse(c.order.Tool)
	if err != nil {
		return false, err
	}
	return c.when.Holds(ctx, item.Name, result)
}
