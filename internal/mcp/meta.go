package mcp

import (
	"bytes"
	"errors"
	"strings"
)

// Field is one member to add to the _meta of a result or an error. Value is raw JSON.
type Field struct {
	Name  string
	Value []byte
}

// The errors of AddMeta.
var (
	// ErrNoResult is returned for a message without exactly one result.
	ErrNoResult = errors.New("the message does not have exactly one result")
	// ErrField is returned for fields that do not make a valid object: a value is not
	// JSON, or a name is empty, repeated or not UTF-8.
	ErrField = errors.New("a field for _meta has an invalid value or name")
)

// AddMeta returns a response with the fields added to result._meta. It returns a copy,
// or the message itself if there is no member to add or drop. The message must be a
// response with a result, and a scanner must have found the message to be a
// ClassAnswer. If the result has no _meta, or null as its _meta, AddMeta adds one. If
// the result has a _meta, AddMeta first drops some of its members: those with the
// name of a field, and those with a name that begins with "dev.farebox/". Only the
// gateway may set these members. AddMeta also drops a byte order mark before the
// message, which some clients cannot read. All other bytes stay unchanged.
//
// If clients could read another _meta than the one with the fields, the result gets
// no fields. That is so if _meta occurs twice, if its name differs in upper or lower
// case or has invisible characters, or if it is neither an object nor null. The
// "dev.farebox/" members are dropped all the same.
//
// The error is ErrNoResult or ErrField.
func AddMeta(message []byte, fields []Field) ([]byte, error) {
	if !validFields(fields) {
		return nil, ErrField
	}
	message = bytes.TrimPrefix(message, byteOrderMark)
	if len(fields) == 0 && !mayNameOwn(message) {
		return message, nil
	}
	w := walker{text: message}
	metas, ok := w.findMeta()
	if !ok {
		return nil, ErrNoResult
	}
	if metas.unsafe {
		return metas.clean(message), nil
	}
	place := metas.first
	out := make([]byte, 0, len(message)+sizeOf(fields))
	out = append(out, message[:place.start]...)
	switch {
	case place.isObject:
		var dropped bool
		if out, dropped = appendMerged(out, message[place.start:place.end], fields); !dropped && len(fields) == 0 {
			return message, nil
		}
	case len(fields) == 0:
		return message, nil
	case place.start < place.end: // _meta is null
		out = appendObject(out, fields)
	default:
		out = append(out, `"_meta":`...)
		out = appendObject(out, fields)
		if !place.empty {
			out = append(out, ',')
		}
	}
	return append(out, message[place.end:]...), nil
}

// mayNameOwn reports whether a name in the message may begin with ownPrefix. A name
// without \u escapes has the letters of the prefix as they are.
func mayNameOwn(message []byte) bool {
	return bytes.Contains(message, []byte(strings.TrimSuffix(ownPrefix, "/"))) || bytes.Contains(message, []byte(`\u`))
}

// metas holds the places of the members of a result that a parser could take for _meta.
// A result rarely has more than one such member.
type metas struct {
	first  metaPlace   // the first member that could be taken for _meta, or the place to insert _meta
	others []metaPlace // all further members that could be taken for _meta
	found  bool
	unsafe bool // parsers may find different _meta members, or _meta cannot take fields
}

func (m *metas) add(place metaPlace) {
	if m.found {
		m.others = append(m.others, place)
		return
	}
	m.first, m.found = place, true
}

// clean returns a copy of the message without the members that only the gateway may
// set.
func (m *metas) clean(message []byte) []byte {
	out := make([]byte, 0, len(message))
	from := 0
	for _, place := range append([]metaPlace{m.first}, m.others...) {
		if place.isObject {
			out = append(out, message[from:place.start]...)
			out, _ = appendMerged(out, message[place.start:place.end], nil)
			from = place.end
		}
	}
	return append(out, message[from:]...)
}

// metaPlace is the place of the value of _meta. If there is no _meta, start and end are
// both the place where a _meta can be inserted.
type metaPlace struct {
	start, end int
	isObject   bool
	empty      bool // the result has no members
}

// walker reads a JSON text, all of which is in memory.
type walker struct {
	lex  lexer
	text []byte
	at   int
}

func (w *walker) next() token {
	i, t := w.lex.next(w.text, w.at)
	w.at = i
	return t
}

// skip reads the rest of the value that begins with token t. It reports whether the
// value is valid.
func (w *walker) skip(t token) bool {
	if !t.begins() {
		return t > tokenBad
	}
	for depth := w.lex.depth - 1; w.lex.depth > depth; {
		if w.next() <= tokenBad {
			return false
		}
	}
	return true
}

// key returns the unescaped text of the key that was just read.
func (w *walker) key() []byte {
	raw := w.text[w.lex.start+1 : w.lex.end]
	if w.lex.escaped {
		return unescape(nil, raw)
	}
	return raw
}

// findMeta reads the whole message and finds the _meta of its result. It returns false
// if the message does not have exactly one result.
func (w *walker) findMeta() (m metas, ok bool) {
	found := false
	if w.next() != tokenObject {
		return m, false
	}
	t := w.next()
	for ; t == tokenKey; t = w.next() {
		isResult := string(w.key()) == "result"
		value := w.next()
		ok := false
		if isResult {
			if found || value != tokenObject {
				return m, false
			}
			found = true
			m, ok = w.inResult()
		} else {
			ok = w.skip(value)
		}
		if !ok {
			return m, false
		}
	}
	return m, found && t == tokenObjectEnd && w.next() == tokenMore
}

// metaName is the only name that inResult looks for.
var metaName = names{"_meta"}

// inResult reads the result object that was just opened.
func (w *walker) inResult() (m metas, ok bool) {
	m.first = metaPlace{start: w.at, end: w.at, empty: true}
	t := w.next()
	for ; t == tokenKey; t = w.next() {
		m.first.empty = false
		isMeta, exact := metaName.find(w.key())
		value := w.next()
		start := w.lex.start
		if !w.skip(value) {
			return m, false
		}
		if isMeta != keyOther {
			m.unsafe = m.unsafe || !exact || m.found || !mayBeMeta(value)
			m.add(metaPlace{start: start, end: w.at, isObject: value == tokenObject})
		}
	}
	return m, t == tokenObjectEnd
}

// appendMerged appends the _meta object meta, without the members for which givesWay
// returns true, and with the fields added. It reports whether a member was dropped.
// The object meta must be valid JSON.
func appendMerged(out, meta []byte, fields []Field) ([]byte, bool) {
	w := walker{text: meta}
	w.next()
	out = append(out, '{')
	begin := w.at // the beginning of the member, with the white space around it
	kept, dropped := false, false
	for w.next() == tokenKey {
		name := w.key()
		w.skip(w.next())
		end := w.at + bytes.IndexAny(meta[w.at:], ",}")
		if givesWay(name, fields) {
			dropped = true
		} else {
			if kept {
				out = append(out, ',')
			}
			out = append(out, meta[begin:end]...)
			kept = true
		}
		begin = end + 1
	}
	return appendFields(out, fields, kept), dropped
}

// givesWay reports whether an existing member of _meta must be dropped before the fields
// are added: only the gateway may set it, or a field has the same name.
func givesWay(name []byte, fields []Field) bool {
	if bytes.HasPrefix(name, []byte(ownPrefix)) {
		return true
	}
	for _, f := range fields {
		if string(name) == f.Name {
			return true
		}
	}
	return false
}

func appendObject(out []byte, fields []Field) []byte {
	return appendFields(append(out, '{'), fields, false)
}

// appendFields appends the fields and the closing brace of the object. If comma is
// true, a comma precedes the first field.
func appendFields(out []byte, fields []Field, comma bool) []byte {
	for _, f := range fields {
		if comma {
			out = append(out, ',')
		}
		comma = true
		out = appendString(out, f.Name)
		out = append(out, ':')
		out = append(out, f.Value...)
	}
	return append(out, '}')
}

func sizeOf(fields []Field) int {
	n := len(`"_meta":{},`)
	for _, f := range fields {
		n += len(f.Name) + len(f.Value) + len(`"":,`)
	}
	return n
}

func validFields(fields []Field) bool {
	for i, f := range fields {
		if f.Name == "" || strings.ToValidUTF8(f.Name, "") != f.Name || !validJSON(f.Value) {
			return false
		}
		for _, other := range fields[:i] {
			if other.Name == f.Name {
				return false
			}
		}
	}
	return true
}

// validJSON reports whether the value is a single JSON text by the rules of a strict
// lexer.
func validJSON(value []byte) bool {
	w := walker{text: value, lex: lexer{strict: true}}
	for {
		switch w.next() {
		case tokenBad:
			return false
		case tokenMore:
			// The lexer ends a number only at the byte that follows it, so give it a
			// space.
			w.lex.next([]byte{' '}, 0)
			return w.lex.state == wantNothing
		}
	}
}
