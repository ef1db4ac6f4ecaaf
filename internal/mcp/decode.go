package mcp

import (
	"bytes"
	"math"
)

// maxBody bounds the body in bytes, so that offsets fit an int32. The caller's own
// limit is lower.
const maxBody = math.MaxInt32

// member holds the first token of a member's value, and the offset of that token.
type member struct {
	token token
	at    int32
}

// decoder reads one message, all of which is in memory, in one pass.
type decoder struct {
	lex  lexer
	body []byte
	at   int // index of the next unread byte in body
	keys keySet
	msg  Message

	seen     [keyError + 1]bool
	ids      int                       // number of keys that a parser could take for "id"
	version2 bool                      // jsonrpc is "2.0"
	params   [paramArgument + 1]member // the members of params, by their ordinals in paramNames; the token of an absent member is tokenMore

	// refused is the first fault in a message that is valid JSON so far. Decoding
	// continues after the fault, because the id is certain only when the whole
	// message has been read.
	refused *Error
}

// Decode reads one JSON-RPC 2.0 message from a client strictly: a message is either
// canonical or refused. Decode does not change the body. The returned message keeps
// references into the body, so the caller must not change the body either.
//
// The whole body must be JSON by RFC 8259 in valid UTF-8, at most 64 levels deep. It
// must have no byte order mark, no lone surrogates and nothing after the message. No
// object may have two keys that are equal after unescaping. The top level, params and
// params._meta have reserved keys. On these three levels, no other key may differ from
// a reserved one only in case or in invisible characters, because a lax parser could
// take it for the reserved one. A batch is refused. An id must be a string of at most
// 128 bytes or a plain integer from -(2^53-1) to 2^53-1. A tools/call must be a request
// with a name, and its arguments must be absent or an object. A prompts/get must have a
// name, and a resources/read must have a uri. Decode does not check that the named item
// exists or that the method may be called: that is left to the caller.
//
// The error is always an *Error. Time and memory are linear in the length of the body.
// For objects with many keys, the time has an additional logarithmic factor, because
// their keys are sorted.
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

// checkStart inspects the first byte that is not white space. For a body that is not
// an object, it gives a clearer reason than the lexer would.
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

// next reads one token and checks the keys of every object for duplicates. After
// tokenMore or tokenBad there are no further tokens.
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

// skip reads to the end of a value. The value begins with token t, the last token read.
// skip returns the index at which the value begins, and false if the body is not valid
// JSON or ends early.
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

// refuse records a reason to refuse the message. Only the first reason counts.
func (d *decoder) refuse(code, at int, reason string) {
	if d.refused == nil {
		d.refused = &Error{Code: code, Reason: reason, Offset: at}
	}
}

// verdict returns the error for the message, or nil if the message is accepted. It is
// called after the body has been read. The error has the message's id only if exactly
// one key could be the id.
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
		d.next() // fails if anything but white space follows
	}
}

// level identifies an object of the message that has reserved keys: the top level,
// params, or params._meta.
type level uint8

const (
	levelTop level = iota
	levelParams
	levelMeta
)

// members reads the members of the object that was just opened, up to the object's
// end. It returns false if the body is not valid JSON or ends early.
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

// text returns the unescaped text of the key or string that was just read. The text is
// valid until the next token is read. If the text has escapes and is not too long, it
// is stored in scratch.
func (d *decoder) text(scratch []byte) []byte {
	raw := d.body[d.lex.start+1 : d.lex.end]
	if !d.lex.escaped {
		return raw
	}
	return unescape(scratch[:0], raw)
}
