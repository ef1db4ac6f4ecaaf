package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrList is wrapped in the error for a message in which RewriteList cannot
// tell with certainty which list it is. The whole answer is then to be withheld.
var ErrList = errors.New("the list in the answer cannot be judged")

// ListRewrite says what RewriteList is to do.
type ListRewrite struct {
	ID   ID   // of the request; the message must have this id
	List List // what the request's method lists
	Era  Era  // of the request

	// PerCaller says that the list depends on who asks, even if this page
	// loses no item. All pages of a list have one cache scope (MCP 2026-07-28,
	// Caching), so a caller that filters sets it for every page.
	PerCaller bool

	// Judge decides about one item by its unescaped name, uri or uriTemplate:
	// whether it stays, and the fields for its _meta. It is called once for
	// each item that can be read, in their order, also when the message turns out
	// to be refused later. It must not be nil.
	Judge func(name string) (keep bool, fields []Field)

	// Note returns a sentence for people to be put at the end of the description of
	// an item that stays, with a space before it, or "" for none. An item without a
	// description gets one; of one whose description is neither a string nor null,
	// or is there twice, it stays as it is. It may be nil.
	Note func(name string) string

	// LeftOut is told of an item that cannot be read, and why: the first text in
	// it that could be its name, "" if there is none, and its place in the list,
	// from 0. It may be nil.
	LeftOut func(index int, name, reason string)
}

// RewriteList returns an answer to a list method with the items removed that
// Judge does not keep, and with Judge's fields in the _meta of those it keeps, and
// Note's words in their descriptions.
// A _meta is merged as AddMeta does: members whose name begins with
// "dev.farebox/", or is that of a field, are dropped first, and an item without
// _meta, or with null there, gets one if it has fields. From the result's own
// _meta the "dev.farebox/" members are dropped, too. If an item was removed, or
// the list is PerCaller, the result's cacheScope becomes "private"; in
// EraStateless it is added if it is absent, because clients take that for
// "public". All else stays as it was, byte for byte, and so does an answer that
// is an error. If nothing is to be changed, the result is the message itself,
// not a copy.
//
// The message must be the answer to that ID as a Scanner judges it. If it has
// a result, that must have the list, an array or null. Nor may a key that says
// which answer or which list it is come twice, or one differ from it only in case
// or in characters that cannot be seen: the client would read another list than
// was judged. An item of which the same is true, or that has no name that is a
// string, is left out, and the list goes on. One whose _meta is no object stays,
// without fields.
//
// The error wraps ErrList, or is ErrField for fields that AddMeta would refuse.
// It quotes nothing of the message. Time is linear in the lengths of the
// message and of what is added. Memory is one buffer that holds the message
// and what is added, and the names of the items, one at a time.
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

// RewriteListEvent does what RewriteList does for the data of one whole event,
// as an EventScanner cut it, and treats the event's lines as AddMetaToEvent does.
// If nothing is to be changed, the result is the event itself, not a copy.
//
// The error is one of RewriteList.
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

// listRewriter reads a message and writes it anew as it goes.
type listRewriter struct {
	walker
	o       *ListRewrite
	shape   *listShape
	scratch []byte // for unescaping

	// out has what comes before text[from], rewritten; nil as long as that is
	// the same.
	out  []byte
	from int

	removed bool
	scope   scopePlace
	bad     string // why the message is refused
	err     error  // why fields of Judge are refused
}

// scopePlace is where in the result's new text its cacheScope is, or is to be:
// then start equals end.
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

// failure returns why message returned false.
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

// cut goes on with the new text after text[end], and leaves out what lies
// between start and end.
func (r *listRewriter) cut(start, end int) {
	if r.out == nil {
		r.out = make([]byte, 0, len(r.text)+len(r.text)/4+64)
	}
	r.out = append(r.out, r.text[r.from:start]...)
	r.from = end
}

// place returns where text[i], which is not before from, goes in the new text.
func (r *listRewriter) place(i int) int { return len(r.out) + i - r.from }

// finish ends the new text. Whether the scope is to change is known only now.
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

// remove takes an item from the list, with the comma that it no longer needs.
// Its text, and the white space around it, lie between begin and end.
func (r *listRewriter) remove(begin, end int, keptBefore bool) {
	switch {
	case keptBefore:
		begin--
	case r.text[end] == ',':
		end++
	}
	r.cut(begin, end)
}

// dress gives an item that stays what belongs to it. The text is written in its
// order. It reports whether the fields are valid.
func (r *listRewriter) dress(item *listItem, fields []Field) bool {
	note := ""
	if r.o.Note != nil && !item.description.odd {
		note = r.o.Note(item.name)
	}
	if note == "" {
		return r.stamp(item.meta, fields)
	}
	if item.description.start <= item.meta.start {
		r.describe(&item.description, note)
		return r.stamp(item.meta, fields)
	}
	if !r.stamp(item.meta, fields) {
		return false
	}
	r.describe(&item.description, note)
	return true
}

// describe puts a note at the end of a description.
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

// stamp gives a _meta, of which the place is known, the fields. It reports
// whether these are valid.
func (r *listRewriter) stamp(place metaPlace, fields []Field) bool {
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

// hasOwn reports whether a _meta object, which is known to be valid, has a
// member that only the gateway may set.
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
