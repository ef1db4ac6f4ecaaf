package integration

import (
	"fmt"
	"io"
	"strings"
)

// oddity is one way in which a server behaves that is not the usual one.
type oddity struct {
	name  string
	forms []bool // whether by an event stream; one or both
	play  func(*odd)
	ask   asking
	tool  string // what the name of the tool has in it
	only  string // the one client that can ask so
	brief bool   // is asked of a place that gives servers little time
	why   reason // why the gateway does not give what the server gives
}

// asking is what the client does.
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

// reason says why a client gets something else through the gateway than
// directly: in words, with a link to what decides it.
type reason string

var (
	inJSON   = []bool{false}
	inStream = []bool{true}
	inBoth   = []bool{false, true}
)

// says is a server that answers with a message, in JSON and in an event.
func says(name, message string) oddity {
	return oddity{name: name, forms: inBoth, play: func(o *odd) { o.answer(message) }}
}

// streams is a server that answers with an event stream, a piece at a time.
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

// responds is a server that answers with this response.
func responds(name, status, fields, body string) oddity {
	return oddity{name: name, forms: inJSON, play: func(o *odd) {
		send(o.RawExchange, o.filled(oddHead(status, fields)+body))
	}}
}

// offers is a server whose list has these tools.
func offers(name, tools string) oddity {
	o := says(name, strings.Replace(oddListed, "$LIST", oddList(tools), 1))
	o.ask = lists
	return o
}

// called is a tool with a name.
func called(name, tool string) oddity {
	o := says(name, oddGood)
	o.forms, o.tool = inJSON, tool
	return o
}

// text is a good answer with this added to its text.
func oddText(add string) string { return strings.Replace(oddGood, "the answer", "the answer"+add, 1) }

// with is a good answer with a member added to its result.
func oddWith(member string) string {
	return strings.Replace(oddGood, `"result":{`, `"result":{`+member+`,`, 1)
}

// beside is a good answer with a member added beside its result.
func oddBeside(member string) string {
	return strings.Replace(oddGood, `,"result"`, `,`+member+`,"result"`, 1)
}

// instead is a good answer with another id.
func oddInstead(id string) string { return strings.Replace(oddGood, `"id":$ID`, id, 1) }

// nested is a value that nests so deep.
func nested(depth int) string { return strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth) }

func oddTool(name, more string) string {
	return fmt.Sprintf(`{"name":%q,"description":"a tool","inputSchema":{"type":"object"%s}}`, name, more)
}
