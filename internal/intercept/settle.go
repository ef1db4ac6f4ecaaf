package intercept

import (
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// verdict is a decision about a response, or about one event of a stream. The zero
// verdict withholds it.
type verdict struct {
	action action
	reason string // reason for the actions withhold and leaveOut
}

// action is the consequence of a verdict.
type action uint8

const (
	withhold action = iota // refuse the call, without a charge
	cut                    // end the stream within an event that was sent in part, so that the event's last byte is never sent
	abandon                // the client has left: send nothing
	leave                  // the client has left but can come back: send nothing, keep the charge
	suspend                // leave the call open, because its result will come later, in the response to another request
	settle                 // settle the call by this response
	accept                 // the call was captured early and its response has been sent: the charge stands
	release                // the response has been sent, but it is not charged: undo the early capture
	refund                 // the response was sent in part: release the call, unless the client broke the response off
	pass                   // send the response or event, without effect on the call
	omit                   // drop the event
	leaveOut               // drop the event and report the reason
	end                    // end the stream here
)

// judgeBody decides about a whole JSON body.
func judgeBody(v mcp.Verdict, status int, hasResult bool) verdict {
	switch {
	case status >= 400 && !hasResult:
		return verdict{action: pass}
	case v.Class != mcp.ClassAnswer || status >= 400: // the body is not the response, or it has a result in spite of an error status
		return verdict{reason: unmatched(v)}
	}
	return verdict{action: settle}
}

// outcomeFacts describe a call for which the response has arrived.
type outcomeFacts struct {
	outcome   mcp.Outcome
	charged   bool // the call charges the outcome
	paid      bool // the call has a price
	binds     bool // handles can be bound to their owner
	abandoned bool // the client has left, and the call does not charge abandoned responses
}

// judgeOutcome decides about the response before the call is settled.
func judgeOutcome(f outcomeFacts) verdict {
	isTask := f.outcome == mcp.OutcomeTask
	switch {
	case f.paid && (isTask && !f.binds || f.outcome == mcp.OutcomeUnknown):
		return verdict{reason: "its result is of a type that cannot be priced"}
	case f.abandoned:
		return verdict{action: abandon}
	case isTask && f.binds && !f.charged: // the result of the task is paid for later, when the client asks for it
		return verdict{action: suspend}
	}
	return verdict{action: settle}
}

// judgeEvent decides about a whole event that is held. allowed is for guarded
// notifications: it reports whether the event may pass. fate is for events that are
// ClassMalformed or ClassForeign.
func judgeEvent(v mcp.Verdict, allowed bool, fate mcp.Fate, s stage) verdict {
	switch {
	case v.Class == mcp.ClassEmpty, v.Class == mcp.ClassPassing:
		if v.Guarded && !allowed {
			return verdict{action: omit}
		}
		return verdict{action: pass}
	case v.Class == mcp.ClassAnswer && s == answered: // a second response, although a request has only one
		return verdict{action: omit}
	case v.Class == mcp.ClassAnswer:
		return verdict{action: settle}
	case fate == mcp.FatePasses:
		return verdict{action: pass}
	case fate == mcp.FateWithheld && s != answered:
		return verdict{reason: "a message on its stream cannot be matched: " + reasonOf(v)}
	}
	return verdict{action: leaveOut, reason: reasonOf(v)}
}

// longFacts describe a response or an event that has become too long to hold.
type longFacts struct {
	status    int
	stage     stage
	rewrites  bool // the response would need to be rewritten
	otherType bool // the event has a type other than message
	guarded   bool // the event may carry a result that another call pays for
	passing   bool // the event cannot be the response
}

// tooLongToRead is the reason to drop an event that was not held to its end.
const tooLongToRead = "an event is too long to be read"

// judgeLong decides about a response or an event that has become too long to hold.
func judgeLong(f longFacts) verdict {
	switch {
	case f.status >= 400:
		return verdict{reason: "its error is too long"}
	case f.otherType: // a client might find a response in the part that is still to come
		return verdict{action: leaveOut}
	case f.stage == answered: // a request has only one response, and this event may be a second one
		return verdict{action: end}
	case f.rewrites:
		return verdict{reason: "its answer is too long to be rewritten"}
	case f.guarded:
		return verdict{reason: tooLongToRead}
	case f.passing: // a long notification, or a request from the server
		return verdict{action: pass}
	}
	return verdict{action: settle}
}

// judgeSkipped decides at the end of a long event that was left out because of its
// type. If the event turns out to be a message after all, the event may have been the
// response.
func judgeSkipped(otherType bool, s stage) verdict {
	if !otherType && s != answered {
		return verdict{reason: tooLongToRead}
	}
	return verdict{action: leaveOut, reason: tooLongToRead}
}

// judgeLongEvent decides at the end of an event that was too long to hold. s is the
// state in which the event arrived. If charged is true, the call charges the event's
// outcome.
//
// The call may have been captured for an event that was not the response: a long
// comment, or a notification that was recognised late. The charge then stands for
// the response that follows, and is refunded if no response follows.
func judgeLongEvent(s state, v mcp.Verdict, charged bool) verdict {
	switch v.Class {
	case mcp.ClassPassing:
		if v.Guarded { // the event was recognised too late to ask whether it may pass
			return verdict{action: cut}
		}
		return verdict{action: pass}
	case mcp.ClassEmpty:
		return verdict{action: pass}
	case mcp.ClassAnswer:
		switch {
		case s == readEvent:
			return verdict{action: settle}
		case charged:
			return verdict{action: accept}
		}
		return verdict{action: release}
	}
	return verdict{action: cut}
}

// endFacts describe an event stream that has ended.
type endFacts struct {
	state     state // the state in which the stream ended
	stage     stage
	failure   *gate.Refusal // the upstream's failure; nil if the upstream ended the stream itself
	gone      bool          // the client has left
	resumable bool          // the client can come back for the rest
	charged   bool          // the long event in progress is a charged response, complete except for its blank line
}

// judgeEnd decides about a stream that has ended.
func judgeEnd(f endFacts) verdict {
	brokeOff := f.failure == nil || f.failure.Code == gate.UpstreamFailed || f.gone
	switch {
	case f.stage == answered:
		return verdict{action: end}
	case f.resumable && brokeOff && f.state != streamEvent && f.state != readEvent:
		return verdict{action: suspend}
	case f.state == passEvent:
		return verdict{action: release}
	case f.state == streamEvent && f.charged:
		return verdict{action: accept}
	case f.state == streamEvent: // a part of the event was sent and cannot be withdrawn
		return verdict{action: refund}
	}
	return verdict{}
}

// judgeSettled decides about a response that is settled, but not sent yet.
func judgeSettled(gone, comesBack bool) verdict {
	switch {
	case !gone:
		return verdict{action: pass}
	case comesBack: // the client gets the response later, for this charge
		return verdict{action: leave}
	}
	return verdict{action: abandon}
}

// unmatched returns the reason to refuse a body that is not the response.
func unmatched(v mcp.Verdict) string { return "its answer cannot be matched: " + reasonOf(v) }

func reasonOf(v mcp.Verdict) string {
	switch {
	case v.Reason != "":
		return v.Reason
	case v.Class == mcp.ClassEmpty:
		return "it is empty"
	case v.Class == mcp.ClassPassing:
		return "it is no answer"
	}
	return "it is no answer to this request"
}
