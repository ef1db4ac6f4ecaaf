package mcp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// price is the field that a paid item gets in its _meta.
var price = []Field{{Name: "dev.farebox/price", Value: []byte(`"0.05"`)}}

// judgeByName removes items with names that begin with "hidden". It gives a price to
// items with names that begin with "paid".
func judgeByName(name string) (bool, []Field) {
	if strings.HasPrefix(name, "paid") {
		return true, price
	}
	return !strings.HasPrefix(name, "hidden"), nil
}

func listRewrite() ListRewrite {
	return ListRewrite{ID: IntID(7), List: ListTools, Era: EraStateless, Judge: judgeByName}
}

// listAnswer returns a response to a list method with the given members in its result.
func listAnswer(members string) string {
	return `{"jsonrpc":"2.0","id":7,"result":{` + members + `}}`
}

const metaPrice = `"_meta":{"dev.farebox/price":"0.05"}`

// TestRewriteListItems checks that an item is removed together with one comma, that
// kept items get their fields, and that no other byte changes.
func TestRewriteListItems(t *testing.T) {
	tests := []struct{ name, items, want string }{
		{"none", ``, ``},
		{"white space", " \n ", " \n "},
		{"all stay", `{"name":"a"} , {"name": "b" }`, `{"name":"a"} , {"name": "b" }`},
		{"the only one goes", ` {"name":"hidden"} `, ``},
		{"the first goes", "\n {\"name\":\"hidden\"},\n {\"name\":\"b\"}\n", "\n {\"name\":\"b\"}\n"},
		{"the last goes", "\n {\"name\":\"a\"},\n {\"name\":\"hidden\"}\n", "\n {\"name\":\"a\"}"},
		{"one between goes", `{"name":"a"} , {"name":"hidden"} ,	{"name":"c"} `, `{"name":"a"} ,	{"name":"c"} `},
		{"all go", `{"name":"hidden1"}, {"name":"hidden2"}, {"name":"hidden3"}`, ``},
		{"two at the head", `{"name":"hidden1"},{"name":"hidden2"},{"name":"c"}`, `{"name":"c"}`},
		{"two at the end", `{"name":"a"},{"name":"hidden1"},{"name":"hidden2"}`, `{"name":"a"}`},
		{"every other one", `{"name":"hidden1"},{"name":"b"},{"name":"hidden2"},{"name":"d"},{"name":"hidden3"}`, `{"name":"b"},{"name":"d"}`},
		{"with fields", `{ "name":"paid"}`, `{` + metaPrice + `, "name":"paid"}`},
		{"null", `{"_meta" : null,"name":"paid"}`, `{"_meta" : {"dev.farebox/price":"0.05"},"name":"paid"}`},
		{"null stays", `{"_meta" : null,"name":"a"}`, `{"_meta" : null,"name":"a"}`},
		{"merged", `{"name":"paid","_meta":{ "a": 1.50, "dev.farebox/price": 0 ,"b":[] }}`,
			`{"name":"paid","_meta":{ "a": 1.50,"b":[] ,"dev.farebox/price":"0.05"}}`},
		{"the upstream's own is dropped", `{"_meta":{"d\u0065v.farebox/x":{},"a":1},"name":"a"}`, `{"_meta":{"a":1},"name":"a"}`},
		{"and nothing is left", `{"_meta":{"dev.farebox/x":1,"dev.farebox/x":2},"name":"a"}`, `{"_meta":{},"name":"a"}`},
		{"deeper _meta stays", `{"inputSchema":{"_meta":{"dev.farebox/x":1},"name":"hidden"},"name":"a"}`, `{"inputSchema":{"_meta":{"dev.farebox/x":1},"name":"hidden"},"name":"a"}`},
		{"escaped", `{"n\u0061me":"h\u0069dden"},{"name":"p\u0061id","\u005fmeta":{}}`,
			`{"name":"p\u0061id","\u005fmeta":{"dev.farebox/price":"0.05"}}`},
		{"what an item has besides", `{"name":"paid","x":1e2,"x":1.0,"y":"},{\"name\":\"hidden\""}`,
			`{` + metaPrice + `,"name":"paid","x":1e2,"x":1.0,"y":"},{\"name\":\"hidden\""}`},
		{"no name but an empty one", `{"name":""}`, `{"name":""}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const head, tail = "\n{ \"id\":7,\"result\":{\"x\":1.0,\"nextCursor\":\"c\\u0061\",\"tools\": [", "], \"ttlMs\":1e3} ,\"jsonrpc\":\"2.0\"} \n"
			o := listRewrite()
			o.Era = EraSession
			checkRewrite(t, head+tt.items+tail, head+tt.want+tail, o)
		})
	}
}

// checkRewrite checks the rewritten form of a message, alone and in an event, and
// checks that rewriting it again changes nothing.
func checkRewrite(t *testing.T, message, want string, o ListRewrite) {
	t.Helper()
	in := []byte(message)
	got, err := RewriteList(in, o)
	if err != nil || string(got) != want {
		t.Fatalf("%s, %v; want\n%s", got, err, want)
	}
	if string(in) != message {
		t.Error("the message was changed")
	}
	if again, err := RewriteList(got, o); err != nil || string(again) != want {
		t.Errorf("rewritten again: %s, %v", again, err)
	}
	lines := func(s string) []byte {
		return []byte("id: 1\ndata: " + strings.ReplaceAll(s, "\n", "\ndata: ") + "\n\n")
	}
	event := lines(message)
	if got, err := RewriteListEvent(event, o); err != nil || string(got) != string(lines(want)) {
		t.Errorf("event %q, %v", got, err)
	}
}

// TestRewriteListScope checks when cacheScope becomes "private", and that it stays
// unchanged otherwise.
func TestRewriteListScope(t *testing.T) {
	const gone, stays = `"tools":[{"name":"hidden"}]`, `"tools":[{"name":"a"}]`
	const none = `"tools":[]`
	tests := []struct {
		name, in, want string
		era            Era
		perCaller      bool
	}{
		{"public before the list", `"cacheScope" : "public",` + gone, `"cacheScope" : "private",` + none, EraStateless, false},
		{"public after the list", gone + `,"cacheScope" : "public" ,"x":1`, none + `,"cacheScope" : "private" ,"x":1`, EraStateless, false},
		{"private", `"cacheScope":"priv\u0061te",` + gone, `"cacheScope":"priv\u0061te",` + none, EraStateless, false},
		{"absent", ` ` + gone, `"cacheScope":"private", ` + none, EraStateless, false},
		{"absent in a session", gone, none, EraSession, false},
		{"public in a session", gone + `,"cacheScope":"public"`, none + `,"cacheScope":"private"`, EraSession, false},
		{"no string", gone + `,"cacheScope":null`, none + `,"cacheScope":"private"`, EraStateless, false},
		{"an object", `"cacheScope":{"a":[]},` + gone, `"cacheScope":"private",` + none, EraStateless, false},
		{"nothing removed", `"cacheScope":"public",` + stays, `"cacheScope":"public",` + stays, EraStateless, false},
		{"nothing removed, absent", stays, stays, EraStateless, false},
		{"per caller", `"cacheScope":"public",` + stays, `"cacheScope":"private",` + stays, EraStateless, true},
		{"per caller, private", `"cacheScope":"private",` + stays, `"cacheScope":"private",` + stays, EraStateless, true},
		{"per caller, absent", stays, `"cacheScope":"private",` + stays, EraStateless, true},
		{"per caller, absent in a session", stays, stays, EraSession, true},
		{"deeper is not it", `"x":{"cacheScope":"private"},` + gone, `"cacheScope":"private","x":{"cacheScope":"private"},` + none, EraStateless, false},
		{"with all else", `"_meta":{"dev.farebox/x":1,"a":2},"cacheScope":"public","tools":[{"name":"hidden"},{"name":"paid"}]`,
			`"_meta":{"a":2},"cacheScope":"private","tools":[{` + metaPrice + `,"name":"paid"}]`, EraStateless, false},
		{"the result's own _meta is dropped", `"tools":[],"_meta":{"dev.farebox/x":1}`, `"tools":[],"_meta":{}`, EraStateless, false},
		{"the result's null stays", `"_meta":null,"tools":[]`, `"_meta":null,"tools":[]`, EraStateless, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := listRewrite()
			o.Era, o.PerCaller = tt.era, tt.perCaller
			checkRewrite(t, listAnswer(tt.in), listAnswer(tt.want), o)
		})
	}
}

// TestRewriteListKinds checks which members identify each list and its items, and that
// the members of one list have no meaning in another.
func TestRewriteListKinds(t *testing.T) {
	tests := []struct {
		method, in, want string
	}{
		{"tools/list", `"prompts":7,"tools":[{"uri":1,"name":"hidden"},{"uri":"hidden","name":"a"}]`, `"prompts":7,"tools":[{"uri":"hidden","name":"a"}]`},
		{"prompts/list", `"tools":[1],"prompts":[{"name":"hidden"}]`, `"tools":[1],"prompts":[]`},
		{"resources/list", `"resources":[{"name":"x","uri":"hidden:"},{"name":"hidden","uri":"a:"}]`, `"resources":[{"name":"hidden","uri":"a:"}]`},
		{"resources/templates/list", `"resourceTemplates":[{"name":1,"uri":2,"uriTemplate":"hidden:{a}"},{"name":"hidden","uriTemplate":"a:"}]`,
			`"resourceTemplates":[{"name":"hidden","uriTemplate":"a:"}]`},
		{"tasks/list", `"nextCursor":"c","tasks":[{"taskId":"hidden","status":"working"},{"name":"hidden","taskId":"a","ttl":null}]`,
			`"nextCursor":"c","tasks":[{"name":"hidden","taskId":"a","ttl":null}]`},
	}
	for _, tt := range tests {
		o := listRewrite()
		o.Era = EraSession
		var ok bool
		if o.List, ok = ListOf(tt.method); !ok {
			t.Fatal(tt.method)
		}
		checkRewrite(t, listAnswer(tt.in), listAnswer(tt.want), o)
	}
	for _, method := range []string{"", "tools/call", "Tools/list", "tasks/get"} {
		if l, ok := ListOf(method); ok || l != 0 {
			t.Errorf("%q lists %v", method, l)
		}
	}
	if got := fmt.Sprint(ListTools, ListResourceTemplates, ListTasks, List(0), List(9)); got != "tools resource_templates tasks List(0) List(9)" {
		t.Error(got)
	}
}

// TestRewriteListErrorsPass checks that an error response stays unchanged.
func TestRewriteListErrorsPass(t *testing.T) {
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no","data":{"_meta":{"dev.farebox/x":1}}}}`,
		` { "error" : { } , "id" : 7 , "jsonrpc" : "2.0" } `,
	} {
		o := listRewrite()
		o.PerCaller = true
		checkRewrite(t, message, message, o)
	}
}

// TestRewriteListJudgesInOrder checks that Judge is called once for each item, in
// order, with the unescaped name.
func TestRewriteListJudgesInOrder(t *testing.T) {
	o := listRewrite()
	var got []string
	o.Judge = func(name string) (bool, []Field) {
		got = append(got, name)
		return len(got) != 2, nil
	}
	const items = `"tools":[{"name":"b"},{"x":{"name":"z"},"name":"a"},{"name":"\u00e9\n"},{"name":"b"}]`
	if _, err := RewriteList([]byte(listAnswer(items)), o); err != nil || !slices.Equal(got, []string{"b", "a", "é\n", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRewriteListLeavesOut checks that an ambiguous item is left out and reported to
// LeftOut, while the other items stay. It also checks that an item stays if its _meta
// cannot take a price.
func TestRewriteListLeavesOut(t *testing.T) {
	tests := []struct{ item, name, reason string }{
		{`"a"`, "", "not an object"}, {`null`, "", "not an object"}, {`17`, "", "not an object"}, {`[{"name":"x"}]`, "", "not an object"},
		{`{}`, "", "no name"}, {`{"x":{"name":"a"}}`, "", "no name"}, {`{"uri":"a"}`, "", "no name"},
		{`{"name":1}`, "", "not a string"}, {`{"name":null}`, "", "not a string"}, {`{"name":{"name":"a"}}`, "", "not a string"},
		{"{\"name\":\"a\xff\"}", "a\xff", "not a string of Unicode"}, {`{"name":"a\ud800"}`, "a\uFFFD", "not a string of Unicode"},
		{`{"name":"a","name":"hidden"}`, "a", keyTwice}, {`{"name":"a","n\u0061me":"a"}`, "a", keyTwice}, {`{"_meta":{},"name":"a","_meta":{}}`, "a", keyTwice},
		{`{"name":"a","Name":"hidden"}`, "a", foldedKey}, {`{"name":"a","name\u0000":"hidden"}`, "a", foldedKey}, {`{"name":"a","_META":{"dev.farebox/price":0}}`, "a", foldedKey},
		{"{\"na\xffme\":\"a\",\"name\":\"b\"}", "a", foldedKey},
	}
	for _, tt := range tests {
		for _, list := range []struct{ in, want string }{
			{tt.item, ``}, {` ` + tt.item + ` , {"name":"z"}`, ` {"name":"z"}`}, {`{"name":"z"},` + tt.item, `{"name":"z"}`}, {`{"name":"y"}, ` + tt.item + `,{"name":"z"}`, `{"name":"y"},{"name":"z"}`},
		} {
			o := listRewrite()
			var told []string
			o.LeftOut = func(i int, name, reason string) { told = append(told, fmt.Sprintf("%d %s %s", i, name, reason)) }
			at := strings.Count(list.in[:strings.Index(list.in, tt.item)], "{")
			checkRewrite(t, listAnswer(`"cacheScope":"public","tools":[`+list.in+`]`), listAnswer(`"cacheScope":"public","tools":[`+list.want+`]`), o)
			if len(told) == 0 || !strings.HasPrefix(told[0], fmt.Sprintf("%d %s ", at, tt.name)) || !strings.Contains(told[0], tt.reason) {
				t.Errorf("%s: LeftOut received %q", list.in, told)
			}
		}
	}
	for _, same := range []string{
		`"tools":null`, `"tools":[{"name":"paid","_meta":[]}]`, `"tools":[{"_meta":"x","name":"paid"}]`, `"_meta":7,"tools":[]`, `"_META":{},"tools":[]`,
		"\"tools\":[{\"name\":\"a\",\"description\":\"\xff\\ud800\"}]",
	} {
		checkRewrite(t, listAnswer(same), listAnswer(same), listRewrite())
	}
	checkRewrite(t, listAnswer(`"_meta":{"dev.farebox/x":1},"tools":[],"_meta":{"a":1,"dev.farebox/y":1}`), listAnswer(`"_meta":{},"tools":[],"_meta":{"a":1}`), listRewrite())
}

// TestRewriteListRefuses checks that RewriteList refuses a response in which a client
// could find a list that RewriteList does not see.
func TestRewriteListRefuses(t *testing.T) {
	deep := strings.Repeat("[", MaxAnswerDepth-3) + strings.Repeat("]", MaxAnswerDepth-3)
	const good = `"tools":[{"name":"a"}]`
	tests := []struct{ reason, message string }{
		{"the message is not an object", `[]`},
		{"the message is not an object", `7 `},
		{"the message is not an object", `"x"`},
		{"the message is not an object", `[` + listAnswer(good) + `]`},
		{"the message ends early", ``},
		{"the message ends early", ` `},
		{"the message ends early", `7`},
		{"the message ends early", `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a"}`},
		{"the message ends early", `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a"} `},
		{"the message ends early", `{`},
		{"the message ends early", `{"jsonrpc"`},
		{"the message ends early", `{"id":`},
		{"the message ends early", `{"id":7`},
		{"a JSON value is expected", `x`},
		{"a JSON value is expected", listAnswer(`"tools":[{"name":"a"},]`)},
		{"a JSON value is expected", listAnswer(`"tools":[,]`)},
		{"a JSON value is expected", listAnswer(`"tools":[{"name":nil}]`)},
		{"a value needs a comma", listAnswer(`"tools":[{"name":"a"} {"name":"b"}]`)},
		{"a value needs a comma", listAnswer(`"tools":[{"name":"hidden"}x]`)},
		{"a value needs a comma", listAnswer(`"tools":[{"name":"a"}}`)},
		{"a value needs a comma", listAnswer(`"_meta":{"a":1]`)},
		{"something after the end", listAnswer(good) + `{}`},
		{"something after the end", listAnswer(good) + ` x`},
		{"deeper than 1024", listAnswer(`"tools":[{"name":"a","x":` + deep + `}]`)},
		{`jsonrpc is not "2.0"`, `{"id":7,"result":{` + good + `}}`},
		{`jsonrpc is not "2.0"`, `{"jsonrpc":"1.0","id":7,"result":{` + good + `}}`},
		{`jsonrpc is not "2.0"`, `{"jsonrpc":2.0,"id":7,"result":{` + good + `}}`},
		{notOurID, `{"jsonrpc":"2.0","result":{` + good + `}}`},
		{notOurID, `{"jsonrpc":"2.0","id":8,"result":{` + good + `}}`},
		{notOurID, `{"jsonrpc":"2.0","id":"7","result":{` + good + `}}`},
		{notOurID, `{"jsonrpc":"2.0","id":7.0,"error":{}}`},
		{notOurID, `{"jsonrpc":"2.0","id":null,"error":{}}`},
		{"a message with a method", `{"jsonrpc":"2.0","id":7,"method":"x","result":{` + good + `}}`},
		{"a message with a method", `{"jsonrpc":"2.0","id":7,"method":"x"}`},
		{"exactly one of result and error", `{"jsonrpc":"2.0","id":7,"error":{},"result":{` + good + `}}`},
		{"exactly one of result and error", `{"jsonrpc":"2.0","id":7}`},
		{"the error is not an object", `{"jsonrpc":"2.0","id":7,"error":[]}`},
		{"the error is not an object", `{"jsonrpc":"2.0","id":7,"error":null}`},
		{"the result is not an object", `{"jsonrpc":"2.0","id":7,"result":[]}`},
		{"the result is not an object", `{"jsonrpc":"2.0","id":7,"result":null}`},
		{"the result has no list", listAnswer(``)},
		{"the result has no list", listAnswer(`"prompts":[]`)},
		{"the result has no list", listAnswer(`"x":{"tools":[]}`)},
		{"the list is not an array", listAnswer(`"tools":{}`)},
		{"the list is not an array", listAnswer(`"tools":"[]"`)},
		{"isError is not a boolean", listAnswer(`"isError":0,` + good)},
		{keyTwice, `{"jsonrpc":"2.0","id":7,"id":7,"result":{` + good + `}}`},
		{keyTwice, `{"jsonrpc":"2.0","id":7,"result":{` + good + `},"r\u0065sult":{` + good + `}}`},
		{keyTwice, listAnswer(good + `,"tools":[]`)},
		{keyTwice, listAnswer(`"cacheScope":"private","cacheScope":"public",` + good)},
		{foldedKey, `{"jsonrpc":"2.0","id":7,"Result":{},"result":{` + good + `}}`},
		{foldedKey, listAnswer(`"Tools":[],` + good)},
		{foldedKey, listAnswer(`"toolſ":[],` + good)},
		{foldedKey, listAnswer(`"cachescope":"public",` + good)},
	}
	for _, tt := range tests {
		got, err := RewriteList([]byte(tt.message), listRewrite())
		if got != nil || !errors.Is(err, ErrList) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: %s, %v; want %q", tt.message, got, err, tt.reason)
		}
		if got, err := RewriteListEvent([]byte("data: "+tt.message+"\n\n"), listRewrite()); got != nil || !errors.Is(err, ErrList) {
			t.Errorf("event of %s: %s, %v", tt.message, got, err)
		}
	}
	if got, err := RewriteList([]byte(listAnswer(`"tools":[{"name":"a","x":`+deep[1:len(deep)-1]+`}]`)), listRewrite()); err != nil {
		t.Errorf("1024 levels: %s, %v", got, err)
	}
	if _, err := RewriteListEvent([]byte("id: 1\n\n"), listRewrite()); !errors.Is(err, ErrList) {
		t.Errorf("an event without data: %v", err)
	}
}

// TestRewriteListRefusesItsCaller checks that RewriteList refuses options without the
// right id or with an invalid List, and fields that are invalid.
func TestRewriteListRefusesItsCaller(t *testing.T) {
	message := []byte(listAnswer(`"tools":[{"name":"paid"}]`))
	for _, change := range []func(*ListRewrite){
		func(o *ListRewrite) { o.ID = ID{} },
		func(o *ListRewrite) { o.ID = StringID("7") },
		func(o *ListRewrite) { o.List = 0 },
		func(o *ListRewrite) { o.List = ListResourceTemplates + 1 },
	} {
		o := listRewrite()
		change(&o)
		if got, err := RewriteList(message, o); got != nil || !errors.Is(err, ErrList) {
			t.Errorf("%+v: %s, %v", o, got, err)
		}
	}
	for _, id := range []string{`0`, `""`, `null`} { // the JSON forms of the zero values of ID's fields
		for _, o := range []ListRewrite{{List: ListTools}, {ID: StringID("0"), List: ListTools}, {ID: IntID(1), List: ListTools}} {
			if got, err := RewriteList([]byte(`{"jsonrpc":"2.0","id":`+id+`,"error":{}}`), o); got != nil || !errors.Is(err, ErrList) {
				t.Errorf("id %s for %+v: %s, %v", id, o.ID, got, err)
			}
		}
	}
	o := listRewrite()
	o.Judge = func(string) (bool, []Field) { return true, []Field{{"a", []byte("}")}} }
	if got, err := RewriteList(message, o); got != nil || !errors.Is(err, ErrField) {
		t.Errorf("%s, %v", got, err)
	}
	o.ID = StringID("é\"")
	o.Judge = judgeByName
	if got, err := RewriteList([]byte(`{"jsonrpc":"2.0","id":"\u00e9\"","result":{"tools":[]}}`), o); err != nil {
		t.Errorf("an escaped id: %s, %v", got, err)
	}
}

// TestRewriteListEvent checks that RewriteListEvent changes only the data of an
// event, and keeps the event's other lines and its line ends.
func TestRewriteListEvent(t *testing.T) {
	hidden, none := listAnswer(`"tools":[{"name":"hidden"}],"cacheScope":"private"`), listAnswer(`"tools":[],"cacheScope":"private"`)
	tests := []struct{ name, event, want string }{
		{"LF", "data: " + hidden + "\n\n", "data: " + none + "\n\n"},
		{"CRLF", "data: " + hidden + "\r\n\r", "data: " + none + "\r\n\r"},
		{"CR", "data: " + hidden + "\r\r", "data: " + none + "\r\r"},
		{"other lines", "event: message\r\nid: 1\n: c\rdata:" + hidden + "\nretry: 5\n\n", "event: message\r\nid: 1\n: c\rdata: " + none + "\nretry: 5\n\n"},
		{"many lines", "data: {\"jsonrpc\":\"2.0\",\rid: 1\rdata:\"id\":7,\rdata: \"result\":{\"tools\":[\rdata: {\"name\":\"hidden\"},\rdata: {\"name\":\"a\"}],\"cacheScope\":\"private\"}}\n\n",
			"id: 1\rdata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":7,\ndata: \"result\":{\"tools\":[\ndata: {\"name\":\"a\"}],\"cacheScope\":\"private\"}}\n\n"},
		{"nothing to change", "\ndata:{\"jsonrpc\":\"2.0\",\rid: 1\rdata:\"id\":7,\"result\":{\"tools\":[]}}", "\ndata:{\"jsonrpc\":\"2.0\",\rid: 1\rdata:\"id\":7,\"result\":{\"tools\":[]}}"},
		{"byte order mark", "\uFEFFdata: " + hidden + "\n\n", "\uFEFFdata: " + none + "\n\n"},
		{"unfinished", "id: 1\ndata: " + hidden, "id: 1\ndata: " + none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			event := []byte(tt.event)
			got, err := RewriteListEvent(event, listRewrite())
			if err != nil || string(got) != tt.want || string(event) != tt.event {
				t.Errorf("%q, %v; want\n%q", got, err, tt.want)
			}
		})
	}
}

// TestRewriteListMemory checks that rewriting allocates only the items' names if the
// list stays unchanged, and one additional buffer if it changes.
func TestRewriteListMemory(t *testing.T) {
	message := benchList(100)
	o := listRewrite()
	names := testing.AllocsPerRun(5, func() {
		if got, err := RewriteList(message, o); err != nil || &got[0] != &message[0] {
			t.Fatal(err)
		}
	})
	if names > 101 {
		t.Errorf("%v allocations for 100 names", names)
	}
	o.Judge = func(name string) (bool, []Field) { return !strings.HasSuffix(name, "7"), price }
	all := testing.AllocsPerRun(5, func() {
		if got, err := RewriteList(message, o); err != nil || len(got) >= 2*len(message) {
			t.Fatal(err)
		}
	})
	if all > names+2 {
		t.Errorf("%v allocations, %v of them for the names", all, names)
	}
}
