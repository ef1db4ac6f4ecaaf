package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrList is wrapped in the error if RewriteList cannot be certain that every client
// finds the same list in the message. The caller must then withhold the whole response.
var ErrList = errors.New("the list in the answer cannot be judged")

// ListRewrite holds the options of RewriteList.
type ListRewrite struct {
	ID   ID   // id of the request; the message must have the same id
	List List // list that the request's method returns
	Era  Era  // era of the request

	// PerCaller marks the list as dependent on the caller, even if no item is removed
	// from this page. All pages of a list have one cache scope (MCP 2026-07-28,
	// Caching), so code that filters a list by caller sets PerCaller for every page.
	PerCaller bool

	// Judge decides about one item. Its argument is the unescaped value of the member
	// that identifies the item: name, uri, uriTemplate or taskId. Judge reports whether
	// the item stays, and returns the fields for the item's _meta. Judge is called once
	// for each readable item, in order, even if RewriteList later refuses the message.
	// Judge must not be nil.
	Judge func(name string) (keep bool, fields []Field)

	// Note returns a sentence for the description of an item that stays, or "" for no
	// sentence. RewriteList appends the sentence after a space, or adds a description
	// if the item has none. If the description is neither a string nor null, or if the
	// item has two descriptions, RewriteList leaves the sentence out. Note may be nil.
	Note func(name string) string

	// LeftOut is called for each item that cannot be read. index is the item's index in
	// the original list. name is the first text in the item that could be the item's
	// name, or "". LeftOut may be nil.
	LeftOut func(index int, name, reason string)
}

// RewriteList removes items from the response to a list method. It returns the response
// without the items that Judge refuses, with Judge's fields in the _meta of the other
// items, and with Note's sentences in their descriptions.
//
// RewriteList merges the fields into _meta as AddMeta does. It first drops members that
// have the name of a field or a name that begins with "dev.farebox/". If an item gets
// fields but has no _meta, or null as its _meta, RewriteList adds a _meta. RewriteList
// also drops the "dev.farebox/" members from the _meta of the result itself.
//
// If Judge removes an item, or if PerCaller is set, the cacheScope of the result becomes
// "private". A missing cacheScope is added only in EraStateless, because there clients
// take a missing one for "public". All other bytes stay unchanged. An error response
// stays unchanged as a whole. If no byte changes, RewriteList returns the message
// itself, not a copy.
//
// The message must be a response with the given ID, by the rules of a Scanner. A
// result must have the list, which is an array or null. A key that identifies the
// response or the list must not occur twice, and no other key may differ from it only
// in case or in invisible characters. Otherwise a client could read another list than
// the one that Judge saw. An item is left out if its own reserved keys break this
// rule, or if its name is not a string. The other items stay. An item with a _meta
// that is neither an object nor null stays without fields.
//
// The error wraps ErrList, or is ErrField for fields that AddMeta would refuse. It
// quotes nothing from the message. Time is linear in the length of the message and the
// additions. Memory is one buffer for the message with its additions, plus the name of
// one item at a time.
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

// RewriteListEvent applies RewriteList to the data of one whole event that an
// EventScanner has cut. It treats the lines of the event as AddMetaToEvent does. If no
// byte of the data changes, it returns the event itself, not a copy.
//
// It returns the same errors as RewriteList, and one that wraps ErrList for an event
// without data.
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

// listRewriter reads a message and rewrites it in the same pass.
type listRewriter struct {
	walker
	o       *ListRewrite
	shape   *listShape
	scratch []byte // buffer for the unescaped text of a key or string

	// out is the rewritten form of text[:from], or nil before the first change.
	out  []byte
	from int

	removed bool // Judge has removed an item
	scope   scopePlace
	bad     string // why the message is refused, or ""
	err     error  // ErrField if the fields from Judge are invalid
}

// scopePlace is the place of the result's cacheScope in the new text. If the result has
// no cacheScope, start and end are both the place where a cacheScope can be inserted.
type scopePlace struct {
	start, end int
	private    bool // the cacheScope is "private" already
}

func (r *listRewriter) refuse(reason string) bool {
	if r.bad == "" {
		r.bad = reason
	}
	return false
}

// failure returns the error of RewriteList. It is called after r.message() has returned
// false.
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

// cut appends text[r.from:start] to the new text and skips text[start:end].
func (r *listRewriter) cut(start, end int) {
	if r.out == nil {
		r.out = make([]byte, 0, len(r.text)+len(r.text)/4+64)
	}
	r.out = append(r.out, r.text[r.from:start]...)
	r.from = end
}

// place returns the index that text[i] will have in the new text if no further text
// before it is cut. i must be at least r.from.
func (r *listRewriter) place(i int) int { return len(r.out) + i - r.from }

// finish ends the new text and returns it. It sets the cacheScope last, because only
// then is it known whether an item was removed.
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

// remove removes an item from the list, together with one of the commas next to it. The
// item, with the white space around it, is text[begin:end]. If keptBefore is true, an
// earlier item stays, and the comma before the removed item is removed. Otherwise the
// comma after the removed item is removed.
func (r *listRewriter) remove(begin, end int, keptBefore bool) {
	switch {
	case keptBefore:
		begin--
	case r.text[end] == ',':
		end++
	}
	r.cut(begin, end)
}

// annotate adds the fields and the note to an item that stays. It changes _meta and the
// description in the order in which they occur, because cut only moves forward. It
// reports whether the fields are valid.
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
	case len(text) == 0: // the item has no description; the item's name follows, so a comma is needed
		r.cut(place.start, place.end)
		r.out = append(append(append(r.out, `"description":`...), quoted...), ',')
	case text[0] != '"', len(text) == len(`""`): // the description is null or an empty string
		r.cut(place.start, place.end)
		r.out = append(r.out, quoted...)
	default:
		r.cut(place.end-1, place.end)
		r.out = append(append(r.out, ' '), quoted[1:]...)
	}
}

// addMeta merges the fields into the _meta at the given place. It reports whether the
// fields are valid.
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
	case len(meta) > 0: // _meta is null
		r.cut(place.start, place.end)
		r.out = appendObject(r.out, fields)
	default:
		r.cut(place.start, place.end)
		r.out = append(r.out, `"_meta":`...)
		r.out = appendObject(r.out, fields)
		r.out = append(r.out, ',') // a comma, because the item's name follows
	}
	return true
}

// hasOwn reports whether a _meta object has a member that only the gateway may set. The
// object must be valid JSON.
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
