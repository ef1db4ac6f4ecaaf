package gate

// callState is the state of a Call. The zero state is stateFree. A paid call leaves
// stateFree when the ledger answers its reservation.
type callState uint8

const (
	stateFree      callState = iota // no price, so nothing to settle
	stateHeld                       // reserved; the only state that can be captured or given back
	stateCaptured                   // captured by this call, and refundable by it
	stateStarted                    // captured before the call was forwarded: never refunded
	stateStanding                   // captured earlier, for another stream of the call; this stream must not refund it
	stateSuspended                  // still reserved, because the client may resume the stream
	stateReleased                   // the reservation was given back
	stateRefunded                   // the capture was refunded, or the refund is owed
	stateFailed                     // the capture failed
	stateReplayed                   // answered by the stored response of an earlier call

	callStates = iota
)

// callEvent moves a Call from one state to another.
type callEvent uint8

const (
	eventReserved  callEvent = iota // the ledger holds the price
	eventReplayed                   // the ledger has a stored response instead
	eventCaptured                   // the ledger made the charge
	eventFound                      // the ledger already had the charge, made for another stream of the call
	eventStarted                    // the call was captured so that it may be forwarded
	eventSuspended                  // the stream broke off
	eventReleased                   // the call ends without a charge
	eventFailed                     // the ledger did not confirm the capture
	eventRefunded                   // the charge is taken back

	callEvents = iota
)

// next returns the state to which the event e leads from the state s. An event that
// is not expected in the state s does not change the state.
func next(s callState, e callEvent) callState {
	switch {
	case s == stateFree && e == eventReserved:
		return stateHeld
	case s == stateFree && e == eventReplayed:
		return stateReplayed
	case s == stateHeld && e == eventSuspended:
		return stateSuspended
	case s == stateHeld && e == eventReleased:
		return stateReleased
	case s == stateHeld && e == eventFailed:
		return stateFailed
	case s.capturable() && e == eventCaptured:
		return stateCaptured
	case s.capturable() && e == eventFound:
		return stateStanding
	case s == stateCaptured && e == eventStarted:
		return stateStarted
	case s == stateCaptured && e == eventRefunded:
		return stateRefunded
	case s == stateFailed && e == eventRefunded: // the capture turned out to have happened
		return stateRefunded
	}
	return s
}

// capturable reports whether a capture may be sent. A task may settle several times
// on one request, and captures each time.
func (s callState) capturable() bool {
	return s == stateHeld || s == stateCaptured || s == stateStanding
}

// charged reports whether a charge exists and has not been refunded.
func (s callState) charged() bool {
	//exhaustive:enforce
	switch s {
	case stateCaptured, stateStarted, stateStanding, stateReplayed:
		return true
	case stateFree, stateHeld, stateSuspended, stateReleased, stateRefunded, stateFailed:
	}
	return false
}

// String returns the state's name, for tests and logs.
func (s callState) String() string {
	return [callStates]string{
		stateFree: "free", stateHeld: "held", stateCaptured: "captured", stateStarted: "started", stateStanding: "standing",
		stateSuspended: "suspended", stateReleased: "released", stateRefunded: "refunded", stateFailed: "failed", stateReplayed: "replayed",
	}[s]
}
