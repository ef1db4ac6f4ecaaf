package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrList is wrapped in the error for a message in which RewriteList cannot identify
// the list with certainty. The whole response must then be withheld.
var ErrList = errors.New("the list in the answer cannot be judged")

// ListRewrite are the options of RewriteList.
type ListRewrite struct {
	ID   ID   // the request's id, which the message must have
	List List // the list of the request's method
	Era  Era  // the request's era

	// PerCaller marks a list that depends on the caller, even if this page loses no
	// item. All pages of a list have one cache scope (MCP 2026-07-28, Caching), so a
	// caller that filters sets it for every page.
	PerCaller bool

	// Judge decides about one item by its unescaped name, uri or uriTemplate: whether
	// it stays, and the fields for its _meta. It is called once for each readable
	// item, in order, even if the message turns out to be refused. It must not be
	// nil.
	Judge func(name string) (keep bool, fields []Field)

	// Note returns a sentence to append to the description of an item that stays,
	// with a space before it, or "" for none. An item without a description gets one;
	// a description that is neither a string nor null, or comes twice, stays
	// unchanged. Note may be nil.
	Note func(name string) string

	// LeftOut receives each item that cannot be read, with the reason, the first text
	// in it that could be its name, or "", and its place in the list, from 0. It may
	// be nil.
	LeftOut func(index int, name, reason string)
}

// RewriteList returns the response to a list method without the items that Judge
// removes, with Judge's fields in the _meta of the others, and Note's sentences in
// their descriptions. It merges a _meta as AddMeta does: members whose names begin
// with "dev.farebox/" or equal a field's are dropped first, and an item without
// _meta, or with null there, gets one if it has fields. It drops the "dev.farebox/"
// members from the result's own _meta, too. If an item was removed, or the list is
// PerCaller, the result's cacheScope becomes "private"; in EraStateless it is added
// if it is absent, because clients take that for "public". All other bytes stay
// unchanged, and so does an error response. If there is nothing to change,
// RewriteList returns the message itself, not a copy.
//
// The message must be the response to that ID as a Scanner judges it. A result must
// have the list, an array or null. A key that identifies the response or the list
// must not come twice, nor may another key differ from it only in case or in
// invisible characters: the client would read another list than was judged. An item
// with such keys, or without a string for its name, is left out, and the list
// continues. An item whose _meta is not an object stays, without fields.
//
// The error wraps ErrList, or is ErrField for fields that AddMeta would refuse. It
// quotes nothing from the message. Time is linear in the lengths of the message and
// the additions. Memory is one buffer for the message and the additions, and the
// names of the items, one at a time.
func RewriteList(message []byte, o ListRewrite) ([]byte, error) {
	if int(o.List) >= len(listShapes) || o.List == 0 {
		return nil, fmt.Errorf("%w: no list was asked for", ErrList)
	}
	r := listRewriter{walker: walker{text: message}, o: &o, shape: &listShapes[o.List]}
	if !r.message() {
		return nil, r.failure()
	}
	return r.finish(), nil
}

// RewriteListEvent does the same for the data of one whole event, as an EventScanner
// cut it, and treats the event's lines as AddMetaToEvent does. If there is nothing to
// change, it returns the event itself, not a copy.
//
// Its errors are those of RewriteList.
func RewriteListEvent(event []byte, o ListRewrite) ([]byte, error) {
	head, lines := cutHead(event)
	data, last, found := eventData(lines)
	if !found {
		return nil, fmt.Errorf("%w: the event has no data", ErrList)
	}
	out, err := RewriteList(data, o)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(out, data) {
		return event, nil
	}
	return replaceData(head, lines, last, out, len(event)+len(out)-len(data)), nil
}

// listRewriter reads a message and rewrites it on the way.
type listRewriter struct {
	walker
	o       *ListRewrite
	shape   *listShape
	scratch []byte // for unescaping

	// out has the rewritten text before text[from]; nil as long as that is unchanged.
	out  []byte
	from int

	removed bool
	scope   scopePlace
	bad     string // the reason if the message is refused
	err     error  // the error if fields of Judge are refused
}

// scopePlace is the place of the result's cacheScope in the new text, or the place
// for one: then start equals end.
type scopePlace struct {
	start, end int
	private    bool
}

func (r *listRewriter) refuse(reason string) bool {
	if r.bad == "" {
		r.bad = reason
	}
	return false
}

// failure returns the reason why message returned false.
func (r *listRewriter) failure() error {
	switch {
	case r.err != nil:
		return r.err
	case r.bad != "":
		return fmt.Errorf("%w: %s", ErrList, r.bad)
	case r.lex.state == failed:
		return fmt.Errorf("%w: %s", ErrList, r.lex.reason)
	}
	return fmt.Errorf("%w: the message ends early", ErrList)
}

// cut continues the new text after text[end], and leaves out the text between start
// and end.
func (r *listRewriter) cut(start, end int) {
	if r.out == nil {
		r.out = make([]byte, 0, len(r.text)+len(r.text)/4+64)
	}
	r.out = append(r.out, r.text[r.from:start]...)
	r.from = end
}

// place returns the place of text[i], which is not before from, in the new text.
func (r *listRewriter) place(i int) int { return len(r.out) + i - r.from }

// finish ends the new text. Only now is it known whether the scope changes.
func (r *listRewriter) finish() []byte {
	private := r.removed || r.o.PerCaller
	absent := r.scope.start == r.scope.end
	isResult := r.scope.end > 0
	change := isResult && private && !r.scope.private && (!absent || r.o.Era == EraStateless)
	if r.out == nil && !change {
		return r.text
	}
	r.cut(len(r.text), len(r.text))
	switch {
	case !change:
	case absent:
		r.out = slices.Insert(r.out, r.scope.start, []byte(`"cacheScope":"private",`)...)
	default:
		r.out = slices.Replace(r.out, r.scope.start, r.scope.end, []byte(`"private"`)...)
	}
	return r.out
}

// remove takes an item off the list, with the comma that is no longer needed. Its
// text, and the white space around it, lie between begin and end.
func (r *listRewriter) remove(begin, end int, keptBefore bool) {
	switch {
	case keptBefore:
		begin--
	case r.text[end] == ',':
		end++
	}
	r.cut(begin, end)
}

// annotate adds the fields and the note of an item that stays. It writes the text in
// its original order. It reports whether the fields are valid.
func (r *listRewriter) annotate(item *listItem, fields []Field) bool {
	note := ""
	if r.o.Note != nil && !item.description.odd {
		note = r.o.Note(item.name)
	}
	if note == "" {
		return r.addMeta(item.meta, fields)
	}
	if item.description.start <= item.meta.start {
		r.describe(&item.description, note)
		return r.addMeta(item.meta, fields)
	}
	if !r.addMeta(item.meta, fields) {
		return false
	}
	r.describe(&item.description, note)
	return true
}

// describe appends a note to a description.
func (r *listRewriter) describe(place *descriptionPlace, note string) {
	quoted := appendString(nil, note)
	switch text := r.text[place.start:place.end]; {
	case len(text) == 0: // an item has its name
		r.cut(place.start, place.end)
		r.out = append(append(append(r.out, `"description":`...), quoted...), ',')
	case text[0] != '"', len(text) == len(`""`): // null, or empty
		r.cut(place.start, place.end)
		r.out = append(r.out, quoted...)
	default:
		r.cut(place.end-1, place.end)
		r.out = append(append(r.out, ' '), quoted[1:]...)
	}
}

// addMeta adds the fields to a _meta at a known place. It reports whether they are
// valid.
func (r *listRewriter) addMeta(place metaPlace, fields []Field) bool {
	if !validFields(fields) {
		r.err = ErrField
		return false
	}
	meta := r.text[place.start:place.end]
	switch {
	case place.isObject:
		if len(fields) == 0 && !hasOwn(meta) {
			return true
		}
		r.cut(place.start, place.end)
		r.out, _ = appendMerged(r.out, meta, fields)
	case len(fields) == 0:
	case len(meta) > 0: // null
		r.cut(place.start, place.end)
		r.out = appendObject(r.out, fields)
	default:
		r.cut(place.start, place.end)
		r.out = append(r.out, `"_meta":`...)
		r.out = appendObject(r.out, fields)
		r.out = append(r.out, ',') // an item has its name
	}
	return true
}

// hasOwn reports whether a _meta object, which is known to be valid, has a member
// that only the gateway may set.
func hasOwn(meta []byte) bool {
	w := walker{text: meta}
	w.next()
	for w.next() == tokenKey {
		if givesWay(w.key(), nil) {
			return true
		}
		w.skip(w.next())
	}
	return false
}
