package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// seedBodies returns bodies of every shape that occurs in this package's test tables.
func seedBodies() []string {
	bodies := []string{
		string(benchCall), call(`"name":"x","arguments":{"a":[1,2.5e3,null,true,"\u00e9\ud83d\ude00"]},` + modern),
		call(`"name":"cheap","n\u0061me":"x"`), call(`"name":"cheap","nam\u212A":"x"`), meta(`"a":1,"a":2`),
		`{"jsonrpc":"2.0","id":"é\n","method":"tools\/list"}`, `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, "\uFEFF{}", `{"a":1}{`, string(manyKeys(600, "")), string(manyKeys(600, `\u0061`)),
	}
	for _, tt := range scannerTests {
		bodies = append(bodies, tt.message)
	}
	return bodies
}

// FuzzDecodeAgainstJSONText checks that a strict parser accepts every body that Decode
// accepts. The strict parser is jsontext, which accepts neither duplicate names nor
// invalid UTF-8, and only a single JSON text. The test also checks that Decode returns
// ParseError only for invalid JSON, or for JSON that nests too deep.
func FuzzDecodeAgainstJSONText(f *testing.F) {
	for _, body := range seedBodies() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		m, err := Decode(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err == nil {
			if !jsontext.Value(body).IsValid() {
				t.Fatalf("accepted %q as %+v", body, m)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(body) {
			t.Fatalf("the error is %#v", err)
		}
		valid := jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true))
		if e.Code == ParseError && valid && !strings.Contains(e.Reason, "deeper") {
			t.Fatalf("refused %q: %v", body, e)
		}
		if !e.ID.IsZero() && !valid {
			t.Fatalf("took the id %s from %q", e.ID.AppendJSON(nil), body)
		}
	})
}

// FuzzDecodeAgainstEncodingJSON checks that a lax parser reads every accepted body as
// Decode does. The lax parser is encoding/json, which ignores the case of keys and
// takes the last of several equal keys.
func FuzzDecodeAgainstEncodingJSON(f *testing.F) {
	for _, body := range seedBodies() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Decode(body)
		if err != nil {
			return
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(body, &exact); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		var lax benchInto
		if err := json.Unmarshal(body, &lax); err != nil {
			return // skip a body with a member that does not have the type of the struct's field
		}
		if lax.Method != m.Method || lax.Params.Name != m.Name || lax.Params.URI != m.URI ||
			lax.Params.Meta.ProtocolVersion != m.ProtocolVersion || !bytes.Equal(lax.Params.Arguments, m.Arguments) {
			t.Fatalf("%q: %+v, but encoding/json has %+v", body, m, lax)
		}
		if (lax.ID == nil) != m.ID.IsZero() {
			t.Fatalf("%q: id %s, but encoding/json has %s", body, m.ID.AppendJSON(nil), lax.ID)
		}
		if lax.ID == nil {
			return
		}
		var theirs, ours any
		if json.Unmarshal(lax.ID, &theirs) != nil || json.Unmarshal(m.ID.AppendJSON(nil), &ours) != nil || theirs != ours {
			t.Fatalf("%q: id %v, but encoding/json has %v", body, ours, theirs)
		}
		if m.ID.kind == idNumber && string(lax.ID) != strconv.FormatInt(m.ID.number, 10) {
			t.Fatalf("%q: an id that is not canonical", body)
		}
	})
}

// splitter returns a function that returns the size of the next piece, from 1 to 32.
// The sizes are derived from the given bytes, over and over.
func splitter(sizes []byte) func() int {
	i := 0
	return func() int {
		if len(sizes) == 0 {
			return 1
		}
		i++
		return int(sizes[(i-1)%len(sizes)])%32 + 1
	}
}

// FuzzScannerSplit checks that a Scanner and an EventScanner return the same for
// input in pieces as for the whole input, wherever the input is split. It also
// checks that the events of a stream, joined, are the whole stream. If Decode
// accepts the input as a request or a notification, the test requires that the input
// is ClassPassing for a Scanner.
func FuzzScannerSplit(f *testing.F) {
	for i, body := range seedBodies() {
		f.Add([]byte(body), []byte{byte(i), 3})
		f.Add([]byte("id: 1\r\ndata: "+strings.ReplaceAll(body, ",", ",\ndata:")+"\r\n\r\n: c\n\n"), []byte{byte(i), 0, 7})
	}
	f.Add([]byte("data:\r\rx: 1\n\n\r\r\n"), []byte{1})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		for _, id := range []ID{IntID(7), StringID("seven"), {}} {
			whole := scan(NewScanner(id), id, string(data), len(data)+1)
			s, split := NewScanner(id), splitter(sizes)
			for rest := data; len(rest) > 0; {
				n := min(split(), len(rest))
				s.Write(rest[:n])
				rest = rest[n:]
			}
			if got := s.End(); got != whole {
				t.Fatalf("%q: whole %+v, split %+v", data, whole, got)
			}
			if m, err := Decode(data); err == nil && m.Kind != KindResponse && whole.Class != ClassPassing {
				t.Fatalf("%q is a %v, but %+v", data, m.Kind, whole)
			}
		}
		whole, split := cuts(string(data), every(len(data)+1)), cuts(string(data), splitter(sizes))
		if !slices.Equal(whole, split) {
			t.Fatalf("%q: whole %+v, split %+v", data, whole, split)
		}
		var all strings.Builder
		for i, c := range whole {
			all.WriteString(c.bytes)
			if c.bytes == "" || !c.done && i != len(whole)-1 {
				t.Fatalf("%q: %+v", data, whole)
			}
		}
		if all.String() != string(data) {
			t.Fatalf("%q was cut to %q", data, all.String())
		}
	})
}

// FuzzAddMeta checks that a response or event with added fields is still the same
// response. The result's _meta has the added fields and no members that the upstream
// has forged. The rest of the message is unchanged.
func FuzzAddMeta(f *testing.F) {
	for _, body := range seedBodies() {
		f.Add([]byte(body), "r")
		f.Add([]byte("id: 1\ndata: "+strings.ReplaceAll(body, ",", ",\ndata:")+"\n\n"), "\n")
	}
	f.Add([]byte(`{"jsonrpc":"2.0","id":7,"result":{"_meta":{"dev.farebox/receipt":1, "a":[] ,"dev.farebox/x":{}}}}`), "r")
	f.Add([]byte("\uFEFFdata:{\"jsonrpc\":\"2.0\",\rid:\rdata: \"id\":7,\"result\":{ \n\ndata: }}\n\n"), "")
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		fields := []Field{{Name: "dev.farebox/receipt", Value: appendString(nil, value)}}
		id := IntID(7)
		if before := scan(NewScanner(id), id, string(data), len(data)+1); before.Class == ClassAnswer && before.Outcome != OutcomeError {
			merged, err := AddMeta(data, fields)
			if err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			if after := scan(NewScanner(id), id, string(merged), 1); after != before {
				t.Fatalf("%q is %+v, merged %q is %+v", data, before, merged, after)
			}
			if text := bytes.TrimPrefix(data, byteOrderMark); mergeable(text) {
				checkMeta(t, text, merged, value)
			} else if bytes.Count(merged, []byte(ownPrefix)) > bytes.Count(data, []byte(ownPrefix)) {
				t.Fatalf("%q became %q", data, merged)
			}
		}
		checkMetaInEvent(t, data, fields)
	})
}

// mergeable reports whether AddMeta can add fields: the result of the message must have
// at most one _meta, which must be an object or null.
func mergeable(message []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(message), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	metas, inResult := 0, false
	for {
		token, err := d.ReadToken()
		if err != nil {
			return metas <= 1
		}
		_, n := d.StackIndex(d.StackDepth())
		isKey := token.Kind() == '"' && n%2 == 1
		switch {
		case d.StackDepth() == 1 && isKey:
			inResult = token.String() == "result"
		case d.StackDepth() == 2 && inResult && isKey:
			if key, exact := metaName.find([]byte(token.String())); key == keyOther {
				break
			} else if kind := d.PeekKind(); !exact || kind != '{' && kind != 'n' {
				return false
			}
			metas++
		}
	}
}

// members returns two values. The first has the members of a message except result,
// and the members of the result except _meta, with names such as "result.x". The
// second is the _meta of the result.
func members(t *testing.T, message []byte) (map[string]string, json.RawMessage) {
	t.Helper()
	var top, result map[string]json.RawMessage
	if err := json.Unmarshal(message, &top); err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	if err := json.Unmarshal(top["result"], &result); err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	out := map[string]string{}
	for k, v := range top {
		if k != "result" {
			out[k] = string(v)
		}
	}
	for k, v := range result {
		if k != "_meta" {
			out["result."+k] = string(v)
		}
	}
	return out, result["_meta"]
}

// checkMeta compares a response before and after AddMeta has added the receipt field.
func checkMeta(t *testing.T, before, after []byte, value string) {
	t.Helper()
	old, oldMeta := members(t, before)
	now, nowMeta := members(t, after)
	if len(old) != len(now) {
		t.Fatalf("%q became %q", before, after)
	}
	for k, v := range old {
		if now[k] != v {
			t.Fatalf("%q: member %q became %q", before, k, now[k])
		}
	}
	var was, is map[string]json.RawMessage
	if len(oldMeta) > 0 {
		if err := json.Unmarshal(oldMeta, &was); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(nowMeta, &is); err != nil {
		t.Fatal(err)
	}
	if string(is["dev.farebox/receipt"]) != string(appendString(nil, value)) {
		t.Fatalf("%q has no fields", after)
	}
	for k, v := range was {
		if strings.HasPrefix(k, ownPrefix) {
			delete(was, k)
		} else if string(is[k]) != string(v) {
			t.Fatalf("%q: _meta member %q became %q", before, k, is[k])
		}
	}
	if len(is) != len(was)+1 {
		t.Fatalf("%q became %q", before, after)
	}
}

// checkMetaInEvent adds fields to the first event of a stream and checks the result.
// It does nothing if that event is not a response with a result.
func checkMetaInEvent(t *testing.T, stream []byte, fields []Field) {
	t.Helper()
	e := NewEventScanner(IntID(7))
	n, done := e.Scan(stream)
	before := e.Verdict()
	if before.Class != ClassAnswer || before.Outcome == OutcomeError {
		return
	}
	event := stream[:n]
	merged, err := AddMetaToEvent(event, fields)
	if err != nil {
		t.Fatalf("%q: %v", event, err)
	}
	e = NewEventScanner(IntID(7))
	if n, again := e.Scan(merged); n != len(merged) || again != done || e.Verdict() != before {
		t.Fatalf("%q is %+v, merged %q is %+v", event, before, merged, e.Verdict())
	}
	if a, b := otherLines(event), otherLines(merged); a != b {
		t.Fatalf("%q has other lines %q, merged %q", event, a, b)
	}
	_, lines := cutHead(event)
	was, _, _ := eventData(lines)
	_, lines = cutHead(merged)
	is, _, _ := eventData(lines)
	want, err := AddMeta(was, fields)
	if err != nil || !bytes.Equal(is, want) {
		t.Fatalf("%q: data is %q, want %q, %v", event, is, want, err)
	}
}

// otherLines returns all lines of an event except the data lines.
func otherLines(event []byte) string {
	head, lines := cutHead(event)
	out := string(head)
	for at := 0; at < len(lines); {
		text, end := cutLine(lines[at:])
		if _, isData := dataValue(text); !isData {
			out += string(text) + string(end)
		}
		at += len(text) + len(end)
	}
	return out
}
