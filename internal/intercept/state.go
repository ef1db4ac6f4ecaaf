package intercept

// state is the position of an Interceptor in the upstream's response. It decides how
// the next bytes are treated, and changes only through next.
type state uint8

const (
	// done is the state in which all further bytes are dropped.
	done        state = iota
	awaitHead         // no final head has come yet
	holdBody          // a JSON body is held whole
	streamBody        // a JSON body too long to hold: the call is captured, and the body is streamed
	readBody          // a JSON body too long to hold, read only for its outcome: the client has left
	holdEvent         // an event stream: the current event is held
	streamEvent       // an event too long to hold: the call is captured, and the event is streamed
	passEvent         // a long notification or server request: it is streamed without a capture
	readEvent         // a long event, read only for its outcome: the client has left
	skipEvent         // a long event of a type other than message, which is left out
	relayError        // the upstream's own error is streamed; the call has ended without a charge
	stateCount
)

// input is a cause for a change of the state.
type input uint8

const (
	headJSON    input = iota // a head announces JSON
	headEvents               // a head announces an event stream
	headError                // a head announces the upstream's own error
	longPaid                 // the response is too long to hold and has been captured
	longPassing              // the event is too long to hold and cannot be the response
	longUnseen               // the response is too long to hold and its client has left
	longOther                // the event is too long to hold and has a type other than message
	eventEnd                 // the current event is complete
	finish                   // nothing more may pass
	inputCount
)

// transitions maps each state and input to the next state. A missing entry stands
// for the state done, in which nothing can leak.
var transitions = [stateCount][inputCount]state{
	awaitHead:   {headJSON: holdBody, headEvents: holdEvent, headError: relayError},
	holdBody:    {longPaid: streamBody, longUnseen: readBody},
	holdEvent:   {longPaid: streamEvent, longPassing: passEvent, longUnseen: readEvent, longOther: skipEvent, eventEnd: holdEvent},
	streamEvent: {eventEnd: holdEvent},
	passEvent:   {eventEnd: holdEvent},
	readEvent:   {eventEnd: holdEvent},
	skipEvent:   {eventEnd: holdEvent},
}

// next returns the state to which the given input leads from the state s.
func (s state) next(in input) state { return transitions[s][in] }

// inEvents reports whether the response is an event stream that has not ended.
func (s state) inEvents() bool {
	switch s {
	case holdEvent, streamEvent, passEvent, readEvent, skipEvent:
		return true
	}
	return false
}

// longEvent reports whether the beginning of the current event has been sent already,
// or would have been sent if the client had not left.
func (s state) longEvent() bool { return s == streamEvent || s == passEvent || s == readEvent }

// stage is the progress of the call. It never decreases.
type stage uint8

const (
	unsettled   stage = iota
	precaptured       // captured for a long response or event before its end was seen
	answered          // the response has arrived on the stream
)
