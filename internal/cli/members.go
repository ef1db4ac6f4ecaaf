package cli

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/limits"
	"github.com/fareboxhq/farebox/internal/ops"
)

// member is a field of an operation's input.
type member struct {
	place    place
	name     string // name of the member in the path, the query or the JSON
	flag     string // name of the member's flag
	doc      string
	required bool
	index    []int                   // index of the member's field in the input, for FieldByIndex
	check    func(text string) error // checks an argument before it is parsed; nil for flags
}

// place is the part of a request that contains a member.
type place int

const (
	inPath place = iota
	inQuery
	inBody
)

// membersOf returns the members of an operation's input. It omits "after" and "limit",
// which select a page, because a command reads as many pages as it needs.
func membersOf(in reflect.Type) []member {
	var all []member
	for _, f := range reflect.VisibleFields(in) {
		if f.Name == "Body" {
			for _, b := range jsonFields(f.Type) {
				b.index = append(append([]int{}, f.Index...), b.index...)
				all = append(all, b)
			}
		}
		m := member{doc: f.Tag.Get("doc"), index: f.Index}
		if name := f.Tag.Get("path"); name != "" {
			m.place, m.name, m.required = inPath, name, true
		} else if name = f.Tag.Get("query"); name != "" && name != "after" && name != "limit" {
			m.place, m.name, m.required = inQuery, name, f.Tag.Get("required") == "true"
		} else {
			continue
		}
		m.flag = flagName(f, m.name)
		all = append(all, m)
	}
	return all
}

// jsonFields returns the members of a struct's JSON form, in the order of the
// fields.
func jsonFields(t reflect.Type) []member {
	var all []member
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous || !f.IsExported() || tag == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		all = append(all, member{
			place: inBody, name: name, flag: flagName(f, name), doc: f.Tag.Get("doc"), index: f.Index,
			required: !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero"),
		})
	}
	return all
}

// flagName returns the name of a member's flag. A flag that may be repeated is named in
// the singular: --scope sets the member "scopes".
func flagName(f reflect.StructField, name string) string {
	switch f.Type {
	case reflect.TypeFor[[]string](), reflect.TypeFor[*[]string](), reflect.TypeFor[*admin.Caps](), reflect.TypeFor[*[]ops.MembershipChange]():
		name = strings.TrimSuffix(name, "s")
	}
	return strings.ReplaceAll(name, "_", "-")
}

// bindFlag adds the flag that sets m. If value is not nil, bindFlag calls it to make
// the pflag.Value that parses the flag's text.
func (x *operation) bindFlag(m member, value func() pflag.Value) {
	flags, field, doc := x.cmd.Flags(), x.in.FieldByIndex(m.index), m.doc
	if m.required && field.Kind() != reflect.Bool {
		doc += " (required)"
	}
	later := func(set func() error) {
		x.set = append(x.set, func() error {
			if !flags.Changed(m.flag) {
				return nil
			}
			return set()
		})
	}
	if value != nil {
		v := value()
		flags.Var(v, m.flag, doc)
		later(func() error { return parseInto(field, v.String()) })
		return
	}
	switch p := field.Addr().Interface().(type) {
	case *string:
		flags.StringVar(p, m.flag, "", doc)
	case *bool:
		flags.BoolVar(p, m.flag, false, doc)
	case *int:
		flags.IntVar(p, m.flag, 0, doc)
	case *[]string:
		flags.StringArrayVar(p, m.flag, nil, doc+"; may be repeated")
	case **[]string:
		all := flags.StringArray(m.flag, nil, doc+"; may be repeated")
		later(func() error { *p = all; return nil })
	case **admin.Caps:
		var caps []string
		flags.StringArrayVar(&caps, m.flag, nil, doc+limits.Hint)
		later(func() (err error) { *p, err = limits.ParseCaps(caps); return err })
	default:
		text := flags.String(m.flag, "", doc)
		later(func() error {
			if err := parseInto(field, *text); err != nil {
				return fmt.Errorf("--%s: %w", m.flag, err)
			}
			return nil
		})
	}
}

// parseInto parses text and sets v to the result. A type that has no syntax of its
// own on the command line is parsed as JSON.
func parseInto(v reflect.Value, text string) error {
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		if err := parseInto(p.Elem(), text); err != nil {
			return err
		}
		v.Set(p)
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number, or out of range", text)
		}
		v.SetInt(n)
	default:
		if err := json.Unmarshal([]byte(text), v.Addr().Interface()); err != nil {
			return fmt.Errorf("%q cannot be read: %w", text, err)
		}
	}
	return nil
}
