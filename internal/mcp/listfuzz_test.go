package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// listPolicy encodes the options of a rewriting in one number, so that the fuzzer
// can vary them. Bits 0 to 3 select the items that stay. Bits 4 to 7 select the
// items that get fields. Bits 8 to 11 are the flags below. Bits 12 and 13 select the
// kind of list.
type listPolicy uint16

const (
	policyKeepAll   listPolicy = 1 << (iota + 8) // no item is removed
	policyNoFields                               // no item gets fields
	policyPerCaller                              // the list depends on the caller
	policySession                                // the request belongs to EraSession
)

func (p listPolicy) has(flag listPolicy) bool { return p&flag != 0 }

// changesNothing reports whether the policy neither removes items, nor adds fields, nor
// changes the cache scope.
func (p listPolicy) changesNothing() bool {
	return p.has(policyKeepAll) && p.has(policyNoFields) && !p.has(policyPerCaller)
}

// judge is the policy's ListRewrite.Judge. It decides by the length of the name.
func (p listPolicy) judge(name string) (bool, []Field) {
	n := len(name) % 4
	keep := p.has(policyKeepAll) || p>>n&1 == 1
	if p.has(policyNoFields) || p>>(n+4)&1 == 0 {
		return keep, nil
	}
	return keep, []Field{
		{Name: "dev.farebox/price", Value: appendString(nil, name)},
		{Name: "a", Value: []byte("[ 1.0,\r\n{ } ]")},
	}
}

func (p listPolicy) rewrite() ListRewrite {
	o := ListRewrite{
		ID: IntID(7), List: ListTools + List(p>>12&3), Era: EraStateless,
		PerCaller: p.has(policyPerCaller), Judge: p.judge,
	}
	if p.has(policySession) {
		o.Era = EraSession
	}
	return o
}

// listSeeds returns the seed bodies and responses to list methods of every relevant
// shape.
func listSeeds() []string {
	seeds := seedBodies()
	for _, members := range []string{
		`"tools":[{"name":"a","_meta":{"dev.farebox/price":"forged","a":1 , "b":2.50}}, {"name":"bb","_meta":null} ,{ "name":"ccc"}],"nextCursor":"x"`,
		`"_meta":{"dev.farebox/x":1},"cacheScope" : "public","tools":[ {"name":"a"} , {"n\u0061me":"dddd","x":{"name":[]}}],"ttlMs":1e3`,
		`"tools":[{"name":"a","Name":"b"}]`, `"tools":[{"name":"a","name":"b"}]`, `"tools":[{"name":"a"},]`, `"tools":[ ],"Tools":[]`,
		`"prompts":[{"name":"a"},{"name":"bb","arguments":[{"name":"x"}]}],"cacheScope":"private"`,
		`"resources":[{"uri":"a:b","name":"x"},{"uri":"ccc","name":"y"}],"cacheScope":7`,
		`"resourceTemplates":[{"uriTemplate":"a:{b}","name":"x","_meta":{}}],"isError":false`,
		`"tools":[{"name":"\ud83d\ude00","inputSchema":{"type":"object"}},{"name":""}],"resultType":"complete"`,
	} {
		seeds = append(seeds, listAnswer(members))
	}
	return append(seeds, string(benchList(3)), `{"jsonrpc":"2.0","id":7,"error":{"code":1}}`)
}

// seedList returns the bits of a policy that select the list in a seed message.
func seedList(message string) listPolicy {
	for i, member := range []string{"prompts", "resources", "resourceTemplates"} {
		if strings.Contains(message, `"`+member+`":[`) {
			return listPolicy(i+1) << 12
		}
	}
	return 0
}

// FuzzRewriteList compares RewriteList with another parser, made from encoding/json and
// jsontext. To that parser, the rewritten response must differ from the original only
// in the removed items, the added and dropped members, and the scope. A list may be
// refused only if that parser, being strict, does not accept it either. Rewriting again
// must change nothing. A policy that changes nothing must leave every byte as it is.
func FuzzRewriteList(f *testing.F) {
	for _, message := range listSeeds() {
		for _, p := range []listPolicy{0, 0xf5, 0x3ff, policyKeepAll | policyNoFields, policySession | 0xca, policyPerCaller | 0x8a} {
			f.Add([]byte(message), uint16(p|seedList(message)))
		}
	}
	f.Fuzz(func(t *testing.T, message []byte, policy uint16) {
		p := listPolicy(policy)
		before := bytes.Clone(message)
		o, leftOut := p.rewrite(), 0
		o.LeftOut = func(int, string, string) { leftOut++ }
		got, err := RewriteList(message, o)
		if !bytes.Equal(message, before) {
			t.Fatalf("%q became %q", before, message)
		}
		verdict := scan(NewScanner(IntID(7)), IntID(7), string(message), len(message)+1)
		if err != nil {
			checkListRefusal(t, message, err, verdict, p)
			return
		}
		if verdict.Class != ClassAnswer {
			t.Fatalf("%q was rewritten, but is %+v", message, verdict)
		}
		if after := scan(NewScanner(IntID(7)), IntID(7), string(got), 1); after != verdict {
			t.Fatalf("%q is %+v, rewritten %q is %+v", message, verdict, got, after)
		}
		if !jsontext.Value(message).IsValid(jsontext.AllowDuplicateNames(true)) {
			return // invalid UTF-8, about which parsers differ
		}
		want := wantList(message, p)
		if want == nil {
			t.Fatalf("%q was rewritten, but another reader sees no list", message)
		}
		if is := readList(got, p); !reflect.DeepEqual(is, want) {
			t.Fatalf("%q became %q: %v, want %v", message, got, is, want)
		}
		again, err := RewriteList(got, p.rewrite())
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, then %q, %v", message, got, again, err)
		}
		if leftOut == 0 && p.changesNothing() && reflect.DeepEqual(readList(message, p), want) && &got[0] != &message[0] {
			t.Fatalf("%q became %q", message, got)
		}
	})
}

// checkListRefusal checks that RewriteList had a reason to refuse the message.
func checkListRefusal(t *testing.T, message []byte, err error, v Verdict, p listPolicy) {
	t.Helper()
	if !errors.Is(err, ErrList) {
		t.Fatal(err)
	}
	if v.Class != ClassAnswer || !jsontext.Value(message).IsValid() || strings.Contains(err.Error(), foldedKey) {
		return
	}
	if want := wantList(message, p); want != nil {
		t.Fatalf("%q: %v", message, err)
	}
}

// listDocument is a response to a list method as encoding/json reads it. The values of
// all members are kept as raw JSON.
type listDocument struct {
	top, result, meta map[string]string
	isError           bool
	items             []itemDocument
}

type itemDocument struct {
	name    string
	members map[string]string
	meta    map[string]string
	odd     bool // the item's _meta is neither an object nor null
}

// oneReading reports whether all parsers find the same identifying member and the same
// _meta in an item. name is the name of the identifying member, such as uri.
func oneReading(item []byte, name string) bool {
	d := jsontext.NewDecoder(bytes.NewReader(item), jsontext.AllowDuplicateNames(true))
	seen := map[int]int{}
	for {
		token, err := d.ReadToken()
		if err != nil {
			return seen[1] <= 1 && seen[2] <= 1
		}
		if d.StackDepth() != 1 || token.Kind() != '"' {
			continue
		}
		if _, n := d.StackIndex(1); n%2 == 1 {
			key, exact := names{name, "_meta"}.find([]byte(token.String()))
			if !exact {
				return false
			}
			seen[key]++
		}
	}
}

// object returns the members of a JSON object, or nil for any other JSON. It shares
// no code with the rewriter, so that the fuzz tests can compare the two.
func object(raw string) map[string]string {
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &m) != nil || m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// takeMeta removes _meta from the members of an object and returns it. A null _meta
// counts as absent and stays. takeMeta returns false if _meta has another type.
func takeMeta(members map[string]string) (meta map[string]string, ok bool) {
	raw, has := members["_meta"]
	if !has || raw == "null" {
		return nil, true
	}
	delete(members, "_meta")
	meta = object(raw)
	return meta, meta != nil
}

// readList reads a response to the list method that the policy selects. It returns nil
// if the response has no such list.
func readList(message []byte, p listPolicy) *listDocument {
	shape := [][2]string{{"tools", "name"}, {"prompts", "name"}, {"resources", "uri"}, {"resourceTemplates", "uriTemplate"}}[p>>12&3]
	d := &listDocument{top: object(string(message))}
	if _, d.isError = d.top["error"]; d.isError {
		return d
	}
	d.result = object(d.top["result"])
	delete(d.top, "result")
	var ok bool
	if d.meta, ok = takeMeta(d.result); !ok {
		d.meta = nil
	}
	var list []json.RawMessage
	if raw, has := d.result[shape[0]]; !has || json.Unmarshal([]byte(raw), &list) != nil {
		return nil
	}
	delete(d.result, shape[0])
	for _, raw := range list {
		item := itemDocument{members: object(string(raw))}
		var name *string
		if json.Unmarshal([]byte(item.members[shape[1]]), &name) != nil || name == nil || !oneReading(raw, shape[1]) {
			continue // RewriteList leaves such an item out
		}
		item.name = *name
		item.meta, ok = takeMeta(item.members)
		item.odd = !ok
		d.items = append(d.items, item)
	}
	return d
}

// wantList returns the document that a parser must find in the message after
// RewriteList has rewritten it by the policy.
func wantList(message []byte, p listPolicy) *listDocument {
	d := readList(message, p)
	if d == nil || d.isError {
		return d
	}
	dropOwn(d.meta)
	items, dropped := d.items, false
	d.items = nil
	for _, item := range items {
		keep, fields := p.judge(item.name)
		if !keep {
			dropped = true
			continue
		}
		if item.odd {
			d.items = append(d.items, item)
			continue
		}
		dropOwn(item.meta)
		if len(fields) > 0 && item.meta == nil {
			item.meta = make(map[string]string)
			delete(item.members, "_meta") // _meta was null, which takeMeta leaves in place
		}
		for _, f := range fields {
			item.meta[f.Name] = string(f.Value)
		}
		d.items = append(d.items, item)
	}
	if dropped || p.has(policyPerCaller) {
		scope, has := d.result["cacheScope"]
		var text string
		isPrivate := json.Unmarshal([]byte(scope), &text) == nil && text == "private"
		if !isPrivate && (has || !p.has(policySession)) {
			d.result["cacheScope"] = `"private"`
		}
	}
	return d
}

func dropOwn(meta map[string]string) {
	for k := range meta {
		if strings.HasPrefix(k, "dev.farebox/") {
			delete(meta, k)
		}
	}
}

// FuzzRewriteListEvent checks that the data of an event is rewritten as RewriteList
// rewrites it, and that all lines without data stay. It also checks that a scanner
// still reads the result as one event with the same verdict, however the result is
// split.
func FuzzRewriteListEvent(f *testing.F) {
	for i, message := range listSeeds() {
		for _, end := range []string{"\n", "\r", "\r\n"} {
			lines := strings.ReplaceAll(message, ",", ","+end+"data:")
			f.Add([]byte("id: 1"+end+"data: "+lines+end+": c"+end+end), uint16(seedList(message)|0xf5), []byte{byte(i)})
		}
	}
	f.Add([]byte("\uFEFFdata:"+listAnswer("\rid:\rdata: \"tools\":[\n\n]")+"\n\n"), uint16(0), []byte{3})
	f.Fuzz(func(t *testing.T, stream []byte, policy uint16, sizes []byte) {
		e := NewEventScanner(IntID(7))
		n, done := e.Scan(stream)
		before := e.Verdict()
		event, o := stream[:n], listPolicy(policy).rewrite()
		_, lines := cutHead(event)
		data, _, found := eventData(lines)
		want, wantErr := RewriteList(data, o)
		got, err := RewriteListEvent(event, o)
		if (err == nil) != (found && wantErr == nil) {
			t.Fatalf("%q: %v, but its data %v", event, err, wantErr)
		}
		if err != nil {
			return
		}
		_, lines = cutHead(got)
		if is, _, _ := eventData(lines); !bytes.Equal(flatLines(is), flatLines(want)) {
			t.Fatalf("%q: data is %q, want %q", event, is, want)
		}
		if bytes.Equal(data, want) && !bytes.Equal(event, got) {
			t.Fatalf("%q became %q", event, got)
		}
		if a, b := otherLines(event), otherLines(got); a != b {
			t.Fatalf("%q has other lines %q, rewritten %q", event, a, b)
		}
		if again, err := RewriteListEvent(got, o); err != nil || !bytes.Equal(flatLines(again), flatLines(got)) {
			t.Fatalf("%q became %q, then %q, %v", event, got, again, err)
		}
		switch before.Class {
		case ClassAnswer:
			checkEventSplit(t, got, sizes, before, done)
		case ClassMalformed: // the event is malformed only because of its lines without data
			if before.Reason != "an event has a line that clients read differently" {
				t.Fatalf("%q was rewritten, but is %+v", event, before)
			}
		default:
			t.Fatalf("%q was rewritten, but is %+v", event, before)
		}
	})
}

// flatLines replaces every line end with LF. The data lines of a rewritten event all get
// the same line end, so line ends cannot be compared.
func flatLines(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), lineFeed), []byte{'\r'}, lineFeed)
}

// checkEventSplit scans an event in pieces and checks that it is one event with the
// given verdict.
func checkEventSplit(t *testing.T, event, sizes []byte, want Verdict, wantDone bool) {
	t.Helper()
	e, split, done := NewEventScanner(IntID(7)), splitter(sizes), false
	for rest := event; len(rest) > 0; {
		if done {
			t.Fatalf("%q is more than one event", event)
		}
		n := min(split(), len(rest))
		if n, done = e.Scan(rest[:n]); n == 0 {
			t.Fatalf("%q: nothing was read", event)
		}
		rest = rest[n:]
	}
	if got := e.Verdict(); done != wantDone || got != want {
		t.Fatalf("%q is %+v, %v; want %+v, %v", event, got, done, want, wantDone)
	}
}
