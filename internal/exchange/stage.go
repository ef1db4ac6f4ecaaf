package exchange

import "fmt"

// stage is the progress of reading a request's message.
type stage uint8

const (
	unread     stage = iota // the body can still be read
	consumed                // the body was read, and no message is known
	decoded                 // the message is known
	mismatched              // the message is known, and the headers contradict it
)

// step is an event that moves an exchange to another stage.
type step uint8

const (
	readBody step = iota
	decodedMessage
	refusedHeaders
)

// next returns the stage to which the step e leads from the stage s. It returns false
// if the step is not possible at stage s.
func (s stage) next(e step) (stage, bool) {
	switch {
	case s == unread && e == readBody:
		return consumed, true
	case s == consumed && e == decodedMessage:
		return decoded, true
	case s == decoded && e == refusedHeaders:
		return mismatched, true
	}
	return s, false
}

// advance moves the exchange to its next stage.
func (x *Exchange) advance(e step) {
	next, ok := x.stage.next(e)
	if !ok {
		panic(fmt.Sprintf("exchange: step %d cannot follow stage %d", e, x.stage))
	}
	x.stage = next
}
