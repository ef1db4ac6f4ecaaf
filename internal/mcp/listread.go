package mcp

import "unicode/utf8"

// words returns the unescaped text of the key or string that was just read. The text
// is valid until the next call of words.
func (r *listRewriter) words() []byte {
	raw := r.text[r.lex.start+1 : r.lex.end]
	if !r.lex.escaped {
		return raw
	}
	r.scratch = unescape(r.scratch[:0], raw)
	return r.scratch
}

const keyTwice = "a reserved key occurs twice"

// member returns the ordinal of the current key in ns, or keyOther if ns does not have
// this key. *seen is the set of the ordinals of the keys that the object has had so
// far. meta is the ordinal of _meta in ns, or keyOther if ns does not have _meta.
// member returns false if it refuses the message, because the key is a duplicate or a
// lax parser could take it for a name in ns. It never refuses _meta, because _meta does
// not decide which list the client reads.
func (r *listRewriter) member(ns names, seen *uint, meta int) (int, bool) {
	key, exact := ns.find(r.words())
	bit := uint(1) << key
	switch {
	case key == meta && key != keyOther && !exact:
		return keyOther, true
	case key == meta:
		return key, true
	case !exact:
		return keyOther, r.refuse(foldedKey)
	case key != keyOther && *seen&bit != 0:
		return keyOther, r.refuse(keyTwice)
	}
	*seen |= bit
	return key, true
}

// message reads the whole message and rewrites its list. It reports whether the message
// is the response to the request.
func (r *listRewriter) message() bool {
	switch t := r.next(); {
	case t <= tokenBad:
		return false
	case t != tokenObject:
		return r.refuse("the message is not an object")
	}
	var seen uint
	t := r.next()
	for ; t == tokenKey; t = r.next() {
		key, ok := r.member(topNames, &seen, keyOther)
		if !ok || !r.topValue(key, r.next()) {
			return false
		}
	}
	if t != tokenObjectEnd || r.next() != tokenMore {
		return false
	}
	has := func(key int) bool { return seen>>key&1 == 1 }
	switch {
	case !has(keyJSONRPC):
		return r.refuse(`jsonrpc is not "2.0"`)
	case !has(keyID):
		return r.refuse(notOurID)
	case has(keyMethod):
		return r.refuse("a message with a method is no answer")
	case has(keyResult) == has(keyError):
		return r.refuse("the message does not have exactly one of result and error")
	}
	return true
}

const notOurID = "the message does not have the id of the request"

// topValue reads the value of a member at the top level of the message. The value
// begins with token t.
func (r *listRewriter) topValue(key int, t token) bool {
	switch {
	case t <= tokenBad:
		return false
	case key == keyJSONRPC && (t != tokenString || string(r.words()) != "2.0"):
		return r.refuse(`jsonrpc is not "2.0"`)
	case key == keyID && !r.isOurID(t):
		return r.refuse(notOurID)
	case key == keyError && t != tokenObject:
		return r.refuse("the error is not an object")
	case key != keyResult:
		return r.skip(t)
	case t != tokenObject:
		return r.refuse("the result is not an object")
	}
	return r.result()
}

// isOurID reports whether the value that was just read, a token t, is the id of the
// request.
func (r *listRewriter) isOurID(t token) bool {
	id := &r.o.ID
	switch t {
	case tokenNumber:
		n, ok := parseIDNumber(r.text[r.lex.start:r.at])
		return ok && id.kind == idNumber && n == id.number
	case tokenString:
		return id.kind == idText && string(r.words()) == id.text
	}
	return false
}

// result reads the result object that was just opened.
func (r *listRewriter) result() bool {
	at := r.place(r.at)
	r.scope = scopePlace{start: at, end: at}
	var seen uint
	t := r.next()
	for ; t == tokenKey; t = r.next() {
		key, ok := r.member(r.shape.result, &seen, resultMeta)
		if !ok || !r.resultValue(key, r.next()) {
			return false
		}
	}
	if t == tokenObjectEnd && seen>>resultList&1 == 0 {
		return r.refuse("the result has no list")
	}
	return t == tokenObjectEnd
}

// resultValue reads the value of a member of the result. The value begins with token t.
func (r *listRewriter) resultValue(key int, t token) bool {
	start := r.lex.start
	switch {
	case t <= tokenBad:
		return false
	case key == resultList && t == tokenNull: // Go servers encode an empty list as null
		return true
	case key == resultList && t != tokenArray:
		return r.refuse("the list is not an array")
	case key == resultList:
		return r.items()
	case key == resultIsError && t != tokenTrue && t != tokenFalse:
		return r.refuse("isError is not a boolean")
	case !r.skip(t):
		return false
	}
	switch key {
	case resultCacheScope:
		private := t == tokenString && string(r.words()) == "private"
		r.scope = scopePlace{start: r.place(start), end: r.place(r.at), private: private}
	case resultMeta:
		return r.addMeta(metaPlace{start: start, end: r.at, isObject: t == tokenObject}, nil)
	}
	return true
}

// mayBeMeta reports whether a value that begins with token t is valid for _meta.
func mayBeMeta(t token) bool { return t == tokenObject || t == tokenNull }

// items reads the array of items that was just opened, and rewrites it.
func (r *listRewriter) items() bool {
	kept := false
	index := 0
	for begin := r.at; ; begin++ {
		t := r.next()
		if t <= tokenBad || t == tokenArrayEnd {
			return t == tokenArrayEnd
		}
		item, ok := r.item(t)
		if !ok {
			return false
		}
		end := r.at
		for end < len(r.text) && isSpace(r.text[end]) {
			end++
		}
		if end == len(r.text) {
			return false
		}
		keep, fields := r.judge(index, &item)
		switch {
		case !keep:
			r.remove(begin, end, kept)
		case !r.annotate(&item, fields):
			return false
		}
		kept = kept || keep
		begin = end // at the comma, which begin++ skips
		index++
	}
}

// judge reports whether the item stays in the list, and returns the fields for its
// _meta. An item that cannot be read is left out and reported to LeftOut.
func (r *listRewriter) judge(index int, item *listItem) (keep bool, fields []Field) {
	if item.bad != "" {
		if r.o.LeftOut != nil {
			r.o.LeftOut(index, item.name, item.bad)
		}
		return false, nil
	}
	keep, fields = r.o.Judge(item.name)
	r.removed = r.removed || !keep
	if item.odd {
		fields = nil
	}
	return keep, fields
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// listItem is the part of an item that the rewriter needs.
type listItem struct {
	name string
	meta metaPlace
	odd  bool // _meta cannot take fields, because it is neither an object nor null

	description descriptionPlace // valid only if the options have a Note
	bad         string           // why the item cannot be read, or ""
}

// descriptionPlace is the place of an item's description in the text. If the item has
// no description, start and end are both the place where a description can be inserted.
type descriptionPlace struct {
	start, end int
	odd        bool // the description cannot take a note
}

// see records a description. The description's value is text[start:end] and begins
// with token t.
func (p *descriptionPlace) see(start, end int, t token) {
	p.odd = p.odd || p.end > p.start || t != tokenString && t != tokenNull
	p.start, p.end = start, end
}

func (i *listItem) refuse(reason string) {
	if i.bad == "" {
		i.bad = reason
	}
}

// item reads the item that begins with token t. It returns false if the text ends or is
// invalid within the item.
func (r *listRewriter) item(t token) (item listItem, ok bool) {
	if t != tokenObject {
		item.bad = "it is not an object"
		return item, r.skip(t)
	}
	item.meta = metaPlace{start: r.at, end: r.at}
	item.description = descriptionPlace{start: r.at, end: r.at}
	var seen uint
	t = r.next()
	for ; t == tokenKey; t = r.next() {
		words := r.words()
		describes := r.o.Note != nil && string(words) == "description"
		key, exact := r.shape.item.find(words)
		bit := uint(1) << key
		switch {
		case !exact:
			item.refuse(foldedKey)
		case key != keyOther && seen&bit != 0:
			item.refuse(keyTwice)
		}
		seen |= bit
		value := r.next()
		start := r.lex.start
		if key == itemName && value == tokenString && item.name == "" {
			item.name = string(r.words())
		}
		if key == itemName && (value != tokenString || r.lex.flawed || !utf8.ValidString(item.name)) {
			item.refuse("its name is not a string of Unicode")
		}
		if !r.skip(value) {
			return item, false
		}
		if describes {
			item.description.see(start, r.at, value)
		}
		if key == itemMeta {
			item.meta = metaPlace{start: start, end: r.at, isObject: value == tokenObject}
			item.odd = !mayBeMeta(value)
		}
	}
	if seen>>itemName&1 == 0 {
		item.refuse("it has no name")
	}
	return item, t == tokenObjectEnd
}
