package mcp

import (
	"bytes"
	"errors"
	"strings"
)

// Field is one member for the _meta of a result or an error. Value is raw
// JSON.
type Field struct {
	Name  string
	Value []byte
}

// The errors of AddMeta.
var (
	// ErrNoResult is returned for a message without exactly one result.
	ErrNoResult = errors.New("the message does not have exactly one result")
	// ErrField is returned for fields that would not make a valid object: a value
	// that is not JSON, or a name that is empty or comes twice.
	ErrField = errors.New("a field for _meta has an invalid value or name")
)

// AddMeta returns a copy of a response with a result, which a scanner found to be a
// ClassAnswer, with the fields added to result._meta. A result without _meta, or with
// null there, gets one. From an existing _meta it first drops every member whose name
// begins with "dev.farebox/", which only the gateway may set, or equals a field's.
// All other bytes stay unchanged, except that a byte order mark before the message is
// dropped, which some clients cannot read.
//
// If clients could read another _meta than the one with the fields, or none, because
// it comes twice, in another case, or is not an object, the result gets no fields.
// The members that only the gateway may set are dropped all the same.
//
// The error is ErrNoResult or ErrField.
func AddMeta(message []byte, fields []Field) ([]byte, error) {
	if !validFields(fields) {
		return nil, ErrField
	}
	message = bytes.TrimPrefix(message, byteOrderMark)
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
			return bytes.Clone(message), nil
		}
	case len(fields) == 0:
		return bytes.Clone(message), nil
	case place.start < place.end: // null
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

// metas are the places of a result's _meta. Nearly always there is one.
type metas struct {
	first  metaPlace   // or the place for one
	others []metaPlace // other places that a reader could take for it
	found  bool
	unsafe bool // readers disagree about the place, or it is not an object
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

// metaPlace is the place of a result's _meta, or the place for one: then start equals
// end.
type metaPlace struct {
	start, end int
	isObject   bool
	empty      bool // the result has no members
}

// walker reads a JSON text that is whole in memory.
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

// skip reads the rest of the value that begins with the token.
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

// findMeta reads the whole message and finds the places of its result's _meta.
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

// metaName is the name that findMeta looks for.
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

// appendMerged appends a _meta object, which is known to be valid, with the fields
// and without the members that give way to them. It reports whether any gave way.
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

// givesWay reports whether a member of that name gives way to the fields.
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

// appendFields appends the fields and the end of the object.
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

// validJSON reports whether a value is one JSON text that may stand in the
// _meta of a message.
func validJSON(value []byte) bool {
	w := walker{text: value, lex: lexer{strict: true}}
	for {
		switch w.next() {
		case tokenBad:
			return false
		case tokenMore:
			// A number at the top ends where something follows it.
			w.lex.next([]byte{' '}, 0)
			return w.lex.state == wantNothing
		}
	}
}
