package bridge

import "github.com/fareboxhq/farebox/internal/mcp"

// settleTask learns from the response to a request about a task, and settles the
// reservation of its call as the gateway settles the call: by the charge in the result,
// or without one if the task has ended without a result to pay for. A response that says
// nothing about the end leaves the reservation as it is.
func (b *Bridge) settleTask(c *call, r *result, s *stamps) {
	id := c.m.TaskID
	hold := b.purse.Task(id)
	if hold == nil || r.own || s.Error != nil {
		return
	}
	outcome, status := r.verdict.Outcome, ""
	if c.m.Method != mcp.MethodTaskResult {
		handles, err := mcp.ReadHandles(r.message)
		if err != nil || handles.TaskID != "" && handles.TaskID != id {
			return
		}
		outcome, status = handles.Embedded, handles.Status
		embedded := stampsOf(encode(object(object(r.message)["result"])))
		s = &embedded
	}
	long := len(r.message) > longResponse
	switch {
	case s.Charge != nil && !long:
		b.purse.Forget(id)
		b.charge(c, hold, s)
	case outcome == mcp.OutcomeToolError, status == "failed", status == "cancelled":
		b.purse.End(id)
	case outcome == mcp.OutcomeResult:
		b.purse.Forget(id)
		hold.Unstamped(long)
	}
}
