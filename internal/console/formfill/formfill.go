// Package formfill puts a form that was refused back into its page: with the input of
// the person, and with the problem beside the field that it is about. It works on the
// HTML of the page, so that no template and no handler of a form can forget to do this.
package formfill

import (
	"bytes"
	"iter"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Refusal is a form that was refused.
type Refusal struct {
	Action string     // path that the form was sent to
	Input  url.Values // all that was sent
	Detail string     // the problem, for a person
	// Fields are possible names of the wrong field. The first one that the form has is
	// meant. Fields is empty if no field is wrong.
	Fields []string
	// Conflict reports whether the id of the booking belongs to another booking.
	Conflict bool
}

// Fill returns the page with the input in its form, and the problem beside the field
// that it is about. Passwords and fields with the attribute data-secret stay empty.
func (r *Refusal) Fill(page []byte) ([]byte, error) {
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return nil, err
	}
	if form := r.find(doc); form != nil {
		for control := range controls(form) {
			r.restore(control)
		}
		if control := r.wrong(form); control != nil {
			r.mark(doc, control)
		}
	}
	var out bytes.Buffer
	err = html.Render(&out, doc)
	return out.Bytes(), err
}

// controls are the controls with a name in a form.
func controls(form *html.Node) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) {
		for n := range form.Descendants() {
			named := n.DataAtom == atom.Input || n.DataAtom == atom.Select || n.DataAtom == atom.Textarea
			if named && attribute(n, "name") != "" && !yield(n) {
				return
			}
		}
	}
}

// find returns the form that was sent, or nil. Several forms of a page can have the
// same action. The form that was sent has all fields of the input, and the fewest other
// fields.
func (r *Refusal) find(doc *html.Node) (best *html.Node) {
	fewest := 0
	for form := range doc.Descendants() {
		if form.DataAtom != atom.Form || attribute(form, "method") != "post" || !r.sentTo(attribute(form, "action")) {
			continue
		}
		fields := make(map[string]bool)
		fits := true
		for control := range controls(form) {
			name, value := attribute(control, "name"), attribute(control, "value")
			fields[name] = true
			if fixed := attribute(control, "type") == "hidden" && name != bookingField; fixed && r.Input.Get(name) != value {
				fits = false
			}
		}
		for name := range r.Input {
			fits = fits && fields[name]
		}
		if fits && (best == nil || len(fields) < fewest) {
			best, fewest = form, len(fields)
		}
	}
	return best
}

// sentTo reports whether a form with the action was the one that was sent.
func (r *Refusal) sentTo(action string) bool {
	u, err := url.Parse(action)
	return err == nil && u.Path == r.Action
}

// bookingField is the hidden field with the id of a booking.
const bookingField = "id"

// restore puts the input into a control.
func (r *Refusal) restore(control *html.Node) {
	name, kind := attribute(control, "name"), attribute(control, "type")
	sent, was := r.Input[name]
	switch {
	case kind == "checkbox" || kind == "radio":
		value := attribute(control, "value")
		if value == "" {
			value = "on"
		}
		toggle(control, "checked", slices.Contains(sent, value))
	case !was || kind == "password" || has(control, "data-secret"):
	case name == bookingField && r.Conflict:
		// The id belongs to another booking, so the form keeps its new one.
	case control.DataAtom == atom.Select:
		for option := range control.Descendants() {
			if option.DataAtom == atom.Option {
				toggle(option, "selected", slices.Contains(sent, optionValue(option)))
			}
		}
	case control.DataAtom == atom.Textarea:
		for control.FirstChild != nil {
			control.RemoveChild(control.FirstChild)
		}
		control.AppendChild(&html.Node{Type: html.TextNode, Data: sent[0]})
	default:
		set(control, "value", sent[0])
	}
}

// wrong returns the control of the field that the problem is about, or nil.
func (r *Refusal) wrong(form *html.Node) *html.Node {
	for _, name := range r.Fields {
		for control := range controls(form) {
			if name != "" && attribute(control, "name") == name && attribute(control, "type") != "hidden" {
				return control
			}
		}
	}
	return nil
}

// ProblemID is the id of the element with the problem, at the top of a page.
const ProblemID = "problem"

// mark puts the problem beside the control, and a link to the control into the problem
// at the top of the page.
func (r *Refusal) mark(doc, control *html.Node) {
	name := attribute(control, "name")
	set(control, "id", "field-"+name)
	set(control, "aria-invalid", "true")
	set(control, "aria-describedby", "error-"+name)
	label := control
	for n := range control.Ancestors() {
		if n.DataAtom == atom.Label {
			label = n
			break
		}
	}
	beside := element(atom.P, r.Detail, html.Attribute{Key: "class", Val: "error"}, html.Attribute{Key: "id", Val: "error-" + name})
	label.Parent.InsertBefore(beside, label.NextSibling)
	for n := range doc.Descendants() {
		if attribute(n, "id") == ProblemID {
			n.AppendChild(element(atom.A, "Correct the field: "+strings.TrimSpace(firstText(label)), html.Attribute{Key: "href", Val: "#field-" + name}))
			return
		}
	}
}

func element(of atom.Atom, text string, attributes ...html.Attribute) *html.Node {
	n := &html.Node{Type: html.ElementNode, DataAtom: of, Data: of.String(), Attr: attributes}
	n.AppendChild(&html.Node{Type: html.TextNode, Data: text})
	return n
}

// firstText returns the first text in a node.
func firstText(n *html.Node) string {
	for child := range n.Descendants() {
		if child.Type == html.TextNode && strings.TrimSpace(child.Data) != "" {
			return child.Data
		}
	}
	return ""
}

// optionValue returns the value that an option of a select sends.
func optionValue(option *html.Node) string {
	if has(option, "value") {
		return attribute(option, "value")
	}
	return strings.TrimSpace(firstText(option))
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// set gives the node an attribute.
func set(n *html.Node, key, value string) {
	toggle(n, key, false)
	n.Attr = append(n.Attr, html.Attribute{Key: key, Val: value})
}

// toggle gives the node an attribute without a value, or takes the attribute away.
func toggle(n *html.Node, key string, on bool) {
	n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
	if on {
		n.Attr = append(n.Attr, html.Attribute{Key: key})
	}
}
