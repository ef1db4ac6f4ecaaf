package intercept

import (
	"bytes"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// writeEvents splits a piece of the stream into its events.
func (i *Interceptor) writeEvents(p []byte) error {
	for len(p) > 0 && i.state.inEvents() {
		n, done := i.events.Scan(p)
		piece := p[:n]
		p = p[n:]
		last := len(piece)
		// Clients consider an event complete when they get its last byte. If the
		// event is too long to hold, its other bytes are sent immediately, but the
		// last byte waits for the verdict.
		if done && (i.state.longEvent() || len(i.hold)+n > i.o.Hold) {
			last--
		}
		if err := i.writeEvent(piece[:last]); err != nil {
			return err
		}
		skipped := i.state == skipEvent
		if done && i.state.inEvents() {
			if err := i.endEvent(i.events.Verdict()); err != nil {
				return err
			}
		}
		if i.state.inEvents() && last < len(piece) && !skipped {
			if err := i.send(piece[last:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeEvent takes a piece of the current event.
func (i *Interceptor) writeEvent(piece []byte) error {
	switch i.state {
	case streamEvent, passEvent, readEvent:
		return i.send(piece)
	case skipEvent:
		return nil
	}
	return i.keep(piece)
}

// endEvent judges the event that is now complete.
func (i *Interceptor) endEvent(v mcp.Verdict) error {
	was := i.state
	i.step(eventEnd)
	switch was {
	case streamEvent, passEvent, readEvent:
		i.endLongEvent(was, v)
		return nil
	case skipEvent:
		i.drop(judgeSkipped(i.events.OtherType(), i.stage))
		return nil
	}
	return i.endHeldEvent(v)
}

func (i *Interceptor) endHeldEvent(v mcp.Verdict) error {
	var allowed bool
	var fate mcp.Fate
	switch v.Class {
	case mcp.ClassEmpty, mcp.ClassPassing:
		allowed = v.Guarded && i.o.Notifies != nil && i.o.Notifies(mcp.EventData(i.hold))
	case mcp.ClassAnswer:
	default:
		fate = i.events.Fate(i.hold)
	}
	switch verdict := judgeEvent(v, allowed, fate, i.stage); verdict.action {
	case pass:
		return i.sendHeld(i.hold)
	case settle:
		return i.settleEvent(v.Outcome)
	default:
		i.drop(verdict)
	}
	return nil
}

// drop leaves an event out of the stream, or ends the stream with a refusal.
func (i *Interceptor) drop(v verdict) {
	switch v.action {
	case withhold:
		i.refuse(upstreamFailed(v.reason))
		return
	case leaveOut:
		if i.o.LeftOut != nil {
			i.o.LeftOut(v.reason)
		}
	}
	i.resetHold()
}

// settleEvent settles the call by the response in the held event, and sends the
// event.
func (i *Interceptor) settleEvent(outcome mcp.Outcome) error {
	if err := i.flush(); err != nil && !i.o.Call.ChargesAbandoned() { // earlier events need not wait for the capture
		return err
	}
	var message []byte
	if i.o.Call.Keeps() || i.o.Call.Reads() || i.o.Bind != nil {
		message = mcp.EventData(i.hold)
	}
	fields, ok := i.judge(outcome, message)
	if !ok {
		return nil
	}
	i.stage, i.responded = answered, true
	event, ok := i.addMeta(i.hold, true, outcome, fields)
	if !ok {
		return nil
	}
	return i.sendHeld(event)
}

// endLongEvent decides at the end of an event that was too long to hold. Its first
// argument is the state in which the event arrived. The charge stands only for a
// response with a charged outcome.
func (i *Interceptor) endLongEvent(was state, v mcp.Verdict) {
	charged := v.Class == mcp.ClassAnswer && i.o.Call.Charges(v.Outcome)
	switch judgeLongEvent(was, v, charged).action {
	case cut:
		i.cutOff()
	case settle:
		i.judge(v.Outcome, nil)
	case accept:
		i.stage, i.responded = answered, true
	case release:
		i.stage = answered
		i.o.Call.Release(i.settleContext())
	}
}

// endEvents ends the stream. When a stream ends, clients accept an event without its
// blank line, so such an event is judged like any other.
func (i *Interceptor) endEvents(failure *gate.Refusal) {
	if failure == nil && i.events.Pending() {
		v := i.events.Verdict()
		if len(bytes.TrimRight(i.hold, "\r\n")) > 0 { // without the blank line, the next event would become a part of this event
			i.hold = append(i.hold, '\n', '\n')
		}
		if i.endEvent(v) != nil {
			i.broken = true
		}
	}
	if !i.state.inEvents() {
		return
	}
	f := endFacts{state: i.state, stage: i.stage, failure: failure, gone: i.gone(), resumable: i.resumable()}
	if i.state == streamEvent {
		v := i.events.Verdict()
		f.charged = v.Class == mcp.ClassAnswer && i.o.Call.Charges(v.Outcome)
	}
	switch judgeEnd(f).action {
	case end:
		i.step(finish)
		i.broken = i.flush() != nil
	case suspend:
		i.breakOff(failure != nil)
	case release:
		i.leave()
		i.o.Call.Release(i.settleContext())
	case accept:
		i.leave()
	case refund:
		i.step(finish)
		i.refundPart(true)
	default:
		if failure == nil {
			failure = upstreamFailed("its stream ended without an answer")
		}
		i.refuse(failure)
	}
}

// breakOff ends the stream before its response, because the upstream ended the stream
// there. The client is expected to come back for the rest with the id of the last event
// it received (MCP 2025-11-25, streamable HTTP, resumability). If broken is true, the
// upstream failed, and the response cannot be ended properly.
func (i *Interceptor) breakOff(broken bool) {
	if i.stage == precaptured { // the capture was for an event that was not the response
		i.o.Call.Release(i.settleContext())
	} else {
		i.o.Call.Suspend()
	}
	i.step(finish)
	i.responded, i.suspended = true, true
	i.broken = broken || i.gone() || i.flush() != nil
}
