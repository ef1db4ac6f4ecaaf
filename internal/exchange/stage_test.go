package exchange

import "testing"

// TestStages checks that a message is read once, in order. At each stage, steps that
// the table does not list are refused, and leave the stage as it is.
func TestStages(t *testing.T) {
	follows := map[stage]map[step]stage{
		unread:   {readBody: consumed},
		consumed: {decodedMessage: decoded},
		decoded:  {refusedHeaders: mismatched},
	}
	for _, s := range []stage{unread, consumed, decoded, mismatched} {
		for _, e := range []step{readBody, decodedMessage, refusedHeaders} {
			want, ok := follows[s][e]
			if !ok {
				want = s
			}
			if got, moved := s.next(e); got != want || moved != ok {
				t.Errorf("stage %d, step %d: %d, %t; want %d, %t", s, e, got, moved, want, ok)
			}
		}
	}
}
