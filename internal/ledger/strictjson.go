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

// Signed content must mean the same to every verifier. JSON parsers differ on
// duplicate members, on names in another case and on text that is not UTF-8. The
// functions below refuse all three (RFC 8725, section 2.4; RFC 7515, section 4, on
// duplicates).

// members returns the members of a JSON object. The text must hold nothing else.
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
		key := name.(string) // in valid JSON, a name comes before each value
		if _, twice := found[key]; twice {
			return nil, fmt.Errorf("it has %.40q twice", key)
		}
		found[key] = value
	}
	return found, nil
}

// decodeExactly decodes a JSON object into a struct. Every field must have a json tag.
// The object must have exactly one member for each field and no others; members for
// fields with omitempty may be missing.
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

// decodeURL decodes unpadded base64url (RFC 7515, section 2), and accepts only one
// encoding of each value. It checks for line ends, because Go's decoder skips them.
func decodeURL(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line end in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}
