package mcp

import (
	"bytes"
	"math"
)

// maxBody bounds a body that Decode reads; the caller's own limit is lower.
const maxBody = math.MaxInt32

// member is the first token of a member's value, and its place.
type member struct {
	token token
	at    int32
}

// decoder reads one message that is whole in memory, in one pass.
type decoder struct {
	lex  lexer
	body []byte
	at   int // the next unread byte
	keys keySet
	msg  Message

	seen     [keyError + 1]bool
	ids      int                       // number of keys that are the id, or could be taken for it
	version2 bool                      // jsonrpc is "2.0"
	params   [paramArgument + 1]member // tokenMore for those that are absent

	// refused is the first fault in a message that is JSON. Reading continues after
	// it, because only a whole message has a certain id.
	refused *Error
}

// Decode reads one JSON-RPC 2.0 message from a client strictly: a message is
// canonical, or refused. Decode does not change the body; the message keeps
// references into it, so the caller must not change it either.
//
// Everywhere in the body: JSON by RFC 8259 in valid UTF-8, without a byte order
// mark, lone surrogates or anything after the message, at most 64 levels deep,
// and no key twice in one object, compared unescaped. At the top level, in
// params and in params._meta also: no key that a lax reader could take for one
// with a meaning there, because it differs from it only in case or in
// invisible characters. A batch is refused. The id of a request, if
// there is one, is a string of at most 128 bytes or a plain integer within
// 2^53-1. tools/call must be a request with a name, and arguments
// that are absent or an object; prompts/get must have a name, resources/read
// a uri. The caller decides which names exist, and whether a method may be
// called at all.
//
// The error is always an *Error. Time and memory are bounded by the length of
// the body, times its logarithm for objects with many keys.
func Decode(body []byte) (Message, error) {
	if err := checkStart(body); err != nil {
		return Message{}, err
	}
	d := decoder{body: body, lex: lexer{strict: true}}
	d.message()
	if err := d.verdict(); err != nil {
		return Message{}, err
	}
	return d.msg, nil
}

// checkStart inspects the first byte that is not white space, to give a clear reason
// for a body that is not an object.
func checkStart(body []byte) error {
	if len(body) > maxBody {
		return &Error{Code: InvalidRequest, Reason: "the message is too long"}
	}
	i := 0
	for i < len(body) && (body[i] == ' ' || body[i] == '\n' || body[i] == '\r' || body[i] == '\t') {
		i++
	}
	if i == len(body) {
		return &Error{Code: ParseError, Reason: "the body has no message", Offset: i}
	}
	switch c := body[i]; {
	case c == '{':
		return nil
	case c == '[':
		return &Error{Code: InvalidRequest, Offset: i,
			Reason: "batches are not supported: send one message per POST"}
	case bytes.HasPrefix(body[i:], byteOrderMark):
		return &Error{Code: ParseError, Reason: "a message must not begin with a byte order mark", Offset: i}
	case c == '"', c == '-', '0' <= c && c <= '9', c == 't', c == 'f', c == 'n':
		return &Error{Code: InvalidRequest, Reason: "a message must be a JSON object", Offset: i}
	}
	return &Error{Code: ParseError, Reason: "the body is not JSON", Offset: i}
}

// next reads one token and records the keys of every object. After tokenMore or
// tokenBad the body is not one whole JSON text.
func (d *decoder) next() token {
	i, t := d.lex.next(d.body, d.at)
	d.at = i
	switch t {
	case tokenObject:
		d.keys.open(d.lex.depth)
	case tokenKey:
		k := span{start: uint32(d.lex.start + 1), end: uint32(d.lex.end), escaped: d.lex.escaped}
		if d.keys.add(d.body, d.lex.depth, k) {
			d.refuse(InvalidRequest, d.lex.start, "an object has the same key twice")
		}
	case tokenObjectEnd:
		if at, twice := d.keys.close(d.body, d.lex.depth+1); twice {
			d.refuse(InvalidRequest, at, "an object has the same key twice")
		}
	}
	return t
}

// skip reads to the end of the value that begins with the token, and returns the
// index at which it began; false if the body is bad.
func (d *decoder) skip(t token) (int, bool) {
	start := d.lex.start
	if t.begins() {
		for depth := d.lex.depth - 1; d.lex.depth > depth; {
			t = d.next()
			if t <= tokenBad {
				return start, false
			}
		}
	}
	return start, t > tokenBad
}

// refuse records the first reason to refuse the message.
func (d *decoder) refuse(code, at int, reason string) {
	if d.refused == nil {
		d.refused = &Error{Code: code, Reason: reason, Offset: at}
	}
}

// verdict judges the message as a whole, after it was read.
func (d *decoder) verdict() error {
	if d.lex.state != wantNothing {
		reason := d.lex.reason
		if d.lex.state != failed {
			reason = "the message ends early"
		}
		return &Error{Code: ParseError, Reason: reason, Offset: d.at}
	}
	if d.refused == nil {
		d.judge()
	}
	if d.refused == nil {
		return nil
	}
	if d.ids == 1 {
		d.refused.ID = d.msg.ID
	}
	return d.refused
}

// message reads the whole body.
func (d *decoder) message() {
	d.next()
	if d.members(levelTop) {
		d.next() // white space, or excess text
	}
}

// level is an object whose keys have a meaning.
type level uint8

const (
	levelTop level = iota
	levelParams
	levelMeta
)

// members reads the members of the object that was just opened, to its end. It
// returns false if the body is bad.
func (d *decoder) members(l level) bool {
	for {
		t := d.next()
		if t != tokenKey {
			return t == tokenObjectEnd
		}
		ok := false
		switch l {
		case levelTop:
			ok = d.topMember()
		case levelParams:
			ok = d.paramMember()
		case levelMeta:
			ok = d.metaMember()
		}
		if !ok {
			return false
		}
	}
}

// text returns the unescaped text of the key or string that was just read. It is
// valid until the body's next token.
func (d *decoder) text(scratch []byte) []byte {
	raw := d.body[d.lex.start+1 : d.lex.end]
	if !d.lex.escaped {
		return raw
	}
	return unescape(scratch[:0], raw)
}
