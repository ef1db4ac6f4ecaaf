package intercept

import (
	"bytes"
	"errors"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

var errListener = errors.New("farebox: a stream opened by GET brought what is no event, or too long a one")

// writeEvents lets the events of a stream pass, one by one.
func (t *Tap) writeEvents(p []byte) error {
	for len(p) > 0 && t.mode == modeEvents {
		n, done := t.events.Scan(p)
		piece := p[:n]
		p = p[n:]
		last := len(piece)
		// Clients take an event for whole with its last byte: where the others are
		// out by then, that waits for the verdict.
		if done && (t.long || len(t.hold)+n > t.o.Hold) {
			last--
		}
		if err := t.keepEvent(piece[:last]); err != nil {
			return err
		}
		skipped := t.skips
		if done && t.mode == modeEvents {
			if err := t.event(t.events.Verdict()); err != nil {
				return err
			}
		}
		if t.mode == modeEvents && last < len(piece) && !skipped {
			if err := t.send(piece[last:]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tap) keepEvent(piece []byte) error {
	switch {
	case t.long: // the head of this event is out already
		return t.send(piece)
	case t.skips:
		return nil
	}
	return t.keep(piece)
}

// event acts on the event that is complete now.
func (t *Tap) event(v mcp.Verdict) error {
	switch {
	case t.long:
		return t.endLongEvent(v)
	case t.skips:
		t.endSkipped()
		return nil
	}
	switch v.Class {
	case mcp.ClassEmpty, mcp.ClassPassing:
		if v.Guarded && (t.o.Notifies == nil || !t.o.Notifies(mcp.EventData(t.hold))) {
			t.resetHold()
			return nil
		}
		return t.sendHeld(t.hold)
	case mcp.ClassAnswer:
		if t.answered {
			t.resetHold() // one request has one answer
			return nil
		}
		return t.answer(v.Outcome)
	default:
		return t.malformed(v)
	}
}

// malformed acts on an event that is held and is none of a stream of MCP, or
// the answer to another call.
func (t *Tap) malformed(v mcp.Verdict) error {
	switch fate := t.events.Fate(t.hold); {
	case fate == mcp.FatePasses:
		return t.sendHeld(t.hold)
	case fate == mcp.FateWithheld && !t.answered:
		t.refuse(upstreamFailed("a message on its stream cannot be matched: " + reasonOf(v)))
		return nil
	}
	t.leaveOut(v)
	t.resetHold()
	return nil
}

// leaveOut tells of an event that the client does not get.
func (t *Tap) leaveOut(v mcp.Verdict) {
	if t.o.LeftOut != nil {
		t.o.LeftOut(reasonOf(v))
	}
}

// answer settles and lets the answer's event go.
func (t *Tap) answer(outcome mcp.Outcome) error {
	if err := t.flush(); err != nil && !t.o.Call.ChargesAbandoned() { // earlier events do not wait for the capture
		return err
	}
	var message []byte
	if t.o.Call.Keeps() || t.o.Call.Reads() || t.o.Bind != nil {
		message = mcp.EventData(t.hold)
	}
	fields, ok := t.settle(outcome, message)
	if !ok {
		return nil
	}
	t.answered, t.told = true, true
	event, ok := t.dress(t.hold, true, outcome, fields)
	if !ok {
		return nil
	}
	return t.sendHeld(event)
}

func (t *Tap) sendHeld(event []byte) error {
	err := t.send(event)
	t.resetHold()
	return err
}

// resetHold keeps the buffer and its share of the budget for the next event.
func (t *Tap) resetHold() { t.hold = t.hold[:0] }

// endSkipped ends an event of another type that was too long to be held, and
// was left out. If it turned out to be a message, that may have been the answer.
func (t *Tap) endSkipped() {
	t.skips = false
	if !t.events.OtherType() && !t.answered {
		t.refuse(upstreamFailed(tooLongToRead))
		return
	}
	t.leaveOut(mcp.Verdict{Reason: tooLongToRead})
}

// tooLongToRead is why an event is not passed that was not held to its end.
const tooLongToRead = "an event is too long to be read"

// endLongEvent judges an event that was captured and streamed before its end
// was seen. Only an answer to our request, of an outcome that is charged, is
// worth it.
func (t *Tap) endLongEvent(v mcp.Verdict) error {
	unseen, passing := t.unseen, t.passing
	t.long, t.unseen, t.passing = false, false, false
	switch {
	case v.Class == mcp.ClassPassing && v.Guarded: // seen too late to be read
		t.cut()
	case passing && v.Class == mcp.ClassPassing:
	case unseen && v.Class == mcp.ClassAnswer:
		t.settle(v.Outcome, nil)
	case v.Class == mcp.ClassAnswer && t.o.Call.Charges(v.Outcome):
		t.answered, t.told = true, true
	case v.Class == mcp.ClassPassing, v.Class == mcp.ClassEmpty:
		// A long notification, or a comment. The capture stands for the answer that
		// follows, and is refunded if none does.
	case v.Class == mcp.ClassAnswer:
		t.answered = true
		t.o.Call.Release(t.settleContext())
	default:
		t.cut()
	}
	return nil
}

// cut ends a call in the middle of an event that may not pass. Its last byte
// waits, so the client has no whole event.
func (t *Tap) cut() {
	t.o.Call.Release(t.settleContext())
	t.mode, t.broken = modeDone, true
	if t.o.Cancel != nil {
		t.o.Cancel()
	}
}

// endEvents ends a stream. Clients take an event without its blank line for
// whole when the stream ends, so it is judged like the others.
func (t *Tap) endEvents(failure *gate.Refusal) {
	if failure == nil && t.events.Pending() {
		v := t.events.Verdict()
		if len(bytes.TrimRight(t.hold, "\r\n")) > 0 { // else what follows would run into it
			t.hold = append(t.hold, '\n', '\n')
		}
		if t.event(v) != nil {
			t.broken = true
		}
	}
	if t.mode != modeEvents {
		return
	}
	if t.answered {
		t.mode = modeDone
		t.broken = t.flush() != nil
		return
	}
	if t.resumable() && (!t.long || t.passing) && (failure == nil || failure.Code == gate.UpstreamFailed || t.gone()) {
		t.breakOff(failure != nil)
		return
	}
	if failure == nil {
		failure = upstreamFailed("its stream ended without an answer")
	}
	if t.long && !t.unseen { // an event is out in part: it cannot be taken back or ended
		t.mode = modeDone
		switch v := t.events.Verdict(); {
		case t.passing:
			t.broken = true
			t.o.Call.Release(t.settleContext())
		case v.Class == mcp.ClassAnswer && t.o.Call.Charges(v.Outcome): // all of it but its end
			t.broken = true
		default:
			t.giveBack(true)
		}
		return
	}
	t.refuse(failure)
}

// breakOff ends a stream before its answer, as the upstream has: its client is to
// come back for the rest with the id of the last event that it got (MCP
// 2025-11-25, streamable HTTP, resumability).
func (t *Tap) breakOff(broken bool) {
	if t.early { // for an event that was no answer
		t.o.Call.Release(t.settleContext())
	} else {
		t.o.Call.Suspend()
	}
	t.mode, t.told = modeDone, true
	t.broken = broken || t.gone() || t.flush() != nil
}

// giveBack refunds an answer of which a part is out, unless it is the client
// that broke it off: it may have read all that it wanted.
func (t *Tap) giveBack(broken bool) {
	t.broken = broken
	if !t.gone() && !t.o.Resumed { // who comes back may have had it whole before, and may come again
		t.o.Call.Release(t.settleContext())
	}
}

// writeStream passes the rest of a long JSON answer on.
func (t *Tap) writeStream(p []byte) error {
	t.body.Write(p)
	return t.send(p)
}

// endStream judges a long JSON answer that is out already.
func (t *Tap) endStream(failure *gate.Refusal) {
	t.mode = modeDone
	v := t.body.End()
	if t.unseen {
		t.settleUnseen(failure, v)
		return
	}
	if v.Class != mcp.ClassAnswer || !t.o.Call.Charges(v.Outcome) {
		t.giveBack(failure != nil || v.Class != mcp.ClassAnswer)
		return
	}
	t.broken = failure != nil // all of the answer is out: it is paid, whatever came after it
}

// settleUnseen ends the call by a long JSON answer that nobody was there for.
func (t *Tap) settleUnseen(failure *gate.Refusal, v mcp.Verdict) {
	if failure == nil && v.Class == mcp.ClassAnswer {
		t.settle(v.Outcome, nil)
		return
	}
	if failure == nil {
		failure = upstreamFailed("its answer cannot be matched: " + reasonOf(v))
	}
	t.refuse(failure)
}
