package integration

import (
	"io"
	"net"
	"strings"

	"github.com/fareboxhq/farebox/integration/harness"
)

// stream returns a row for an event stream that ends with its connection.
func stream(name, text string, want ending) spite {
	return spite{name: name, play: respond(eventsHead + text), want: want}
}

// spitefulStreams returns rows for oddly formed event streams.
func spitefulStreams() (rows []spite) {
	good := event(goodAnswer)
	ends := func(end string) string {
		return strings.ReplaceAll(": a comment\n\nid: 1\nretry: 1\n\n"+event(progress)+good, "\n", end)
	}
	// Each of these streams is charged, because the answer is in an event of the
	// type "message", which all clients read. The gateway drops an event of
	// another type if some client could read it as the answer.
	for name, text := range map[string]string{
		"lines that end with CR":                       ends("\r"),
		"lines that end with CRLF":                     ends("\r\n"),
		"lines that end in all ways":                   ends("\r") + ends("\r\n"),
		"comments":                                     strings.Repeat(":\n\n: spite\n\n", 1000) + good,
		"a comment in the answer":                      ": " + goodAnswer[:20] + "\n" + good,
		"a byte order mark":                            "\uFEFF" + good,
		"blank lines":                                  strings.Repeat("\n\r\n\r", 1000) + good,
		"no space":                                     "data:" + goodAnswer + "\n\n",
		"no event name":                                "data: " + goodAnswer + "\n\n",
		"an empty event name":                          "event\nevent:\ndata: " + goodAnswer + "\n\n",
		"no blank line at the end":                     strings.TrimSuffix(good, "\n"),
		"no line end at the end":                       strings.TrimSuffix(good, "\n\n"),
		"lines of data":                                event(strings.ReplaceAll(goodAnswer, ",", "\n,\n")),
		"empty lines of data":                          event("\n\n" + goodAnswer + "\n\n"),
		"data without a value":                         "data\n\ndata:\n\ndata: \n\n" + good,
		"an event id":                                  "id: 1\n" + good,
		"many event ids":                               strings.Repeat("id: 1\n", 1000) + good,
		"an event id with a NUL":                       "id: 1\x002\n" + good,
		"a long event id":                              "id: " + strings.Repeat("x", 100<<10) + "\n" + good,
		"an empty event id":                            "id\n" + good,
		"to come again at once":                        "retry: 0\n" + good,
		"never to come again":                          "retry: 99999999999999999999\n" + good,
		"no number for a time":                         "retry: spite\nretry: -1\n" + good,
		"notifications after the answer":               good + event(progress),
		"another's answer after it":                    good + event(withID(`"id":8`)),
		"the answer again":                             good + good,
		"an error after the answer":                    good + event(rpcError),
		"no message after the answer":                  good + "data: [DONE]\n\n",
		"half an event after the answer":               good + good[:60],
		"an event that says its kind":                  "event:message\ndata: " + goodAnswer + "\n\n",
		"an event of no kind in the end":               "event: spite\nevent\ndata: " + goodAnswer + "\n\n",
		"a request before the answer":                  event(`{"jsonrpc":"2.0","id":1,"method":"ping"}`) + good,
		"an unknown field":                             "spite: a\n" + good,
		"no message first":                             "data: hello\n\n" + good,
		"a ping":                                       "event: ping\ndata: 2026-11-29\n\n" + good,
		"a ping that looks like one of ours":           "event: ping\ndata: {\"id\":7}\n\n" + good,
		"the answer in an event of another type, too":  "event: spite\ndata: " + goodAnswer + "\n\n" + good,
		"another's answer in an event of another type": "event: spite\ndata: " + strings.Replace(withID(`"id":8`), loot, "mine", 1) + "\n\n" + good,
		"a long event of another type":                 "event: spite\ndata: " + strings.Repeat("x", 2*mib) + "\n\n" + good,
		"a broken notification":                        event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{,}}`) + good,
		"a broken request":                             event(`{"jsonrpc":"2.0","id":7,"method":"ping","params":{,}}`) + good,
		"a notification without a version":             event(`{"method":"notifications/progress"}`) + good,
		"a line that names no field":                   "<p>\n\n" + good,
		"a request with the same id":                   event(`{"jsonrpc":"2.0","id":7,"method":"ping"}`) + good,
	} {
		want := paidEvents
		want.hasNot = "mine"
		rows = append(rows, stream(name, text, want))
	}
	for name, text := range map[string]string{
		"nothing on a stream":            "",
		"an event of another kind":       "event: spite\ndata: " + goodAnswer + "\n\n",
		"an event that changes its kind": "event: message\nevent: spite\ndata: " + goodAnswer + "\n\n",
		"comments alone":                 ": a\n\n: b\n\n",
		"notifications alone":            event(progress),
		"a request alone":                event(`{"jsonrpc":"2.0","id":7,"method":"ping"}`),
		"data that is empty":             "data\n\ndata:\n\n",
		"the end of another protocol":    "data: [DONE]\n\n",
		"half an answer":                 good[:len(good)-6],
		"half a line":                    "da",
		"JSON that is no event":          goodAnswer + "\n\n",
		"pages that are no events":       "<html>" + loot + "</html>",
		"a field in capitals":            "Data: " + goodAnswer + "\n\n",
		"a field with a space":           "data : " + goodAnswer + "\n\n",
		"a field after a space":          " data: " + goodAnswer + "\n\n",
		"a field that cannot be seen":    "data\u200b: " + goodAnswer + "\n\n",
		"a line break of Unicode":        ": \u2028data: " + goodAnswer + "\n\n",
		"a line break of old":            ": \x0bdata: " + goodAnswer + "\n\n",
		"another's answer first":         event(withID(`"id":8`)) + good,
		"an answer without an id first":  event(`{"jsonrpc":"2.0","result":{}}`) + good,
		"an answer in two events":        "data: " + goodAnswer[:40] + "\n\ndata: " + goodAnswer[40:] + "\n\n",
		"an answer that a NUL ends":      "data: " + goodAnswer + "\x00\n\n",
	} {
		rows = append(rows, stream(name, text, failedLate))
	}
	chunkedHead := head("200 OK", "Content-Type: text/event-stream\r\n", "Transfer-Encoding: chunked\r\n")
	return append(rows,
		stream("an error before the answer", event(rpcError)+good, inEvents(passes("mine"))),
		stream("a tool's error before the answer", event(`{"jsonrpc":"2.0","id":7,"result":{"isError":true,"content":[],"a":"mine"}}`)+good, inEvents(passes("mine"))),
		spite{name: "a stream in bytes", play: respond(strings.Split(eventsHead+ends("\r\n"), "")...), want: paidEvents},
		spite{name: "a stream in slow bytes", play: then(respond(eventsHead), slowly(good)), want: paidEvents},
		spite{name: "a stream that breaks off", play: respond(chunkedHead + chunk(event(progress))), want: failedLate},
		spite{name: "a stream that breaks off in the answer", play: respond(chunkedHead + chunk(good[:len(good)-1])), want: failedLate},
		spite{name: "a stream that breaks off after the answer", play: respond(chunkedHead + chunk(good)), want: paidEvents},
		spite{name: "a stream with garbage for a chunk", play: respond(chunkedHead + chunk(event(progress)) + "spite" + good), want: failedLate},
		whole("a stream of a length", "200 OK", "Content-Type: text/event-stream\r\n", good, paidEvents),
		spite{name: "a stream of too short a length", want: failedLate, play: respond(head("200 OK", "Content-Type: text/event-stream\r\nContent-Length: 50\r\n") + good)},
		whole("events that are called JSON", "200 OK", jsonType, good, failed),
		whole("an answer as events with another status", "202 Accepted", "Content-Type: text/event-stream\r\n", good, failed),
	)
}

const mib = 1 << 20

// spitefulLengths returns rows for answers that are too long to hold. These answers are
// charged before the gateway passes them on. The charge is refunded if the answer
// breaks off or is not a result.
func spitefulLengths() []spite {
	long := func(length int, end string) string {
		return `{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"` + loot + strings.Repeat("x", length) + `"}]` + end
	}
	note := `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + strings.Repeat("x", 2*mib) + `"}}`
	good, foreign, toolError := `},"id":7}`, `},"id":8}`, `,"isError":true},"id":7}`
	taken := ending{charge: captured, streamed: true}
	back := ending{charge: refunded, streamed: true}
	cut := ending{charge: refunded, streamed: true, cut: true}
	body := func(name, text string, want ending) spite {
		return spite{name: name, play: respond(jsonHead(len(text)) + text), want: want}
	}
	endless := long(mib, "")
	return []spite{
		body("a long answer", long(2*mib, good), taken), stream("a long event", event(long(2*mib, good)), inEvents(taken)),
		body("a long answer to another", long(2*mib, foreign), cut), stream("a long event for another", event(long(2*mib, foreign)), inEvents(cut)),
		body("a long tool's error", long(2*mib, toolError), back), stream("a long event of a tool's error", event(long(2*mib, toolError)), inEvents(back)),
		body("a long answer that is not closed", long(2*mib, `}`), cut), stream("a long event that is not closed", event(long(2*mib, `}`)), inEvents(cut)),
		{name: "a long answer that breaks off", play: respond(jsonHead(4*mib) + long(2*mib, "")), want: cut},
		{name: "a long event that breaks off", want: inEvents(cut),
			play: respond(head("200 OK", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n") + chunk(event(progress)+"data: "+long(2*mib, "")))},
		body("two long answers", long(2*mib, good)+goodAnswer, cut),
		body("long white space before an answer", strings.Repeat(" ", 2*mib)+goodAnswer, taken),
		{name: "a long answer of 100 MB", heavy: true, play: func(e *harness.RawExchange) { text := long(100*mib, good); respond(jsonHead(len(text)), text)(e) }, want: taken},
		stream("a long notification", event(note), failedLate),
		stream("a long notification and an answer", event(note)+event(goodAnswer), inEvents(taken)),
		stream("a long comment and an answer", ":"+strings.Repeat("x", 2*mib)+"\n\n"+event(goodAnswer), inEvents(taken)),
		stream("a long event after the answer", event(goodAnswer)+event(long(2*mib, good)), inEvents(taken)),
		{name: "an answer without end", where: "slow", play: then(respond(head("200 OK", jsonType)+endless), drip(strings.Repeat("x", 1000))), want: cut},
		{name: "an event without end", where: "slow", play: then(respond(eventsHead+"data: "+endless), drip(strings.Repeat("x", 1000))), want: inEvents(cut)},
		{name: "a comment without end", where: "slow", play: then(respond(eventsHead+":"+strings.Repeat("x", 2*mib)), drip(strings.Repeat("x", 1000))), want: inEvents(cut)},
	}
}

// reset makes the close of the connection a TCP reset instead of an orderly end.
func reset(e *harness.RawExchange) { _ = e.Conn.(*net.TCPConn).SetLinger(0) }

func unread(pieces ...string) func(*harness.RawExchange) {
	return func(e *harness.RawExchange) { _, _ = io.WriteString(e, strings.Join(pieces, "")) }
}

// spitefulConnections returns rows for servers that cannot be reached,
// disconnect early, or take their time.
func spitefulConnections() []spite {
	good := jsonHead(len(goodAnswer)) + goodAnswer
	return []spite{
		{name: "not there", where: "closed", want: failed},
		{name: "hangs up", where: "slammed", want: failed},
		{name: "leaves before the body", play: unread(), want: failed},
		{name: "leaves after the body", play: respond(), want: failed},
		{name: "breaks before the body", play: reset, want: failed},
		{name: "breaks after the body", play: then(reset, respond()), want: failed},
		{name: "breaks in the head", play: then(reset, respond("HTTP/1.1 200 OK\r\n")), want: failed},
		{name: "breaks in the answer", play: then(reset, respond(good[:len(good)-1])), want: failed},
		{name: "leaves in the answer", play: respond(good[:len(good)-1]), want: failed},
		{name: "stays after the answer", play: then(respond(good), hang), want: paid},
		{name: "is slow", play: then(respond(), slowly(good)), want: paid},
		{name: "never answers", where: "slow", play: then(respond(), hang), want: late},
		{name: "never reads", where: "slow", play: hang, want: late},
		{name: "never ends its head", where: "slow", play: then(respond("HTTP/1.1 200 OK\r\n"), drip("X-Spite: a\r\n")), want: late},
		{name: "informational heads without end", where: "slow", play: then(respond(), drip("HTTP/1.1 103 Early Hints\r\nX-Hint: a\r\n\r\n")), want: late},
		{name: "never ends its answer", where: "slow", play: then(respond(good[:len(good)-1]), hang), want: lateInside},
		{name: "drips its answer without end", where: "slow", play: then(respond(head("200 OK", jsonType)), drip(" ")), want: lateInside},
		{name: "never sends an event", where: "slow", play: then(respond(eventsHead), hang), want: inEvents(lateInside)},
		{name: "never ends its event", where: "slow", play: then(respond(eventsHead+"data: "+goodAnswer), hang), want: inEvents(lateInside)},
		{name: "comments without end", where: "slow", play: then(respond(eventsHead), drip(": spite\n\n")), want: inEvents(lateInside)},
		{name: "comment lines without end", where: "slow", play: then(respond(eventsHead), drip(":\n")), want: inEvents(lateInside)},
		{name: "notifications without end", where: "slow", play: then(respond(eventsHead), drip(event(progress))), want: inEvents(lateInside)},
		{name: "notifications without end after the answer", where: "slow", play: then(respond(eventsHead+event(goodAnswer)), drip(event(progress))), want: paidEvents},
		{name: "answers without end", where: "slow", play: then(respond(eventsHead+event(goodAnswer)), drip(event(rpcError))), want: ending{charge: captured, events: true, hasNot: "mine"}},
		{name: "goes on after another's answer", play: then(respond(eventsHead+event(withID(`"id":8`))), drip(event(goodAnswer))), want: failedLate},
		{name: "goes on after plain text", play: then(respond(head("200 OK", "Content-Type: text/plain\r\n")), drip(loot)), want: failed},
	}
}
