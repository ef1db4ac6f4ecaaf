package server

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestParse: the kinds of messages are distinguished, and a message of a client that could be read in two
// ways is refused.
func TestParse(t *testing.T) {
	for text, want := range map[string]kind{
		`{"jsonrpc":"2.0","id":1,"method":"a"}`:               request,
		`{"jsonrpc":"2.0","method":"a"}`:                      notification,
		`{"jsonrpc":"2.0","id":"1","result":null}`:            response,
		` { "id" : 1 , "error" : { "code" : -32601 } } `:      response,
		`{"id":1,"method":"a","params":{"id":2,"result":{}}}`: request,
	} {
		if m, err := parse([]byte(text), strict); err != nil || m.kind != want {
			t.Errorf("%s: %v, want kind %d", text, err, want)
		}
	}
	for _, text := range []string{
		``, `[]`, `[{"id":1,"method":"a"}]`, `1`, `{}`, `{"id":1}`, `{"id":null,"method":"a"}`, `{"id":{},"method":"a"}`, `{"id":1,"method":"a"} {}`, `{"id":1,"id":2,"method":"a"}`,
		`{"id":1,"method":"a"`, "{\"id\":\"\xff\",\"method\":\"a\"}", `{"ID":1,"Method":"a"}`,
	} {
		if m, err := parse([]byte(text), strict); err == nil {
			t.Errorf("%s: %+v", text, m)
		}
	}
	if m, err := parse([]byte("{\"id\":1,\"result\":\"\xff\"}"), lax); err != nil || m.kind != response {
		t.Errorf("a server's message with invalid UTF-8: %v", err)
	}
}

// TestSet: one value is replaced, and every other byte stays.
func TestSet(t *testing.T) {
	const object = ` { "a" : [1, "id"] , "id" : "x\u0041" ,"p":{"id":2,"_meta": {"t" : 1.0 } } }`
	for _, c := range []struct {
		path []string
		want string
	}{
		{[]string{"id"}, ` { "a" : [1, "id"] , "id" : NEW ,"p":{"id":2,"_meta": {"t" : 1.0 } } }`},
		{[]string{"p", "_meta", "t"}, ` { "a" : [1, "id"] , "id" : "x\u0041" ,"p":{"id":2,"_meta": {"t" : NEW } } }`},
		{[]string{"p", "none", "t"}, object},
		{[]string{"a", "id"}, object},
	} {
		if got := string(set([]byte(object), jsontext.Value("NEW"), c.path...)); got != c.want {
			t.Errorf("%v:\n%s, want\n%s", c.path, got, c.want)
		}
	}
	if keyOf(jsontext.Value(`"\u0041"`)) != keyOf(jsontext.Value(`"A"`)) || keyOf(jsontext.Value(`"1"`)) == keyOf(jsontext.Value(`1`)) {
		t.Error("keys of ids")
	}
}

// TestStreamIsBounded: beyond its bound a stream forgets the oldest messages, never the
// latest.
func TestStreamIsBounded(t *testing.T) {
	s := &stream{max: 10}
	for _, text := range []string{"12345", "67890", "abc", "the answer is long"} {
		s.add([]byte(text), text[0] == 't', "")
	}
	s.add([]byte("late"), false, "")
	events, ended, whole := s.after(0)
	if len(events) != 1 || string(events[0].data) != "the answer is long" || events[0].seq != 4 || !ended || whole {
		t.Errorf("%+v %t %t", events, ended, whole)
	}
}
