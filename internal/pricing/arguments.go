package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxValues bounds the number of values, at all depths, in the arguments of a call that
// is priced by an expression. The option max_body is not sufficient, because it bounds
// only the length of the JSON: a value that takes two bytes in JSON takes many times as
// much memory.
const maxValues = 100_000

// Reasons why arguments cannot be priced. The texts never quote the arguments.
var (
	errTooMany = fmt.Errorf("they have more than %d values", maxValues)
	errNumber  = errors.New("they have a number that is out of range")
	errTwice   = errors.New("they have a name twice")
	errSyntax  = errors.New("they are not a JSON object")
	errAlike   = errors.New("they have two names in one object that some servers take for one, since they differ in case, '_', '-' or form alone")
)

// alikeError refuses arguments with a name that a lax JSON decoder, such as one that
// ignores case, could take for a name that the expression reads.
type alikeError struct{ exact string }

func (e *alikeError) Error() string {
	return fmt.Sprintf("they have a name that some servers take for %q, by which the price is found, since it differs in case, '_', '-' or form alone: write it exactly so", e.exact)
}

// readArguments decodes the arguments of a call for an expression. A number that is
// written as an integer becomes an exact int64. A number beyond the range of int64, or
// with a fraction or an exponent, becomes a float64. Nil arguments are an empty map.
// readArguments refuses arguments that do not have the required shape, because a server
// with a lax JSON decoder could find other values in them than the expression does.
func readArguments(raw []byte, s *shape) (map[string]any, error) {
	if raw == nil {
		return map[string]any{}, nil
	}
	r := reader{Decoder: json.NewDecoder(bytes.NewReader(raw))}
	r.UseNumber()
	v, err := r.value(s)
	if err != nil {
		return nil, err
	}
	args, ok := v.(map[string]any)
	if !ok {
		return nil, errSyntax
	}
	return args, nil
}

// reader decodes JSON values and counts them. Its recursion is as deep as the values
// are nested. Package mcp has already bounded the nesting.
type reader struct {
	*json.Decoder
	values int
}

func (r *reader) value(s *shape) (any, error) {
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
			return r.object(s)
		}
		return r.list(s)
	case json.Number:
		return number(t.String())
	}
	return token, nil // a string, a bool or nil
}

func (r *reader) object(s *shape) (any, error) {
	members := make(map[string]any)
	var seen map[string]struct{}
	for r.More() {
		name, err := r.Token()
		if err != nil {
			return nil, errSyntax
		}
		key := name.(string) // in an object, Token returns a string here
		if _, twice := members[key]; twice {
			return nil, errTwice
		}
		member, err := s.check(key, &seen)
		if err != nil {
			return nil, err
		}
		if members[key], err = r.value(member); err != nil {
			return nil, err
		}
	}
	return members, r.end()
}

func (r *reader) list(s *shape) (any, error) {
	list := []any{}
	var elem *shape
	if s != nil {
		elem = s.elem
	}
	for r.More() {
		v, err := r.value(elem)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, r.end()
}

// end reads the closing delimiter of an object or a list.
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
