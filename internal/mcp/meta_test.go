package mcp

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

var receipt = []Field{{Name: "dev.farebox/receipt", Value: []byte(`"r"`)}}

// TestAddMeta checks that AddMeta changes result._meta and no other byte.
func TestAddMeta(t *testing.T) {
	two := []Field{{Name: "dev.farebox/a", Value: []byte(`{"x": 1}`)}, {Name: `é"`, Value: []byte(`-1.5`)}}
	tests := []struct {
		name, message string
		fields        []Field
		want          string
	}{
		{"no _meta", `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`, receipt,
			`{"jsonrpc":"2.0","id":7,"result":{"_meta":{"dev.farebox/receipt":"r"},"content":[]}}`},
		{"empty result", `{"result":{ },"id":7,"jsonrpc":"2.0"}`, receipt,
			`{"result":{"_meta":{"dev.farebox/receipt":"r"} },"id":7,"jsonrpc":"2.0"}`},
		{"null", `{"result":{"_meta": null ,"x":1}}`, receipt, `{"result":{"_meta": {"dev.farebox/receipt":"r"} ,"x":1}}`},
		{"merged", "{\"result\":{\"_meta\":{\n  \"a\": [1, 2]\n},\"x\":1.50}}\n", receipt,
			"{\"result\":{\"_meta\":{\n  \"a\": [1, 2]\n,\"dev.farebox/receipt\":\"r\"},\"x\":1.50}}\n"},
		{"empty _meta", `{"result":{"_meta":{ }}}`, receipt, `{"result":{"_meta":{"dev.farebox/receipt":"r"}}}`},
		{"the upstream's own is dropped", `{"result":{"_meta":{"dev.farebox/receipt":"forged","a":1,"dev.farebox/x":{"b":[]},"c":2, "d\u0065v.farebox/y":0}}}`, receipt,
			`{"result":{"_meta":{"a":1,"c":2,"dev.farebox/receipt":"r"}}}`},
		{"only dropped", `{"result":{"_meta":{"dev.farebox/x":1}}}`, nil, `{"result":{"_meta":{}}}`},
		{"all twice is dropped", `{"result":{"_meta":{"dev.farebox/receipt":1,"dev.farebox/receipt":2}}}`, receipt, `{"result":{"_meta":{"dev.farebox/receipt":"r"}}}`},
		{"like ours but not ours", `{"result":{"_meta":{"dev.fareboxes/x":1,"x.dev.farebox/":2}}}`, receipt,
			`{"result":{"_meta":{"dev.fareboxes/x":1,"x.dev.farebox/":2,"dev.farebox/receipt":"r"}}}`},
		{"two fields", `{"result":{"_meta":{"é\"":0}}}`, two, `{"result":{"_meta":{"dev.farebox/a":{"x": 1},"é\"":-1.5}}}`},
		{"no fields", `{"result":{"_meta":{ "a" : 1 }}}`, nil, `{"result":{"_meta":{ "a" : 1 }}}`},
		{"no fields, no _meta", `{"result":{}}`, nil, `{"result":{}}`},
		{"no fields, null", `{"result":{"_meta":null}}`, nil, `{"result":{"_meta":null}}`},
		{"deeper _meta stays", `{"params":{"_meta":{"dev.farebox/x":1}},"result":{"content":[{"_meta":{"dev.farebox/x":1}}],"result":{"_meta":{"dev.farebox/x":1}}}}`, receipt,
			`{"params":{"_meta":{"dev.farebox/x":1}},"result":{"_meta":{"dev.farebox/receipt":"r"},"content":[{"_meta":{"dev.farebox/x":1}}],"result":{"_meta":{"dev.farebox/x":1}}}}`},
		{"escaped keys", `{"r\u0065sult":{"\u005fmeta":{"a":"}],"}}}`, receipt, `{"r\u0065sult":{"\u005fmeta":{"a":"}],","dev.farebox/receipt":"r"}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			message := []byte(tt.message)
			got, err := AddMeta(message, tt.fields)
			if err != nil || string(got) != tt.want {
				t.Fatalf("%s, %v; want\n%s", got, err, tt.want)
			}
			if string(message) != tt.message || tt.want != tt.message && &got[0] == &message[0] {
				t.Error("the message itself was changed")
			}
			if !json.Valid(got) {
				t.Error("not JSON")
			}
		})
	}
}

// TestAddMetaWithoutReceipt checks that a result gets no fields if clients could
// find another _meta in it, or could not read its _meta. It also checks that forged
// "dev.farebox/" members are dropped all the same.
func TestAddMetaWithoutReceipt(t *testing.T) {
	for message, want := range map[string]string{
		`{"result":{"_meta":{},"_meta":{}}}`:           ``,
		`{"result":{"_meta":"x"}}`:                     ``,
		`{"result":{"_meta":["dev.farebox/receipt"]}}`: ``,
		`{"result":{"_META":{"a":1}}}`:                 ``,
		`{"result":{"_meta":{},"_Meta":7}}`:            ``,
		`{"result":{"_meta":{"a":1,"dev.farebox/receipt":2},"x":[],"_meta":{"dev.farebox/receipt":3}}}`: `{"result":{"_meta":{"a":1},"x":[],"_meta":{}}}`,
		`{"result":{"_META":{"dev.farebox/receipt":2,"b":1},"_meta":null}}`:                             `{"result":{"_META":{"b":1},"_meta":null}}`,
		"{\"result\":{\"_meta\\ud800\":{\"dev.farebox/receipt\":2}}}":                                   "{\"result\":{\"_meta\\ud800\":{}}}",
	} {
		if want == "" {
			want = message
		}
		for _, fields := range [][]Field{receipt, nil} {
			if got, err := AddMeta([]byte(message), fields); err != nil || string(got) != want {
				t.Errorf("%s: %s, %v; want %s", message, got, err, want)
			}
			if got, err := AddMetaToEvent([]byte("data: "+message+"\n\n"), fields); err != nil || string(got) != "data: "+want+"\n\n" {
				t.Errorf("event of %s: %q, %v", message, got, err)
			}
		}
	}
}

// TestAddMetaDropsByteOrderMark checks that AddMeta drops a byte order mark before the
// message, because some clients cannot read it.
func TestAddMetaDropsByteOrderMark(t *testing.T) {
	const want = `{"result":{"_meta":{"dev.farebox/receipt":"r"}}}`
	if got, err := AddMeta([]byte("\uFEFF"+`{"result":{}}`), receipt); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := AddMetaToEvent([]byte("data: \uFEFF"+`{"result":{}}`+"\n\n"), receipt); err != nil || string(got) != "data: "+want+"\n\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAddMetaRefuses checks that AddMeta refuses a message without exactly one result,
// and fields that are invalid.
func TestAddMetaRefuses(t *testing.T) {
	for _, message := range []string{
		``, `{}`, `[]`, `7`, `{"error":{}}`, `{"result":[]}`, `{"result":null}`, `{"result":{}`, `{"result":{}}x`, `{"result":{}}{}`,
		`{"result":{},"result":{}}`,
		`{"result":{"_meta":{"a":}}}`, `{"result":{"a":[1}}`, `{"x":[,"result":{}}`, `{"result":`, `{"result"`,
	} {
		if got, err := AddMeta([]byte(message), receipt); !errors.Is(err, ErrNoResult) {
			t.Errorf("%s: %s, %v", message, got, err)
		}
		if got, err := AddMetaToEvent([]byte("data: "+message+"\n\n"), receipt); !errors.Is(err, ErrNoResult) {
			t.Errorf("event of %s: %s, %v", message, got, err)
		}
	}
	for _, value := range []string{``, ` `, `x`, `{`, `"`, `1 2`, `1,`, `-`, `1.`, `{}}`, "\"\xff\""} {
		if got, err := AddMeta([]byte(answerJSON), []Field{{"a", []byte(value)}}); !errors.Is(err, ErrField) {
			t.Errorf("value %q: %s, %v", value, got, err)
		}
	}
	for _, fields := range [][]Field{{{"", []byte("1")}}, {{"a\xff", []byte("1")}}, {{"a", []byte("1")}, {"b", []byte("1")}, {"a", []byte("2")}}} {
		if got, err := AddMeta([]byte(answerJSON), fields); !errors.Is(err, ErrField) {
			t.Errorf("fields %q: %s, %v", fields, got, err)
		}
	}
	if _, err := AddMetaToEvent([]byte("id: 1\n\n"), receipt); !errors.Is(err, ErrNoResult) {
		t.Errorf("an event without data: %v", err)
	}
}

// TestAddMetaToEvent checks that the data of an event changes as AddMeta changes it,
// and that the event keeps its other lines and its line ends.
func TestAddMetaToEvent(t *testing.T) {
	const plainJSON, merged = `{"result":{}}`, `{"result":{"_meta":{"dev.farebox/receipt":"r"}}}`
	broken := []Field{{"a", []byte("[1,\r\n2,\r3,\n4]")}}
	tests := []struct {
		name, event string
		fields      []Field
		want        string
	}{
		{"LF", "data: " + plainJSON + "\n\n", receipt, "data: " + merged + "\n\n"},
		{"CRLF", "data: " + plainJSON + "\r\n\r", receipt, "data: " + merged + "\r\n\r"},
		{"CR", "data: " + plainJSON + "\r\r", receipt, "data: " + merged + "\r\r"},
		{"no space", "data:" + plainJSON + "\n\n", receipt, "data: " + merged + "\n\n"},
		{"other lines", "event: message\r\nid: 1\n: c\rdata: " + plainJSON + "\nretry: 5\nfoo\n\n", receipt,
			"event: message\r\nid: 1\n: c\rdata: " + merged + "\nretry: 5\nfoo\n\n"},
		{"many lines", "data: {\"x\":1,\nid: 1\ndata: \"result\":{\ndata:}}\n\n", receipt,
			"id: 1\ndata: {\"x\":1,\ndata: \"result\":{\"_meta\":{\"dev.farebox/receipt\":\"r\"}\ndata: }}\n\n"},
		{"CR before LF", "data: {\rid: 1\rdata: \"result\":{}}\n\n", receipt,
			"id: 1\rdata: {\ndata: \"result\":{\"_meta\":{\"dev.farebox/receipt\":\"r\"}}}\n\n"},
		{"data without colon", "data\ndata: " + plainJSON + "\ndata\n\n", receipt, "data: \ndata: " + merged + "\ndata: \n\n"},
		{"a space that is data", "data:  " + plainJSON + "\n\n", receipt, "data:  " + merged + "\n\n"},
		{"LF of the event before", "\ndata: " + plainJSON + "\n\n", receipt, "\ndata: " + merged + "\n\n"},
		{"byte order mark", "\uFEFFdata: " + plainJSON + "\n\n", receipt, "\uFEFFdata: " + merged + "\n\n"},
		{"unfinished", "id: 1\ndata: " + plainJSON, receipt, "id: 1\ndata: " + merged},
		{"unfinished, two lines", "data: {\ndata: \"result\":{}}", receipt, "data: {\ndata: \"result\":{\"_meta\":{\"dev.farebox/receipt\":\"r\"}}}"},
		{"lines in a field", "data: " + plainJSON + "\n\n", broken, "data: {\"result\":{\"_meta\":{\"a\":[1,\ndata: 2,\ndata: 3,\ndata: 4]}}}\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AddMetaToEvent([]byte(tt.event), tt.fields)
			if err != nil || string(got) != tt.want {
				t.Errorf("%q, %v; want\n%q", got, err, tt.want)
			}
		})
	}
}

// TestOwnAnswersAreWellFormed checks that a Scanner takes the gateway's own responses
// for the response to the request, whatever text and fields they contain.
func TestOwnAnswersAreWellFormed(t *testing.T) {
	fields := []Field{{"dev.farebox/error", []byte(`{"code":"X"}`)}}
	nasty := "a\"\\\x00\n\u2028\xff</script>"
	for _, id := range []ID{IntID(7), StringID("\"\n"), StringID("")} {
		for _, meta := range [][]Field{nil, fields, {{"", []byte("1")}}, {{"a", []byte("}")}}} {
			for _, text := range []string{"", "not charged", nasty} {
				if got := AppendError(nil, id, 402, text, meta); scan(NewScanner(id), id, string(got), 5) != (Verdict{Class: ClassAnswer, Outcome: OutcomeError}) || !json.Valid(got) {
					t.Errorf("%s", got)
				}
				for _, era := range []Era{EraSession, EraStateless} {
					got := AppendToolRefusal([]byte("x"), id, era, text, meta)[1:]
					if scan(NewScanner(id), id, string(got), 5) != (Verdict{Class: ClassAnswer, Outcome: OutcomeToolError}) || !json.Valid(got) {
						t.Errorf("%s", got)
					}
					if strings.Contains(string(got), `"resultType":"complete"`) != (era == EraStateless) {
						t.Errorf("resultType in %v: %s", era, got)
					}
				}
			}
		}
	}
}

// TestOwnAnswersSay checks the exact bytes of the gateway's own responses.
func TestOwnAnswersSay(t *testing.T) {
	fields := []Field{{"dev.farebox/error", []byte(`{"code":"X"}`)}}
	for got, want := range map[string]string{
		string(AppendError(nil, ID{}, InvalidRequest, "no", nil)): `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`,
		string(AppendError(nil, IntID(7), 402, "no", fields)):     `{"jsonrpc":"2.0","id":7,"error":{"code":402,"message":"no","data":{"_meta":{"dev.farebox/error":{"code":"X"}}}}}`,
		string(AppendToolRefusal(nil, IntID(7), EraSession, "no\xff", fields)): `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"no` + "\uFFFD" + `"}],"isError":true,` +
			`"_meta":{"dev.farebox/error":{"code":"X"}}}}`,
		string(AppendToolRefusal(nil, StringID("s"), EraStateless, "no", nil)): `{"jsonrpc":"2.0","id":"s","result":{"content":[{"type":"text","text":"no"}],"isError":true,"resultType":"complete"}}`,
	} {
		if got != want {
			t.Errorf("%s, want\n%s", got, want)
		}
	}
}
