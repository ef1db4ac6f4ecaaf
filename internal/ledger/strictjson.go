package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// What is signed must mean the same to everybody who checks it. Readers of JSON
// differ on a member that is there twice, on names in another case and on text
// that is not UTF-8, so nothing of the kind is read here (RFC 8725, section
// 2.4, and RFC 7515, section 4, on duplicates).

// members returns the members of the JSON object that is the whole of the text.
func members(text []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errors.New("it is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	found := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		key := name.(string) // the text is valid: a name comes before each value
		if _, twice := found[key]; twice {
			return nil, fmt.Errorf("it has %.40q twice", key)
		}
		found[key] = value
	}
	return found, nil
}

// decodeExactly reads a JSON object into a struct whose fields all have tags.
// Each field must be there under exactly its name, and nothing else, but for
// those that the tag says are omitted when empty.
func decodeExactly[T any](text []byte) (T, error) {
	var into, none T
	found, err := members(text)
	if err != nil {
		return none, err
	}
	v := reflect.ValueOf(&into).Elem()
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		value, ok := found[name]
		delete(found, name)
		switch {
		case !ok && strings.Contains(options, "omitempty"):
			continue
		case !ok:
			return none, fmt.Errorf("it has no %q", name)
		case string(value) == "null":
			return none, fmt.Errorf("its %q is null", name)
		}
		if err := json.Unmarshal(value, v.Field(i).Addr().Interface()); err != nil {
			return none, fmt.Errorf("its %q is not what it should be", name)
		}
	}
	for name := range found {
		return none, fmt.Errorf("it has a member %.40q, which this version does not know", name)
	}
	return into, nil
}

// decodeURL reads base64url without padding (RFC 7515, section 2), of which
// every value has exactly one form. Go's decoder skips line ends.
func decodeURL(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line end in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}
