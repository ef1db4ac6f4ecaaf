package mcp

import (
	"fmt"
	"strings"
	"testing"
)

// scan resets the Scanner and classifies a message in pieces of the given size in
// bytes.
func scan(s *Scanner, id ID, message string, size int) Verdict {
	s.Reset(id)
	for len(message) > 0 {
		n := min(size, len(message))
		s.Write([]byte(message[:n]))
		message = message[n:]
	}
	return s.End()
}

// scannerTests are messages that a server may send while a request is pending. The
// request's id is "seven" in tests with a name that begins with "text", and 7 otherwise.
var scannerTests = []struct {
	name, message string
	class         Class
	outcome       Outcome
}{
	{"result", `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`, ClassAnswer, OutcomeResult},
	{"result first, id last", `{"result":{"content":[{"type":"text","text":"x"}]},"jsonrpc":"2.0","id":7}`, ClassAnswer, OutcomeResult},
	{"empty result", `{"jsonrpc":"2.0","id":7,"result":{}}`, ClassAnswer, OutcomeResult},
	{"white space around", " \n{\"jsonrpc\":\"2.0\",\"id\": 7 ,\"result\":{}}\r\n", ClassAnswer, OutcomeResult},
	{"escaped keys", `{"\u006asonrpc":"2\u002e0","\u0069d":7,"r\u0065sult":{"is\u0045rror":true}}`, ClassAnswer, OutcomeToolError},
	{"tool error", `{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":true}}`, ClassAnswer, OutcomeToolError},
	{"no tool error", `{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false}}`, ClassAnswer, OutcomeResult},
	{"deeper isError", `{"jsonrpc":"2.0","id":7,"result":{"structuredContent":{"isError":true,"isError":1,"result":{"isError":true}}}}`, ClassAnswer, OutcomeResult},
	{"complete", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}`, ClassAnswer, OutcomeResult},
	{"complete tool error", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","isError":true}}`, ClassAnswer, OutcomeToolError},
	{"input required", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","requestState":"x"}}`, ClassAnswer, OutcomeInputRequired},
	{"escaped input required", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input\u005frequired"}}`, ClassAnswer, OutcomeInputRequired},
	{"task by type", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"t"}}`, ClassAnswer, OutcomeTask},
	{"task by object", `{"jsonrpc":"2.0","id":7,"result":{"task":{"taskId":"t"}}}`, ClassAnswer, OutcomeTask},
	{"task that is none", `{"jsonrpc":"2.0","id":7,"result":{"task":"text"}}`, ClassAnswer, OutcomeResult},
	{"unknown type", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"other"}}`, ClassAnswer, OutcomeUnknown},
	{"type in capitals", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"Complete"}}`, ClassAnswer, OutcomeUnknown},
	{"type null", `{"jsonrpc":"2.0","id":7,"result":{"resultType":null}}`, ClassAnswer, OutcomeUnknown},
	{"long type", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"` + strings.Repeat(" ", captureSize) + `complete"}}`, ClassAnswer, OutcomeUnknown},
	{"input required and error", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","isError":true}}`, ClassAnswer, OutcomeUnknown},
	{"task and error", `{"jsonrpc":"2.0","id":7,"result":{"task":{},"isError":true}}`, ClassAnswer, OutcomeUnknown},
	{"task and input required", `{"jsonrpc":"2.0","id":7,"result":{"task":{},"resultType":"input_required"}}`, ClassAnswer, OutcomeUnknown},
	{"error", `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no","data":{"isError":true}}}`, ClassAnswer, OutcomeError},
	{"error deep down has a result", `{"jsonrpc":"2.0","id":7,"error":{"result":1,"code":1}}`, ClassAnswer, OutcomeError},
	{"other keys twice", `{"jsonrpc":"2.0","x":1,"x":2,"id":7,"result":{"content":1,"content":2}}`, ClassAnswer, OutcomeResult},
	{"text", `{"jsonrpc":"2.0","id":"seven","result":{}}`, ClassAnswer, OutcomeResult},
	{"text escaped", `{"jsonrpc":"2.0","id":"s\u0065ven","result":{}}`, ClassAnswer, OutcomeResult},

	{"notification", `{"jsonrpc":"2.0","method":"notifications/message","params":{"id":7,"result":{}}}`, ClassPassing, 0},
	{"request", `{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}`, ClassPassing, 0},
	{"request with another id", `{"method":"ping","jsonrpc":"2.0","id":"x"}`, ClassPassing, 0},

	{"nothing", ``, ClassEmpty, 0},
	{"white space", " \t\r\n", ClassEmpty, 0},

	{"another id", `{"jsonrpc":"2.0","id":8,"result":{}}`, ClassForeign, 0},
	{"id as a string", `{"jsonrpc":"2.0","id":"7","result":{}}`, ClassForeign, 0},
	{"no id", `{"jsonrpc":"2.0","result":{}}`, ClassForeign, 0},
	{"null id", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}`, ClassForeign, 0},
	{"minus", `{"jsonrpc":"2.0","id":-7,"result":{}}`, ClassForeign, 0},
	{"longer", `{"jsonrpc":"2.0","id":77,"result":{}}`, ClassForeign, 0},
	{"text as a prefix", `{"jsonrpc":"2.0","id":"seve","result":{}}`, ClassForeign, 0},
	{"text with more", `{"jsonrpc":"2.0","id":"seven ","result":{}}`, ClassForeign, 0},
	{"text in capitals", `{"jsonrpc":"2.0","id":"Seven","result":{}}`, ClassForeign, 0},

	{"fraction", `{"jsonrpc":"2.0","id":7.5,"result":{}}`, ClassMalformed, 0},
	{"whole fraction", `{"jsonrpc":"2.0","id":7.0,"result":{}}`, ClassMalformed, 0},
	{"exponent", `{"jsonrpc":"2.0","id":7e0,"result":{}}`, ClassMalformed, 0},
	{"many zeros", `{"jsonrpc":"2.0","id":7.` + strings.Repeat("0", 1000) + `,"result":{}}`, ClassMalformed, 0},
	{"id of 129", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 129) + `","result":{}}`, ClassMalformed, 0},
	{"text of 1000 spaces and more", `{"jsonrpc":"2.0","id":"` + strings.Repeat(" ", 1000) + `seven","result":{}}`, ClassMalformed, 0},
	{"id true", `{"jsonrpc":"2.0","id":true,"result":{}}`, ClassMalformed, 0},
	{"id array", `{"jsonrpc":"2.0","id":[7],"result":{}}`, ClassMalformed, 0},
	{"id twice", `{"jsonrpc":"2.0","id":8,"id":7,"result":{}}`, ClassMalformed, 0},
	{"id twice, escaped", `{"jsonrpc":"2.0","id":8,"\u0069d":7,"result":{}}`, ClassMalformed, 0},
	{"result twice", `{"jsonrpc":"2.0","id":7,"result":{"isError":true},"result":{}}`, ClassMalformed, 0},
	{"isError twice", `{"jsonrpc":"2.0","id":7,"result":{"isError":true,"isError":false}}`, ClassMalformed, 0},
	{"resultType twice", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","resultType":"complete"}}`, ClassMalformed, 0},
	{"task twice", `{"jsonrpc":"2.0","id":7,"result":{"task":{},"task":1}}`, ClassMalformed, 0},
	{"_meta twice", `{"jsonrpc":"2.0","id":7,"result":{"_meta":{},"_meta":{}}}`, ClassAnswer, OutcomeResult},
	{"Result", `{"jsonrpc":"2.0","id":7,"method":"x","Result":{}}`, ClassMalformed, 0},
	{"reſult", `{"jsonrpc":"2.0","method":"x","reſult":{},"id":7}`, ClassMalformed, 0},
	{"ID", `{"jsonrpc":"2.0","id":8,"ID":7,"result":{}}`, ClassMalformed, 0},
	{"id with 1000 invisible characters", `{"jsonrpc":"2.0","id":8,"` + strings.Repeat("\u200b", 1000) + `id":7,"result":{}}`, ClassMalformed, 0},
	{"only id with invisible characters", `{"jsonrpc":"2.0","` + strings.Repeat("\u2028", captureSize) + `id":7,"result":{}}`, ClassMalformed, 0},
	{"text after 256 spaces", `{"jsonrpc":"2.0","id":"` + strings.Repeat(" ", captureSize) + `seven","result":{}}`, ClassMalformed, 0},
	{"id with NUL", `{"jsonrpc":"2.0","id":8,"id\u0000":7,"result":{}}`, ClassMalformed, 0},
	{"iserror", `{"jsonrpc":"2.0","id":7,"result":{"iserror":true}}`, ClassMalformed, 0},
	{"isError with a space", `{"jsonrpc":"2.0","id":7,"result":{"isError ":true}}`, ClassMalformed, 0},
	{"isError a string", `{"jsonrpc":"2.0","id":7,"result":{"isError":"true"}}`, ClassMalformed, 0},
	{"isError null", `{"jsonrpc":"2.0","id":7,"result":{"isError":null}}`, ClassMalformed, 0},
	{"result and error", `{"jsonrpc":"2.0","id":7,"result":{},"error":{}}`, ClassMalformed, 0},
	{"result and null error", `{"jsonrpc":"2.0","id":7,"result":{},"error":null}`, ClassMalformed, 0},
	{"method and result", `{"jsonrpc":"2.0","id":7,"method":"x","result":{}}`, ClassMalformed, 0},
	{"method and error", `{"jsonrpc":"2.0","method":"x","error":{}}`, ClassMalformed, 0},
	{"method a number", `{"jsonrpc":"2.0","method":1}`, ClassMalformed, 0},
	{"request with null id", `{"jsonrpc":"2.0","id":null,"method":"x"}`, ClassPassing, 0},
	{"result null", `{"jsonrpc":"2.0","id":7,"result":null}`, ClassMalformed, 0},
	{"result array", `{"jsonrpc":"2.0","id":7,"result":[{"isError":true}]}`, ClassMalformed, 0},
	{"error a string", `{"jsonrpc":"2.0","id":7,"error":"no"}`, ClassMalformed, 0},
	{"neither", `{"jsonrpc":"2.0","id":7}`, ClassMalformed, 0},
	{"no jsonrpc", `{"id":7,"result":{}}`, ClassMalformed, 0},
	{"jsonrpc 1.0", `{"jsonrpc":"1.0","id":7,"result":{}}`, ClassMalformed, 0},
	{"jsonrpc a number", `{"jsonrpc":2.0,"id":7,"result":{}}`, ClassMalformed, 0},
	{"batch", `[{"jsonrpc":"2.0","id":7,"result":{}}]`, ClassMalformed, 0},
	{"string", `"result"`, ClassMalformed, 0},
	{"two messages", `{"jsonrpc":"2.0","method":"x"}{"jsonrpc":"2.0","id":7,"result":{}}`, ClassMalformed, 0},
	{"truncated", `{"jsonrpc":"2.0","id":7,"result":{}`, ClassMalformed, 0},
	{"byte order mark", "\uFEFF" + `{"jsonrpc":"2.0","id":7,"result":{}}`, ClassAnswer, OutcomeResult},
	{"gzip", "\x1f\x8b\x08\x00", ClassMalformed, 0},
	{"invalid UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"x\":\"\xff\"}}", ClassAnswer, OutcomeResult},
	{"lone surrogate", `{"jsonrpc":"2.0","id":7,"result":{"x":"\ud83d"}}`, ClassAnswer, OutcomeResult},
	{"1024 levels", `{"jsonrpc":"2.0","id":7,"result":{"x":` + nest(MaxAnswerDepth-2) + `}}`, ClassAnswer, OutcomeResult},
	{"1025 levels", `{"jsonrpc":"2.0","id":7,"result":{"x":` + nest(MaxAnswerDepth-1) + `}}`, ClassMalformed, 0},
	{"two byte order marks", "\uFEFF\uFEFF" + `{"jsonrpc":"2.0","id":7,"result":{}}`, ClassMalformed, 0},
	{"_META", `{"jsonrpc":"2.0","id":7,"result":{"_META":{},"_meta":7}}`, ClassAnswer, OutcomeResult},
	{"text with invalid UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":\"seven\xff\",\"result\":{}}", ClassMalformed, 0},
	{"text with half a pair", `{"jsonrpc":"2.0","id":"seven\ud800","result":{}}`, ClassMalformed, 0},
	{"id with invalid UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":8,\"id\xff\":7,\"result\":{}}", ClassMalformed, 0},
	{"id with UTF-8 that is cut", "{\"jsonrpc\":\"2.0\",\"id\":8,\"id\xe2\x82\":7,\"result\":{}}", ClassMalformed, 0},
	{"id with half a pair", `{"jsonrpc":"2.0","id":8,"i\ud800d":7,"result":{}}`, ClassMalformed, 0},
	{"isError with half a pair", `{"jsonrpc":"2.0","id":7,"result":{"isError\udc00":true}}`, ClassMalformed, 0},
	{"version with invalid UTF-8", "{\"jsonrpc\":\"2.0\xff\",\"id\":7,\"result\":{}}", ClassMalformed, 0},
	{"type with half a pair", `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete\ud800"}}`, ClassAnswer, OutcomeUnknown},
	{"method with half a pair", `{"jsonrpc":"2.0","method":"x\ud800"}`, ClassMalformed, 0},
	{"method with invalid UTF-8", "{\"jsonrpc\":\"2.0\",\"method\":\"x\xff\"}", ClassMalformed, 0},
	{"notification without a version", `{"method":"x"}`, ClassPassing, 0},
	{"notification with another version", `{"jsonrpc":2,"method":"x"}`, ClassPassing, 0},
	{"request with a fraction for an id", `{"jsonrpc":"2.0","id":7.5,"method":"x"}`, ClassPassing, 0},
	{"notification with odd text", "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":\"\xff\\ud800\"}}", ClassPassing, 0},
}

// TestScannerClassifies checks the verdict on every kind of message, both whole and in
// pieces of several sizes.
func TestScannerClassifies(t *testing.T) {
	s := NewScanner(ID{})
	for _, tt := range scannerTests {
		t.Run(tt.name, func(t *testing.T) {
			id := IntID(7)
			if strings.HasPrefix(tt.name, "text") {
				id = StringID("seven")
			}
			for _, size := range []int{1 << 20, 1, 2, 3, 5, 17} {
				got := scan(s, id, tt.message, size)
				if got.Class != tt.class || got.Outcome != tt.outcome {
					t.Fatalf("pieces of %d: %+v, want %v %v", size, got, tt.class, tt.outcome)
				}
				needsReason := tt.class == ClassForeign || tt.class == ClassMalformed
				if needsReason != (got.Reason != "") {
					t.Errorf("pieces of %d: reason %q", size, got.Reason)
				}
			}
		})
	}
}

// TestScannerWithoutRequest checks that no message is ClassAnswer if no request is
// pending.
func TestScannerWithoutRequest(t *testing.T) {
	s := NewScanner(ID{})
	for _, tt := range scannerTests {
		want := tt.class
		if want == ClassAnswer {
			want = ClassForeign
		}
		if got := scan(s, ID{}, tt.message, 1<<20); got.Class != want {
			t.Errorf("%s: %+v, want %v", tt.name, got, want)
		}
	}
}

// TestScannerEndIsPure checks that End may be called after each byte, and repeatedly,
// without an effect on the Scanner.
func TestScannerEndIsPure(t *testing.T) {
	message := `{"result":{"content":[]},"jsonrpc":"2.0","id":7}`
	s := NewScanner(IntID(7))
	for i := range len(message) {
		if got := s.End(); got.Class == ClassAnswer {
			t.Fatalf("an answer after %d bytes", i)
		}
		s.Write([]byte(message[i : i+1]))
	}
	for range 2 {
		if got := s.End(); got.Class != ClassAnswer {
			t.Fatal(got)
		}
	}
}

// TestScannerMemoryIsBounded checks that a Scanner does not allocate, even for a message
// with very long keys and strings and with very many keys.
func TestScannerMemoryIsBounded(t *testing.T) {
	long := strings.Repeat("k", 1<<16)
	var many strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&many, `"k%d":1,`, i)
	}
	message := []byte(`{` + many.String() + `"` + long + `":"` + long + `","result":{` + many.String() + `"` + long + `":1},"jsonrpc":"2.0","id":"seven"}`)
	s := NewScanner(ID{})
	id := StringID("seven")
	got := testing.AllocsPerRun(3, func() {
		s.Reset(id)
		s.Write(message)
		if v := s.End(); v.Class != ClassAnswer {
			t.Fatal(v)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestScannerAgreesWithDecode checks that a Scanner agrees with Decode about each
// message that Decode accepts. A request or a notification must be ClassPassing. A
// response must be ClassAnswer for its own id, or ClassMalformed if its result is
// malformed, because Decode does not inspect the result.
func TestScannerAgreesWithDecode(t *testing.T) {
	agreed := 0
	for _, tt := range scannerTests {
		m, err := Decode([]byte(tt.message))
		if err != nil {
			continue
		}
		agreed++
		got := scan(NewScanner(m.ID), m.ID, tt.message, 9)
		switch {
		case m.Kind != KindResponse && got.Class != ClassPassing,
			m.Kind == KindResponse && got.Class != ClassAnswer && got.Class != ClassMalformed:
			t.Errorf("%s: a %v is %+v", tt.name, m.Kind, got)
		}
	}
	if agreed < 20 {
		t.Errorf("only %d messages were compared", agreed)
	}
}
