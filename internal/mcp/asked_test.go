package mcp

import (
	"errors"
	"slices"
	"testing"
)

// TestReadListened checks that ReadListened returns the tasks of a request and
// refuses an ambiguous filter.
func TestReadListened(t *testing.T) {
	for params, want := range map[string][]string{
		``: nil, `{}`: nil, `{"notifications":{}}`: nil, `{"taskIds":["a"]}`: nil,
		`{"notifications":{"toolsListChanged":true,"taskIds":["a","b\u0063"]}}`: {"a", "bc"},
		`{"notifications":{"taskIds":[]}}`:                                      nil,
	} {
		var raw []byte
		if params != "" {
			raw = []byte(params)
		}
		if got, err := ReadListened(raw); err != nil || !slices.Equal(got.Tasks, want) {
			t.Errorf("%s: got %v, %v", params, got, err)
		}
	}
	for _, params := range []string{
		`{"Notifications":{"taskIds":["a"]}}`, `{"notifications":{"TaskIds":["a"]}}`, `{"notifications":[]}`,
		`{"notifications":{"taskIds":"a"}}`, `{"notifications":{"taskIds":["a",7]}}`, `{"notifications":{"taskIds":["a"`,
	} {
		if got, err := ReadListened([]byte(params)); !errors.Is(err, ErrAsked) {
			t.Errorf("%s: got %v, %v", params, got, err)
		}
	}
}

// TestReadReference checks that ReadReference returns the target of a completion and
// refuses an ambiguous one.
func TestReadReference(t *testing.T) {
	for params, want := range map[string]Reference{
		`{"ref":{"type":"ref/prompt","name":"essay"},"argument":{"name":"a","value":"b"}}`:       {Prompt: "essay"},
		`{"argument":{"ref":1},"ref":{"uri":"docs://\u0061","type":"ref/resource","title":"x"}}`: {Resource: "docs://a"},
		`{"ref":{"type":"ref/prompt","name":"essay","title":{"name":"other"}}}`:                  {Prompt: "essay"},
	} {
		if got, err := ReadReference([]byte(params)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", params, got, err)
		}
	}
	for _, params := range []string{
		``, `{}`, `[]`, `{"ref":null}`, `{"ref":{}}`, `{"ref":{"type":"ref/prompt"}}`, `{"ref":{"type":"ref/tool","name":"a"}}`, `{"ref":{"type":"ref/prompt","name":1}}`,
		`{"ref":{"type":"ref/prompt","name":"a"},"Ref":{}}`, `{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}`, `{"ref":{"type":"ref/prompt","name":"a","uri":"b"}}`,
		`{"ref":{"type":"ref/resource","name":"a"}}`, `{"ref":{"type":"ref/prompt","name":"a"},"ref":{}}`, `{"ref":{"type":"ref/resource","uri":""}}`,
	} {
		if got, err := ReadReference([]byte(params)); !errors.Is(err, ErrAsked) {
			t.Errorf("%s: %+v, %v", params, got, err)
		}
	}
}
