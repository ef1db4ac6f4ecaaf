package integration

import (
	"fmt"
	"io"
	"strings"
)

// oddity is one unusual behaviour of a server.
type oddity struct {
	name  string
	forms []bool // the forms of the answer: true is an event stream, false is JSON
	play  func(*odd)
	ask   asking
	tool  string // a part of the tool's name
	only  string // the only client that can send the request
	brief bool   // true if calls use the handler that waits only briefly for the server
	why   reason // why the gateway's answer differs from the server's
}

// asking is the kind of request the client sends.
type asking int

const (
	calls asking = iota
	lists
	notifies
	preflights
)

// oddGroup is a part of the table.
type oddGroup struct {
	title    string
	oddities []oddity
}

// reason explains why a client gets another outcome through the gateway than directly.
// It has a link to the rule that decides.
type reason string

var (
	inJSON   = []bool{false}
	inStream = []bool{true}
	inBoth   = []bool{false, true}
)

// says returns a server that answers with this message, in JSON and in an
// event.
func says(name, message string) oddity {
	return oddity{name: name, forms: inBoth, play: func(o *odd) { o.answer(message) }}
}

// streams returns a server that answers with an event stream, one piece at a
// time.
func streams(name string, pieces ...string) oddity {
	return oddity{name: name, forms: inStream, play: func(o *odd) {
		send(o.RawExchange, oddHead("200 OK", eventsType))
		for _, piece := range pieces {
			if _, err := io.WriteString(o, o.filled(piece)); err != nil {
				return
			}
		}
	}}
}

// responds returns a server that answers with this response.
func responds(name, status, fields, body string) oddity {
	return oddity{name: name, forms: inJSON, play: func(o *odd) {
		send(o.RawExchange, o.filled(oddHead(status, fields)+body))
	}}
}

// offers returns a server that lists these tools.
func offers(name, tools string) oddity {
	o := says(name, strings.Replace(oddListed, "$LIST", oddList(tools), 1))
	o.ask = lists
	return o
}

// called returns a server with a tool of this name.
func called(name, tool string) oddity {
	o := says(name, oddGood)
	o.forms, o.tool = inJSON, tool
	return o
}

// oddText returns a good answer. The given text is appended to the text of the answer.
func oddText(add string) string { return strings.Replace(oddGood, "the answer", "the answer"+add, 1) }

// oddWith returns a good answer with an additional member in its result.
func oddWith(member string) string {
	return strings.Replace(oddGood, `"result":{`, `"result":{`+member+`,`, 1)
}

// oddBeside returns a good answer with an additional member next to its result.
func oddBeside(member string) string {
	return strings.Replace(oddGood, `,"result"`, `,`+member+`,"result"`, 1)
}

// oddInstead returns a good answer with its id member replaced by this member.
func oddInstead(id string) string { return strings.Replace(oddGood, `"id":$ID`, id, 1) }

// nested returns a value with this nesting depth.
func nested(depth int) string { return strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth) }

func oddTool(name, more string) string {
	return fmt.Sprintf(`{"name":%q,"description":"a tool","inputSchema":{"type":"object"%s}}`, name, more)
}
