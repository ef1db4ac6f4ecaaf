package intercept

import "testing"

// TestStateTransitions checks that every state and input has one next state. A pair
// that cannot happen ends the response, so that a mistake withholds bytes instead of
// leaking them.
func TestStateTransitions(t *testing.T) {
	type pair struct {
		s  state
		in input
	}
	want := map[pair]state{
		{awaitHead, headJSON}:   holdBody,
		{awaitHead, headEvents}: holdEvent,
		{awaitHead, headError}:  relayError,

		{holdBody, longPaid}:   streamBody,
		{holdBody, longUnseen}: readBody,

		{holdEvent, longPaid}:    streamEvent,
		{holdEvent, longPassing}: passEvent,
		{holdEvent, longUnseen}:  readEvent,
		{holdEvent, longOther}:   skipEvent,

		{holdEvent, eventEnd}:   holdEvent,
		{streamEvent, eventEnd}: holdEvent,
		{passEvent, eventEnd}:   holdEvent,
		{readEvent, eventEnd}:   holdEvent,
		{skipEvent, eventEnd}:   holdEvent,
	}
	for s := range stateCount {
		for in := range inputCount {
			if got := s.next(in); got != want[pair{s, in}] {
				t.Errorf("state %d, input %d: got %d, want %d", s, in, got, want[pair{s, in}])
			}
		}
	}
}

// TestStateStreamsOnlyAfterCapture checks that a response streams only after the input
// longPaid, which follows a capture. From every state, the input finish leads to the
// state done.
func TestStateStreamsOnlyAfterCapture(t *testing.T) {
	for s := range stateCount {
		if s.next(finish) != done {
			t.Errorf("state %d survives the end", s)
		}
		for in := range inputCount {
			if next := s.next(in); (next == streamBody || next == streamEvent) != (in == longPaid && (s == holdBody || s == holdEvent)) {
				t.Errorf("state %d, input %d: a response streams in state %d", s, in, next)
			}
			if done.next(in) != done {
				t.Errorf("input %d restarts a response that has ended", in)
			}
		}
	}
}
