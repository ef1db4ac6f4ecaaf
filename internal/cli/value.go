package cli

import (
	"bytes"
	"encoding"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/table"
)

// printer prints an operation's output as text. raw is the output in JSON or, for a
// listing, the JSON array of all items.
type printer func(w io.Writer, raw []byte) error

// object returns a printer that decodes the output into a T and calls print(w, value).
func object[T any](print func(io.Writer, T)) printer {
	return func(w io.Writer, raw []byte) error {
		value, err := decode[T](raw)
		if err == nil {
			print(w, value)
		}
		return err
	}
}

// rows returns a printer that prints a listing of T as a table.
func rows[T any](head []string, row func(T) []any) printer {
	return func(w io.Writer, raw []byte) error {
		items, err := decode[[]T](raw)
		if err != nil {
			return err
		}
		return table.Print(w, head, items, row)
	}
}

// printValueOf returns a printer for outputs of type t. It prints a slice of structs
// as a table, a struct as names and values, and any other type as JSON.
func printValueOf(t reflect.Type) printer {
	return func(w io.Writer, raw []byte) error {
		value := reflect.New(t)
		if len(raw) > 0 {
			if err := decodeInto(raw, value.Interface()); err != nil {
				return err
			}
		}
		for t.Kind() == reflect.Pointer {
			t, value = t.Elem(), value.Elem()
		}
		switch {
		case len(raw) == 0: // the operation has no output
			return nil
		case t.Kind() == reflect.Struct:
			var pairs []any
			for _, m := range jsonFields(t) {
				pairs = append(pairs, label(m.name), textOf(value.Elem().FieldByIndex(m.index)))
			}
			table.Fields(w, pairs...)
			return nil
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
			return printStructs(w, value.Elem())
		}
		return printJSON(w, json.RawMessage(raw))
	}
}

// printStructs prints a slice of structs as a table with one column per member.
func printStructs(w io.Writer, list reflect.Value) error {
	columns := jsonFields(list.Type().Elem())
	head := make([]string, len(columns))
	for i, m := range columns {
		head[i] = strings.ToUpper(label(m.name))
	}
	items := make([]reflect.Value, list.Len())
	for i := range items {
		items[i] = list.Index(i)
	}
	return table.Print(w, head, items, func(item reflect.Value) []any {
		cells := make([]any, len(columns))
		for i, m := range columns {
			cells[i] = textOf(item.FieldByIndex(m.index))
		}
		return cells
	})
}

func label(name string) string { return strings.ReplaceAll(name, "_", " ") }

// textOf returns a value as text for people, or a dash if the value is empty.
func textOf(v reflect.Value) string {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return "-"
	}
	switch value := v.Interface().(type) {
	case time.Time:
		return value.Format(time.RFC3339)
	case []string:
		return orDash(strings.Join(value, " "))
	case string:
		return orDash(value)
	case encoding.TextMarshaler:
		if text, err := value.MarshalText(); err == nil {
			return orDash(string(text))
		}
	}
	if v.Kind() == reflect.Pointer {
		return textOf(v.Elem())
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v.Interface()); err != nil {
		return "-"
	}
	return orDash(strings.Trim(strings.TrimSpace(b.String()), `"`))
}
