package integration

import "strings"

// oddStreams returns event streams that contain more than the answer.
func oddStreams() oddGroup {
	const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`
	twice := strings.Replace(note, `"params"`, `"method":"notifications/cancelled","params"`, 1)
	return oddGroup{"Event streams", []oddity{
		streams("nothing but the answer", hereGood),
		streams("`event: ping` with a JSON object before it", "event: ping\ndata: {}\n\n", hereGood),
		streams("`event: ping` with a date, as in sse-starlette", "event: ping\ndata: ping - 2026-01-01 00:00:00+00:00\n\n", hereGood),
		streams("`event: ping` without data", "event: ping\n\n", hereGood),
		streams("`event: heartbeat` with text", "event: heartbeat\ndata: thump\n\n", hereGood),
		streams("`event: keep-alive` after the answer", hereGood, "event: keep-alive\ndata: {}\n\n"),
		streams("`event: endpoint`, of the old transport", "event: endpoint\ndata: /messages?session=1\n\n", hereGood),
		streams("`event: error` and no answer", "event: error\ndata: {\"message\":\"broken\"}\n\n"),
		streams("`event: done` with the answer's id in its data", hereGood, "event: done\ndata: {\"id\":$ID}\n\n"),
		streams("`event: status` with a notification in its data", "event: status\ndata: "+note+"\n\n", hereGood),
		streams("`event: partial` with a response to the request in its data", "event: partial\ndata: "+strings.Replace(oddGood, "the answer", "half of", 1)+"\n\n", hereGood),
		streams("the answer in an event of another type", "event: result\ndata: "+oddGood+"\n\n"),
		streams("the answer in an event of an empty type", "event:\ndata: "+oddGood+"\n\n"),
		streams("the answer in an event without a type", "data: "+oddGood+"\n\n"),
		streams("no space after the colons", "event:message\ndata:"+oddGood+"\n\n"),
		streams("two spaces after the colon", "data:  "+oddGood+"\n\n"),
		streams("the data before the type", "data: "+oddGood+"\nevent: message\n\n"),
		streams("comments", ": connected\n\n", ":\n\n", ": keep-alive\n\n", hereGood),
		streams("a comment within the event", "event: message\n: still here\ndata: "+oddGood+"\n\n"),
		streams("unknown fields", "event: message\nfoo: bar\nversion: 1\nlonely\ndata: "+oddGood+"\n\n"),
		streams("a `retry` alone", "retry: 3000\n\n", hereGood),
		streams("an event with an id and no data first", "id: 1\ndata:\n\n", "id: 2\n"+hereGood),
		streams("ids", "id: a\n"+hereGood),
		streams("a byte order mark first", "\uFEFF"+hereGood),
		streams("lines that end with CRLF", strings.ReplaceAll("event: message\ndata: "+oddGood+"\n\n", "\n", "\r\n")),
		streams("lines that end with CR", strings.ReplaceAll("event: message\ndata: "+oddGood+"\n\n", "\n", "\r")),
		streams("blank lines between events", "\n\n\n", hereGood, "\n\n"),
		streams("the answer in several lines of data", event(strings.Replace(oddGood, `,"result"`, ",\n\"result\"", 1))),
		{name: "the answer a byte at a time", forms: inStream, play: func(o *odd) {
			send(o.RawExchange, oddHead("200 OK", eventsType))
			for _, b := range []byte(o.filled(hereGood)) {
				_, _ = o.Write([]byte{b})
			}
		}},
		streams("no blank line after the answer", strings.TrimSuffix(event(oddGood), "\n")),
		streams("no end of line after the answer", strings.TrimSuffix(event(oddGood), "\n\n")),
		streams("a message that is no JSON before it", event("keep-alive"), hereGood),
		streams("`[DONE]` after it", hereGood, "data: [DONE]\n\n"),
		streams("a notification", event(note), hereGood),
		streams("a notification of a vendor", event(`{"jsonrpc":"2.0","method":"notifications/vendor/heat","params":{"degrees":21}}`), hereGood),
		streams("a notification with half a surrogate pair", event(strings.Replace(note, "hello", `\ud83d`, 1)), hereGood),
		streams("a notification that is no UTF-8", event(strings.Replace(note, "hello", "caf\xe9", 1)), hereGood),
		streams("a notification with two methods", event(twice), hereGood),
		streams("a notification that is cut", event(note[:len(note)-9]), hereGood),
		streams("a notification with an id that is null", event(strings.Replace(note, `"params"`, `"id":null,"params"`, 1)), hereGood),
		streams("a notification without a version", event(strings.Replace(note, `"jsonrpc":"2.0",`, "", 1)), hereGood),
		streams("a notification that nests 500 deep", event(strings.Replace(note, `"hello"`, nested(500), 1)), hereGood),
		streams("a notification after the answer", hereGood, event(note)),
		streams("notifications in an array", event("["+note+","+note+"]"), hereGood),
		streams("progress for a token that nobody gave", event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"nobody","progress":1}}`), hereGood),
		streams("the answer to another request before it", event(oddInstead(`"id":987654`)), hereGood),
		streams("a second answer", hereGood, event(strings.Replace(oddGood, "the answer", "another answer", 1))),
		streams("an error after the answer", hereGood, event(`{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"too late"}}`)),
		streams("the answer in an array", event("["+oddGood+"]")),
		streams("a notification and the answer in an array", event("["+note+","+oddGood+"]")),
		streams("no answer", event(note)),
		streams("nothing"),
		{name: "a charset and capitals in the content type", forms: inStream, play: func(o *odd) {
			send(o.RawExchange, oddHead("200 OK", "content-type: Text/Event-Stream; charset=UTF-8\r\n")+o.filled(hereGood))
		}},
		{name: "a stream that stays open after the answer", forms: inStream, brief: true, play: func(o *odd) {
			send(o.RawExchange, oddHead("200 OK", eventsType)+o.filled(hereGood))
			hang(o.RawExchange)
		}},
	}}
}

// oddAnswers returns answers that JSON parsers read differently.
func oddAnswers() oddGroup {
	return oddGroup{"Answers", []oddity{
		says("a good answer", oddGood),
		says("half a surrogate pair", oddText(`\ud83d`)),
		says("the other half", oddText(`\ude00`)),
		says("the halves in the wrong order", oddText(`\ude00\ud83d`)),
		says("half a surrogate pair in a member's name", oddWith(`"structuredContent":{"\ud83d":1}`)),
		says("Latin 1 in text", oddText("caf\xe9")),
		says("UTF-8 that is cut", oddText("\xe2\x82")),
		says("a surrogate in UTF-8", oddText("\xed\xa0\x80")),
		says("NUL by its escape", oddText(`\u0000`)),
		says("line breaks of Unicode", oddText("\u2028\u2029\u0085")),
		says("a byte order mark", "\uFEFF"+oddGood),
		says("a line end after it", oddGood+"\r\n"),
		says("white space everywhere", strings.NewReplacer(":", " :\n ", ",", " ,\n\t").Replace(oddGood)),
		says("a member's name with escapes", strings.Replace(oddGood, `"result"`, `"\u0072esult"`, 1)),
		says("structured content that nests 100 deep", oddWith(`"structuredContent":{"a":`+nested(100)+`}`)),
		says("structured content that nests 500 deep", oddWith(`"structuredContent":{"a":`+nested(500)+`}`)),
		says("structured content that nests 2,000 deep", oddWith(`"structuredContent":{"a":`+nested(2000)+`}`)),
		says("a number out of range", oddWith(`"structuredContent":{"a":1e999}`)),
		says("a number of 30 digits", oddWith(`"structuredContent":{"a":123456789012345678901234567890}`)),
		says("a member twice in structured content", oddWith(`"structuredContent":{"a":1,"a":2}`)),
		says("unknown members", oddBeside(`"took":12,"server":"odd"`)),
		says("`error: null` beside the result", oddBeside(`"error":null`)),
		says("`result: null` beside an error", `{"jsonrpc":"2.0","id":$ID,"result":null,"error":{"code":-32001,"message":"mine"}}`),
		says("a result and an error", oddBeside(`"error":{"code":-32001,"message":"mine"}`)),
		says("a method beside the result", oddBeside(`"method":"tools/call"`)),
		says("no version", strings.Replace(oddGood, `"jsonrpc":"2.0",`, "", 1)),
		says("version 1.0", strings.Replace(oddGood, `"2.0"`, `"1.0"`, 1)),
		says("the id as text", oddInstead(`"id":"$ID"`)),
		says("the id with a fraction", oddInstead(`"id":$ID.0`)),
		says("another id", oddInstead(`"id":987654`)),
		says("null for the id", oddInstead(`"id":null`)),
		says("no id", strings.Replace(oddGood, `"id":$ID,`, "", 1)),
		says("the id twice", oddInstead(`"id":$ID,"id":$ID`)),
		says("the id in capitals beside another", oddInstead(`"id":$ID,"ID":987654`)),
		says("two results", strings.Replace(oddGood, `"result"`, `"result":{"content":[]},"result"`, 1)),
		says("a result in capitals beside", oddBeside(`"Result":{"content":[]}`)),
		says("`isError` twice", oddWith(`"isError":false,"isError":true`)),
		says("text for `isError`", oddWith(`"isError":"false"`)),
		says("null for `isError`", oddWith(`"isError":null`)),
		says("a tool's error", oddWith(`"isError":true`)),
		says("text for `_meta`", oddWith(`"_meta":"x"`)),
		says("an array for `_meta`", oddWith(`"_meta":[1]`)),
		says("null for `_meta`", oddWith(`"_meta":null`)),
		says("`_meta` twice", oddWith(`"_meta":{"a":1},"_meta":{"b":2}`)),
		says("`_META` beside", oddWith(`"_META":{"a":1}`)),
		says("`_meta` of the server's own", oddWith(`"_meta":{"odd.example/a":{"b":"\ud83d"}}`)),
		says("an unknown `resultType`", strings.Replace(oddGood, hereType, `"resultType":"vendor",`, 1)),
		says("no `resultType`", strings.Replace(oddGood, hereType, "", 1)),
		says("no content", `{"jsonrpc":"2.0","id":$ID,"result":{$TYPE"took":1}}`),
		says("null for the content", `{"jsonrpc":"2.0","id":$ID,"result":{$TYPE"content":null}}`),
		says("content of an unknown type", `{"jsonrpc":"2.0","id":$ID,"result":{$TYPE"content":[{"type":"hologram","data":"x"}]}}`),
		says("an array for the result", `{"jsonrpc":"2.0","id":$ID,"result":["the answer"]}`),
		says("null for the result", `{"jsonrpc":"2.0","id":$ID,"result":null}`),
		says("an error", `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32001,"message":"mine","data":{"a":1}}}`),
		says("an error with half a surrogate pair", `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32001,"message":"mine \ud83d"}}`),
		says("an error without a code", `{"jsonrpc":"2.0","id":$ID,"error":{"message":"mine"}}`),
		says("text for the code of an error", `{"jsonrpc":"2.0","id":$ID,"error":{"code":"E1","message":"mine"}}`),
		says("text for an error", `{"jsonrpc":"2.0","id":$ID,"error":"mine"}`),
		says("a raw tab in text", oddText("\t")),
		says("NaN", oddWith(`"structuredContent":{"a":NaN}`)),
		says("a comma too many", oddWith(`"structuredContent":{"a":[1,]}`)),
		says("something after it", oddGood+" x"),
		says("two answers", oddGood+oddGood),
		says("an array with it", "["+oddGood+"]"),
		says("an answer that is cut", oddGood[:len(oddGood)-5]),
		says("an answer of 1.1 MiB", oddText(hereLong)),
		says("an answer of 1.1 MiB with half a surrogate pair at its end", oddText(hereLong+`\ud83d`)),
	}}
}

// marked replaces the oddity's answer with a list, in JSON, that begins with a
// byte order mark.
func (o oddity) marked() oddity {
	o.forms, o.play = inJSON, func(r *odd) {
		r.answer("\uFEFF" + strings.Replace(oddListed, "$LIST", oddList(oddTool("free-good", "")), 1))
	}
	return o
}

// oddLists returns lists with malformed tools.
func oddLists() oddGroup {
	good, paid := oddTool("free-good", ""), oddTool("paid-good", "")
	bad := func(name, tool string) oddity {
		o := offers(name, good+","+tool+","+paid)
		o.forms = inJSON
		return o
	}
	whole := func(name, list string) oddity {
		o := says(name, strings.Replace(oddListed, "$LIST", list, 1))
		o.ask, o.forms = lists, inJSON
		return o
	}
	return oddGroup{"Lists", []oddity{
		offers("two good tools", good+","+paid),
		offers("no tools", ""),
		bad("a tool without a name", `{"description":"a tool","inputSchema":{"type":"object"}}`),
		bad("a number for a name", `{"name":7,"inputSchema":{"type":"object"}}`),
		bad("text for a tool", `"free-text"`),
		bad("null for a tool", `null`),
		bad("two names", `{"name":"free-a","name":"free-b","inputSchema":{"type":"object"}}`),
		bad("a name in capitals beside", `{"name":"free-a","Name":"free-b","inputSchema":{"type":"object"}}`),
		bad("a description with half a surrogate pair", `{"name":"free-half","description":"\ud83d","inputSchema":{"type":"object"}}`),
		bad("a description that is no UTF-8", "{\"name\":\"free-latin\",\"description\":\"caf\xe9\",\"inputSchema\":{\"type\":\"object\"}}"),
		bad("a schema that nests 60 deep", oddTool("free-deep", `,"x":`+nested(60))),
		bad("a schema that nests 400 deep", oddTool("free-deeper", `,"x":`+nested(400))),
		bad("a schema with a member twice", oddTool("free-twice", `,"title":"a","title":"b"`)),
		bad("no schema", `{"name":"free-bare"}`),
		bad("null for `_meta`", `{"name":"free-meta","_meta":null,"inputSchema":{"type":"object"}}`),
		bad("text for `_meta`", `{"name":"paid-meta","_meta":"x","inputSchema":{"type":"object"}}`),
		bad("the same tool twice", good),
		bad("a name with a line break", `{"name":"free-\n","inputSchema":{"type":"object"}}`),
		bad("a name with a NUL", `{"name":"free-\u0000","inputSchema":{"type":"object"}}`),
		bad("a name of 257 letters", oddTool("free-"+strings.Repeat("x", 252), "")),
		bad("an empty name", oddTool("", "")),
		bad("a name with a colon", oddTool("free:good", "")),
		bad("a name with spaces", oddTool("free and good", "")),
		bad("a name in Japanese", oddTool("free日本", "")),
		bad("a name with an emoji", oddTool("free-🌦", "")),
		bad("a name of 256 letters", oddTool("free-"+strings.Repeat("x", 251), "")),
		offers("a byte order mark", good).marked(),
		whole("null for the next cursor", strings.Replace(oddList(good), `"tools"`, `"nextCursor":null,"tools"`, 1)),
		whole("a number for the next cursor", strings.Replace(oddList(good), `"tools"`, `"nextCursor":7,"tools"`, 1)),
		whole("text for `_meta` of the list", strings.Replace(oddList(good), `"tools"`, `"_meta":"x","tools"`, 1)),
		whole("an object for the tools", `{"tools":{}}`),
		whole("`tools` twice", `{"tools":[],"tools":[`+good+`]}`),
	}}
}
