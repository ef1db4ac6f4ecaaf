package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// call returns a tools/call with id 7 and the given members in its params.
func call(params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + params + `}}`
}

// meta returns a tools/call with the given members in its _meta.
func meta(members string) string {
	return call(`"name":"cheap","_meta":{` + members + `}`)
}

// nest returns arrays nested n levels deep.
func nest(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// TestDecodeReadsWhatItSays checks that every field of a Message agrees with the body.
func TestDecodeReadsWhatItSays(t *testing.T) {
	tests := []struct {
		name, body string
		want       Message
	}{
		{"request", `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
			Message{Kind: KindRequest, Method: "ping", ID: IntID(1)}},
		{"white space", " \t\r\n{ \"jsonrpc\" : \"2.0\" ,\n\"id\" : 1 , \"method\" : \"ping\" } \n",
			Message{Kind: KindRequest, Method: "ping", ID: IntID(1)}},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			Message{Kind: KindNotification, Method: "notifications/initialized"}},
		{"result", `{"jsonrpc":"2.0","id":"s","result":{"roots":[]}}`,
			Message{Kind: KindResponse, ID: StringID("s")}},
		{"error", `{"jsonrpc":"2.0","id":3,"error":{"code":-1,"message":"no"}}`,
			Message{Kind: KindResponse, ID: IntID(3)}},
		{"call", call(`"name":"a.b/c-d_E9","arguments":{"x":[1,{"y":null}]}`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "a.b/c-d_E9",
				Params: []byte(`{"name":"a.b/c-d_E9","arguments":{"x":[1,{"y":null}]}}`), Arguments: []byte(`{"x":[1,{"y":null}]}`)}},
		{"escapes", `{"jsonrpc":"2.0","\u0069d":"\ud83d\ude00\/","method":"tools\/call","params":{"n\u0061me":"t\u006f\u006fl"}}`,
			Message{Kind: KindRequest, Method: "tools/call", ID: StringID("😀/"), Name: "tool",
				Params: []byte(`{"n\u0061me":"t\u006f\u006fl"}`)}},
		{"params last first", `{"params":{"name":"x"},"method":"tools/call","id":-5,"jsonrpc":"2.0"}`,
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(-5), Name: "x", Params: []byte(`{"name":"x"}`)}},
		{"meta", meta(`"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "cheap", ProtocolVersion: "2026-07-28",
				Params: []byte(`{"name":"cheap","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1}}`),
				Meta:   []byte(`{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1}`)}},
		{"highest price", meta(`"dev.farebox\/max-pr\u0069ce":"0.05"`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "cheap", MaxPrice: "0.05",
				Params: []byte(`{"name":"cheap","_meta":{"dev.farebox\/max-pr\u0069ce":"0.05"}}`),
				Meta:   []byte(`{"dev.farebox\/max-pr\u0069ce":"0.05"}`)}},
		{"task", call(`"name":"x","task":{"ttl":1}`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "x", Task: true, Params: []byte(`{"name":"x","task":{"ttl":1}}`)}},
		{"task null", call(`"name":"x","task":null`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "x", Task: true, Params: []byte(`{"name":"x","task":null}`)}},
		{"follow by state", call(`"name":"x","requestState":"s"`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "x", Follow: true, HasState: true, RequestState: "s", Params: []byte(`{"name":"x","requestState":"s"}`)}},
		{"follow by responses", call(`"name":"x","inputResponses":{}`),
			Message{Kind: KindRequest, Method: "tools/call", ID: IntID(7), Name: "x", Follow: true, Params: []byte(`{"name":"x","inputResponses":{}}`)}},
		{"prompt", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"any thing é"}}`,
			Message{Kind: KindRequest, Method: "prompts/get", ID: IntID(1), Name: "any thing é", Params: []byte(`{"name":"any thing é"}`)}},
		{"resource", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`,
			Message{Kind: KindRequest, Method: "resources/read", ID: IntID(1), URI: "file:///a", Params: []byte(`{"uri":"file:///a"}`)}},
		{"task id and cursor", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"taskId":"t1","cursor":"c1"}}`,
			Message{Kind: KindRequest, Method: "x", ID: IntID(1), TaskID: "t1", Cursor: "c1", Params: []byte(`{"taskId":"t1","cursor":"c1"}`)}},
		{"other types than strings", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":1,"uri":[],"taskId":{},"cursor":null,"arguments":"a"}}`,
			Message{Kind: KindRequest, Method: "x", ID: IntID(1), Arguments: []byte(`"a"`),
				Params: []byte(`{"name":1,"uri":[],"taskId":{},"cursor":null,"arguments":"a"}`)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			got, err := Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", tt.want) {
				t.Errorf("got\n%+v, want\n%+v", got, tt.want)
			}
			if string(body) != tt.body {
				t.Error("the body was changed")
			}
			if got.ID != tt.want.ID {
				t.Errorf("id %v is not == %v", got.ID, tt.want.ID)
			}
		})
	}
}

// TestDecodeAliasesBody checks that the raw parts of a Message are slices of the body,
// not copies: the caller forwards exactly the bytes that Decode has read.
func TestDecodeAliasesBody(t *testing.T) {
	body := []byte(call(`"name":"x","arguments":{"a":1},"_meta":{"b":2}`))
	m, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string][]byte{"params": m.Params, "arguments": m.Arguments, "meta": m.Meta} {
		i := bytes.Index(body, part)
		if i < 0 || &body[i] != &part[0] {
			t.Errorf("%s does not alias the body", name)
		}
	}
}

// TestDecodeRefuses checks that Decode refuses a body if two parsers could read it
// differently, or if it is not a message. It also checks that the error has the
// right code, and has the message's id only if that id is certain.
func TestDecodeRefuses(t *testing.T) {
	none, seven := ID{}, IntID(7)
	tests := []struct {
		name, body string
		code       int
		id         ID
	}{
		// Calls for which a real server ran one tool while a gateway saw a cheaper one.
		{"duplicate name", call(`"name":"cheap","name":"expensive"`), InvalidRequest, seven},
		{"duplicate params", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"cheap"},"params":{"name":"expensive"}}`, InvalidRequest, seven},
		{"Name", call(`"name":"cheap","Name":"expensive"`), InvalidRequest, seven},
		{"Params", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"cheap"},"Params":{"name":"expensive"}}`, InvalidRequest, seven},
		{"paramſ", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"cheap"},"paramſ":{"name":"expensive"}}`, InvalidRequest, seven},
		{"escaped duplicate name", call(`"name":"cheap","n\u0061me":"expensive"`), InvalidRequest, seven},
		{"duplicate method", `{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call","params":{"name":"x"}}`, InvalidRequest, seven},
		{"Method beside method", `{"jsonrpc":"2.0","id":7,"method":"ping","Method":"tools/call","params":{"name":"x"}}`, InvalidRequest, seven},
		{"only Method", `{"jsonrpc":"2.0","id":7,"Method":"tools/call","params":{"name":"x"}}`, InvalidRequest, seven},
		{"batch", `[{"jsonrpc":"2.0","id":7,"method":"ping"},{"jsonrpc":"2.0","id":8,"method":"ping"}]`, InvalidRequest, none},
		{"byte order mark", "\uFEFF" + call(`"name":"x"`), ParseError, none},
		{"second document", call(`"name":"x"`) + call(`"name":"y"`), ParseError, none},
		{"second document on a line", call(`"name":"x"`) + "\n{}", ParseError, none},
		{"UTF-16", "{\x00\"\x00", ParseError, none},
		{"gzip", "\x1f\x8b\x08", ParseError, none},
		{"name with NUL", call(`"name":"cheap","name\u0000":"expensive"`), InvalidRequest, seven},
		{"only name with NUL", call(`"name\u0000":"expensive"`), InvalidRequest, seven},

		// Keys that equal a reserved key after folding or trimming.
		{"ID", `{"jsonrpc":"2.0","id":7,"ID":8,"method":"ping"}`, InvalidRequest, none},
		{"İd", `{"jsonrpc":"2.0","id":7,"\u0130d":8,"method":"ping"}`, InvalidRequest, none},
		{"uRı", call(`"name":"x","uR\u0131":"y"`), InvalidRequest, seven},
		{"taSK with the Kelvin sign", call(`"name":"x","tas\u212A":{}`), InvalidRequest, seven},
		{"leading space", call(`"name":"x"," name":"y"`), InvalidRequest, seven},
		{"trailing tab", call(`"name":"x","name\t":"y"`), InvalidRequest, seven},
		{"no-break space", call(`"name":"x","\u00a0arguments":{}`), InvalidRequest, seven},
		{"zero-width space", call(`"name":"x","na\u200bme":"y"`), InvalidRequest, seven},
		{"byte order mark in a key", call(`"name":"x","\ufeffname":"y"`), InvalidRequest, seven},
		{"soft hyphen", call(`"name":"x","argu\u00adments":{}`), InvalidRequest, seven},
		{"variation selector", call(`"name":"x","name\ufe0f":"y"`), InvalidRequest, seven},
		{"tag character", call(`"name":"x","name\udb40\udc41":"y"`), InvalidRequest, seven},
		{"Hangul filler", call(`"name":"x","name\u3164":"y"`), InvalidRequest, seven},
		{"Result beside method", `{"jsonrpc":"2.0","id":7,"method":"ping","Result":{}}`, InvalidRequest, seven},
		{"jsonRPC", `{"jsonrpc":"2.0","jsonRPC":"2.0","id":7,"method":"ping"}`, InvalidRequest, seven},
		{"requeststate", call(`"name":"x","requeststate":"y"`), InvalidRequest, seven},
		{"InputResponses", call(`"name":"x","InputResponses":{}`), InvalidRequest, seven},
		{"Cursor", call(`"name":"x","Cursor":"y"`), InvalidRequest, seven},
		{"taskid", call(`"name":"x","taskid":"y"`), InvalidRequest, seven},
		{"Ref", call(`"name":"x","Ref":{}`), InvalidRequest, seven},
		{"Argument", call(`"name":"x","Argument":{}`), InvalidRequest, seven},
		{"_Meta", call(`"name":"x","_Meta":{}`), InvalidRequest, seven},
		{"hidden far away", call(`"name":"x","` + strings.Repeat(" ", 100000) + `name":"y"`), InvalidRequest, seven},
		{"version in capitals", meta(`"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"`), InvalidRequest, seven},
		{"prefix in capitals", meta(`"IO.modelcontextprotocol/protocolVersion":"2026-07-28"`), InvalidRequest, seven},
		{"highest price in capitals", meta(`"dev.farebox/Max-Price":"1"`), InvalidRequest, seven},
		{"highest price with a space", meta(`"dev.farebox/max-price ":"1"`), InvalidRequest, seven},
		{"highest price twice", meta(`"dev.farebox/max-price":"1","dev.farebox/max-pric\u0065":"2"`), InvalidRequest, seven},
		{"prefix in capitals, long", meta(`"Io.modelcontextprotocol/` + strings.Repeat("x", 100) + `":1`), InvalidRequest, seven},
		{"prefix with a space", meta(`" io.modelcontextprotocol/any":1`), InvalidRequest, seven},
		{"prefix with the Kelvin sign and more", meta(`"io.modelcontextprotocol\u200b/é":1`), InvalidRequest, seven},

		// Duplicates at every level.
		{"duplicate jsonrpc", `{"jsonrpc":"2.0","jsonrpc":"2.0","id":7,"method":"ping"}`, InvalidRequest, seven},
		{"duplicate id", `{"jsonrpc":"2.0","id":7,"id":7,"method":"ping"}`, InvalidRequest, none},
		{"duplicate unknown", `{"jsonrpc":"2.0","id":7,"x":1,"x":2,"method":"ping"}`, InvalidRequest, seven},
		{"duplicate in _meta", meta(`"a":1,"a":2`), InvalidRequest, seven},
		{"duplicate in arguments", call(`"name":"x","arguments":{"text":"a","text":"b"}`), InvalidRequest, seven},
		{"duplicate deeper", call(`"name":"x","arguments":{"a":[{"b":{"c":1,"d":2,"c":3}}]}`), InvalidRequest, seven},
		{"duplicate empty key", call(`"name":"x","arguments":{"":1,"":2}`), InvalidRequest, seven},
		{"duplicate by surrogates", call(`"name":"x","arguments":{"\ud83d\ude00":1,"😀":2}`), InvalidRequest, seven},

		// Messages without a single meaning.
		{"method and result", `{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}`, InvalidRequest, seven},
		{"method and error", `{"jsonrpc":"2.0","id":7,"method":"ping","error":{}}`, InvalidRequest, seven},
		{"result and error", `{"jsonrpc":"2.0","id":7,"result":{},"error":{}}`, InvalidRequest, seven},
		{"nothing", `{"jsonrpc":"2.0","id":7}`, InvalidRequest, seven},
		{"empty object", `{}`, InvalidRequest, none},
		{"response without id", `{"jsonrpc":"2.0","result":{}}`, InvalidRequest, none},
		{"no jsonrpc", `{"id":7,"method":"ping"}`, InvalidRequest, seven},
		{"jsonrpc 1.0", `{"jsonrpc":"1.0","id":7,"method":"ping"}`, InvalidRequest, seven},
		{"jsonrpc a number", `{"jsonrpc":2.0,"id":7,"method":"ping"}`, InvalidRequest, seven},
		{"method a number", `{"jsonrpc":"2.0","id":7,"method":1}`, InvalidRequest, seven},
		{"method empty", `{"jsonrpc":"2.0","id":7,"method":""}`, InvalidRequest, seven},
		{"string", `"ping"`, InvalidRequest, none},
		{"number", `7`, InvalidRequest, none},
		{"null", `null`, InvalidRequest, none},
		{"empty body", ``, ParseError, none},
		{"white space only", " \n", ParseError, none},

		// Ids that are refused.
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, InvalidRequest, none},
		{"id fraction", `{"jsonrpc":"2.0","id":7.5,"method":"ping"}`, InvalidRequest, none},
		{"id whole fraction", `{"jsonrpc":"2.0","id":7.0,"method":"ping"}`, InvalidRequest, none},
		{"id exponent", `{"jsonrpc":"2.0","id":7e0,"method":"ping"}`, InvalidRequest, none},
		{"id minus zero", `{"jsonrpc":"2.0","id":-0,"method":"ping"}`, InvalidRequest, none},
		{"id plus", `{"jsonrpc":"2.0","id":+7,"method":"ping"}`, ParseError, none},
		{"id leading zero", `{"jsonrpc":"2.0","id":07,"method":"ping"}`, ParseError, none},
		{"id too large", `{"jsonrpc":"2.0","id":9007199254740992,"method":"ping"}`, InvalidRequest, none},
		{"id too small", `{"jsonrpc":"2.0","id":-9007199254740992,"method":"ping"}`, InvalidRequest, none},
		{"id of 2^64+7", `{"jsonrpc":"2.0","id":18446744073709551623,"method":"ping"}`, InvalidRequest, none},
		{"id true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, InvalidRequest, none},
		{"id object", `{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}`, InvalidRequest, none},
		{"id of 129 bytes", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 129) + `","method":"ping"}`, InvalidRequest, none},
		{"id of 65 two-byte characters", `{"jsonrpc":"2.0","id":"` + strings.Repeat("é", 65) + `","method":"ping"}`, InvalidRequest, none},

		// Rules about params, and rules of single methods.
		{"params array", `{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}`, InvalidParams, seven},
		{"params null", `{"jsonrpc":"2.0","id":7,"method":"ping","params":null}`, InvalidParams, seven},
		{"_meta a string", call(`"name":"x","_meta":"y"`), InvalidParams, seven},
		{"_meta null", call(`"name":"x","_meta":null`), InvalidParams, seven},
		{"version a number", meta(`"io.modelcontextprotocol/protocolVersion":20260728`), InvalidParams, seven},
		{"highest price a number", meta(`"dev.farebox/max-price":0.05`), InvalidParams, seven},
		{"highest price null", meta(`"dev.farebox/max-price":null`), InvalidParams, seven},
		{"highest price empty", meta(`"dev.farebox/max-price":""`), InvalidParams, seven},
		{"version empty", meta(`"io.modelcontextprotocol/protocolVersion":""`), InvalidParams, seven},
		{"call without id", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}`, InvalidRequest, none},
		{"call without params", `{"jsonrpc":"2.0","id":7,"method":"tools/call"}`, InvalidParams, seven},
		{"call without name", call(`"arguments":{}`), InvalidParams, seven},
		{"call with a name that is no string", call(`"name":["x"]`), InvalidParams, seven},
		{"arguments null", call(`"name":"x","arguments":null`), InvalidParams, seven},
		{"arguments array", call(`"name":"x","arguments":[]`), InvalidParams, seven},
		{"arguments string", call(`"name":"x","arguments":"{}"`), InvalidParams, seven},
		{"prompt without name", `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{}}`, InvalidParams, seven},
		{"resource without uri", `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"name":"x"}}`, InvalidParams, seven},
		{"resource with a number", `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":1}}`, InvalidParams, seven},

		// The first fault is reported, but invalid JSON takes precedence.
		{"duplicate, then broken", `{"jsonrpc":"2.0","id":7,"id":7,"method":"ping"`, ParseError, none},
		{"truncated after the id", `{"jsonrpc":"2.0","id":7,`, ParseError, none},
		{"65 levels", call(`"name":"x","arguments":{"a":` + nest(62) + `}`), ParseError, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Decode([]byte(tt.body))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("accepted as %+v", m)
			}
			if e.Code != tt.code || e.ID != tt.id {
				t.Errorf("refused with %d and id %s (%v), want %d and %s", e.Code, e.ID.AppendJSON(nil), e, tt.code, tt.id.AppendJSON(nil))
			}
			if e.Offset < 0 || e.Offset > len(tt.body) {
				t.Errorf("offset %d of %d bytes", e.Offset, len(tt.body))
			}
			if has := strings.HasSuffix(e.Error(), fmt.Sprintf(" (at byte %d)", e.Offset)); has != (e.Offset > 0) {
				t.Errorf("the error at byte %d is %q", e.Offset, e.Error())
			}
			if strings.Contains(e.Error(), "expensive") {
				t.Errorf("the error quotes the message: %v", e)
			}
		})
	}
}

// TestDecodeTakesWhatOnlyLooksOdd checks that Decode accepts unusual bodies that have
// only one meaning.
func TestDecodeTakesWhatOnlyLooksOdd(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":9007199254740991,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":-9007199254740991,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":0,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":"","method":"ping"}`,
		`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 128) + `","method":"ping"}`,
		`{"jsonrpc":"2.0","id":"` + strings.Repeat(`\u0078`, 128) + `","method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","extra":{"Name":1,"name":2}}`,
		call(`"name":"x","names":1,"nam":2,"taskIds":3,"é":4`),
		call(`"name":"x","arguments":{"name":1,"Name":2,"NAME":3,"jsonrpc":4}`),
		call(`"name":"x","arguments":{"a":"\u0000\ud83d\ude00","b":1.5e-300,"c":-0}`),
		call(`"name":"x","arguments":{"a":` + nest(61) + `}`),
		call(`"name":"` + strings.Repeat("a", 128) + `"`),
		meta(`"io.modelcontextprotocol/other":1,"com.example/X":2,"com.example/x":3,"progressToken":"p"`),
		call(`"name":"x","_meta":{}`),
	} {
		if _, err := Decode([]byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestDecodeFindsDuplicatesInLargeObjects checks that Decode finds a duplicate key at
// any place among any number of keys, both by direct comparison in small objects and by
// sorting in large ones.
func TestDecodeFindsDuplicatesInLargeObjects(t *testing.T) {
	for _, n := range []int{1, 2, 15, 16, 17, 18, 31, 33, 64, 1000} {
		for _, at := range []int{0, n / 2, n - 1} {
			keys := make([]string, 0, n+1)
			for i := range n {
				keys = append(keys, fmt.Sprintf(`"k%d":{"k0":1,"k%d":2}`, i, i+1))
			}
			unique := call(`"name":"x","arguments":{` + strings.Join(keys, ",") + `}`)
			if _, err := Decode([]byte(unique)); err != nil {
				t.Fatalf("%d different keys: %v", n, err)
			}
			for _, again := range []string{fmt.Sprintf(`"k%d":0`, at), fmt.Sprintf(`"\u006B%d":0`, at)} {
				twice := call(`"name":"x","arguments":{` + strings.Join(append(keys, again), ",") + `}`)
				_, err := Decode([]byte(twice))
				var e *Error
				if !errors.As(err, &e) || e.Offset != strings.LastIndex(twice, again) {
					t.Errorf("key %d of %d again as %s: %v, want offset %d", at, n, again, err, strings.LastIndex(twice, again))
				}
			}
		}
	}
}

// TestDecodeHardlyAllocates checks that Decode makes at most two allocations: one for
// the tool's name and one for a string id.
func TestDecodeHardlyAllocates(t *testing.T) {
	body := bytes.Replace(benchCall, []byte("4711"), []byte(`"a-string-id"`), 1)
	got := testing.AllocsPerRun(100, func() {
		if _, err := Decode(body); err != nil {
			t.Fatal(err)
		}
	})
	if got > 2 {
		t.Errorf("%v allocations, want at most 2", got)
	}
}

// TestIDsAreEqualOnlyIfTheSame checks that two ids are == only if they are the same
// id.
func TestIDsAreEqualOnlyIfTheSame(t *testing.T) {
	ids := []ID{{}, IntID(0), IntID(1), IntID(-1), StringID(""), StringID("0"), StringID("1"), StringID("null")}
	for i, a := range ids {
		for j, b := range ids {
			if (a == b) != (i == j) {
				t.Errorf("%s == %s is %v", a.AppendJSON(nil), b.AppendJSON(nil), a == b)
			}
		}
		if a.IsZero() != (i == 0) {
			t.Errorf("IsZero of %s is %v", a.AppendJSON(nil), a.IsZero())
		}
	}
	if !IntID(1<<53).IsZero() || !IntID(-1<<53).IsZero() || !StringID(strings.Repeat("x", 129)).IsZero() {
		t.Error("an id beyond the bounds was made")
	}
}

// TestIDMarshals checks that an id is written as the same JSON value from which it was
// read.
func TestIDMarshals(t *testing.T) {
	for _, tt := range []struct {
		id   ID
		want string
	}{
		{ID{}, `null`}, {IntID(-12), `-12`}, {IntID(maxIDNumber), `9007199254740991`},
		{StringID("a\"\\\n\x01é😀</script>"), `"a\"\\\n\u0001é😀</script>"`},
	} {
		if got := string(tt.id.AppendJSON([]byte("x"))); got != "x"+tt.want {
			t.Errorf("got %s, want x%s", got, tt.want)
		}
		raw, err := json.Marshal(map[string]ID{"id": tt.id})
		if err != nil || !json.Valid(raw) {
			t.Errorf("json.Marshal: %s, %v", raw, err)
		}
		if tt.id.kind == idText {
			var back string
			if err := json.Unmarshal(tt.id.AppendJSON(nil), &back); err != nil || back != tt.id.text {
				t.Errorf("read back %q, %v", back, err)
			}
		}
	}
}

// TestEnumerationsHaveNames checks that String returns a different name for every
// value of each enumeration.
func TestEnumerationsHaveNames(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"request": KindRequest, "notification": KindNotification, "response": KindResponse, "Kind(0)": Kind(0),
		"session": EraSession, "stateless": EraStateless, "Era(9)": Era(9),
		"malformed": ClassMalformed, "empty": ClassEmpty, "passing": ClassPassing, "answer": ClassAnswer, "foreign": ClassForeign, "Class(9)": Class(9),
		"unknown": OutcomeUnknown, "result": OutcomeResult, "tool_error": OutcomeToolError, "error": OutcomeError,
		"input_required": OutcomeInputRequired, "task": OutcomeTask, "Outcome(9)": Outcome(9),
	} {
		if v.String() != want {
			t.Errorf("got %s, want %s", v, want)
		}
	}
}
