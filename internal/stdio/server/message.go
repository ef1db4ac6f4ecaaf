package server

import (
	"bytes"
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// kind is the kind of a message (JSON-RPC 2.0).
type kind uint8

const (
	request kind = iota
	notification
	response
)

// The members and methods that this package knows.
const (
	keyMeta         = "_meta"
	keyProgress     = "progressToken"
	keyVersion      = "io.modelcontextprotocol/protocolVersion"
	keyCapabilities = "io.modelcontextprotocol/clientCapabilities"
	keySubscription = "io.modelcontextprotocol/subscriptionId"

	methodInitialize   = "initialize"
	methodInitialized  = "notifications/initialized"
	methodCancelled    = "notifications/cancelled"
	methodProgress     = "notifications/progress"
	methodDiscover     = "server/discover"
	methodPing         = "ping"
	listChanged        = "/list_changed"
	methodResourceNote = "notifications/resources/updated"
)

// message is a message with its members as they were written.
type message struct {
	raw    []byte
	kind   kind
	id     jsontext.Value // nil for a notification
	method string         // "" for a response
	params jsontext.Value // nil without params
	failed bool           // a response with an error
	code   jsontext.Value // the error's code
}

var errNoMessage = errors.New("not a JSON-RPC message")

// Strict options refuse messages that two parsers could read differently. Messages of a server are
// read with lax ones, because a message that is not understood is a call without an answer.
var (
	strict = []jsontext.Options{}
	lax    = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
)

// parse reads a message. The message keeps raw.
func parse(raw []byte, options []jsontext.Options) (*message, error) {
	m := &message{raw: raw}
	var result bool
	err := eachMember(raw, options, func(name string, value jsontext.Value) {
		switch name {
		case "id":
			m.id = value
		case "method":
			m.method = text(value)
		case "params":
			m.params = value
		case "result":
			result = true
		case "error":
			m.failed, m.code = true, get(value, "code")
		}
	})
	switch {
	case err != nil:
		return nil, err
	case m.method != "" && m.id == nil:
		m.kind = notification
	case m.method != "":
		m.kind = request
	case m.id != nil && (result || m.failed):
		m.kind = response
	default:
		return nil, errNoMessage
	}
	if k := m.id.Kind(); m.id != nil && k != '"' && k != '0' {
		return nil, errors.New("the id is neither a string nor a number")
	}
	return m, nil
}

// eachMember calls visit with each member of an object.
func eachMember(raw []byte, options []jsontext.Options, visit func(name string, value jsontext.Value)) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), options...)
	if d.PeekKind() != '{' {
		return errNoMessage
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		visit(key, value) // a part of raw: a decoder of a bytes.Buffer copies nothing
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw[d.InputOffset():])) > 0 {
		return errNoMessage
	}
	return nil
}

// get returns the value at a path of members, or nil.
func get(value jsontext.Value, path ...string) jsontext.Value {
	for _, name := range path {
		var found jsontext.Value
		if eachMember(value, lax, func(n string, v jsontext.Value) {
			if n == name {
				found = v
			}
		}) != nil {
			return nil
		}
		value = found
	}
	return value
}

// text returns the text of a JSON string, or "" for another value.
func text(value jsontext.Value) string {
	unquoted, err := jsontext.AppendUnquote(nil, value)
	if err != nil || value.Kind() != '"' {
		return ""
	}
	return string(unquoted)
}

// quote returns a JSON string.
func quote(text string) jsontext.Value {
	quoted, err := jsontext.AppendQuote(nil, strings.ToValidUTF8(text, "?"))
	if err != nil {
		panic(err) // the text is valid
	}
	return quoted
}

// keyOf returns an id or a token in a form that is equal for equal ones: "1" and 1 differ.
func keyOf(id jsontext.Value) string {
	if id.Kind() == '"' {
		return "s" + text(id)
	}
	return "n" + string(bytes.TrimSpace(id))
}

// set returns the object with another value at a path of members, which must exist. The
// rest of the object stays as it was written.
func set(object []byte, value jsontext.Value, path ...string) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(object), lax...)
	if d.PeekKind() != '{' {
		return object
	}
	_, _ = d.ReadToken()
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return object
		}
		key := name.String()
		old, err := d.ReadValue()
		if err != nil {
			return object
		}
		if key != path[0] {
			continue
		}
		end := int(d.InputOffset())
		begin := end - len(old)
		if len(path) > 1 {
			value = set(old, value, path[1:]...)
		}
		out := make([]byte, 0, len(object)+len(value))
		out = append(out, object[:begin]...)
		out = append(out, value...)
		return append(out, object[end:]...)
	}
	return object
}

// failure returns a JSON-RPC error. A nil id is written as null.
func failure(id jsontext.Value, code int, text string, data jsontext.Value) []byte {
	if id == nil {
		id = jsontext.Value("null")
	}
	var out bytes.Buffer
	out.WriteString(`{"jsonrpc":"2.0","id":`)
	out.Write(id)
	out.WriteString(`,"error":{"code":`)
	out.WriteString(jsontext.Int(int64(code)).String())
	out.WriteString(`,"message":`)
	out.Write(quote(text))
	if data != nil {
		out.WriteString(`,"data":`)
		out.Write(data)
	}
	out.WriteString(`}}`)
	return out.Bytes()
}
