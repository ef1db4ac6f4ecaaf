package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxValues bounds the values in the arguments of a call that is priced by an
// expression, at all depths. In memory a value takes many times the two bytes
// that it may take in JSON; max_body bounds only the latter.
const maxValues = 100_000

// The reasons why arguments cannot be priced. They quote nothing of them.
var (
	errTooMany = fmt.Errorf("they have more than %d values", maxValues)
	errNumber  = errors.New("they have a number that is out of range")
	errTwice   = errors.New("they have a name twice")
	errSyntax  = errors.New("they are no JSON object")
)

// readArguments returns the arguments as an expression sees them. Numbers that
// are written as integers are int64 exactly, beyond its range and with a
// fraction or an exponent float64. Nil is an empty map.
func readArguments(raw []byte) (map[string]any, error) {
	if raw == nil {
		return map[string]any{}, nil
	}
	r := reader{Decoder: json.NewDecoder(bytes.NewReader(raw))}
	r.UseNumber()
	v, err := r.value()
	if err != nil {
		return nil, err
	}
	args, ok := v.(map[string]any)
	if !ok {
		return nil, errSyntax
	}
	return args, nil
}

// reader reads JSON values and counts them. Its recursion is as deep as the
// values are, which the decoder of messages has bounded.
type reader struct {
	*json.Decoder
	values int
}

func (r *reader) value() (any, error) {
	if r.values++; r.values > maxValues {
		return nil, errTooMany
	}
	token, err := r.Token()
	if err != nil {
		return nil, errSyntax
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return r.object()
		}
		return r.list()
	case json.Number:
		return number(t.String())
	}
	return token, nil // a string, a bool or nil
}

func (r *reader) object() (any, error) {
	members := make(map[string]any)
	for r.More() {
		name, err := r.Token()
		if err != nil {
			return nil, errSyntax
		}
		key := name.(string) // Token lets nothing else stand here
		if _, twice := members[key]; twice {
			return nil, errTwice
		}
		if members[key], err = r.value(); err != nil {
			return nil, err
		}
	}
	return members, r.end()
}

func (r *reader) list() (any, error) {
	list := []any{}
	for r.More() {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, r.end()
}

// end reads the delimiter that ends an object or a list.
func (r *reader) end() error {
	if _, err := r.Token(); err != nil {
		return errSyntax
	}
	return nil
}

func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, errNumber
	}
	return f, nil
}
