package mcp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzScannerAgainstJSONText compares a Scanner with jsontext, another strict parser.
// jsontext must accept every message that is neither empty nor malformed for the
// Scanner. The Scanner's lexer must refuse only invalid JSON, or JSON that nests too
// deep. jsontext is set to allow repeated keys and invalid UTF-8, and a byte order mark
// before the message is removed for it, because a Scanner allows these.
func FuzzScannerAgainstJSONText(f *testing.F) {
	for _, message := range listSeeds() {
		f.Add([]byte(message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		s := NewScanner(IntID(7))
		s.Write(message)
		v := s.End()
		text := bytes.TrimPrefix(message, byteOrderMark)
		valid := jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		blank := len(bytes.Trim(text, " \t\r\n")) == 0
		switch {
		case v.Class == ClassEmpty:
			if !blank {
				t.Fatalf("%q is not empty", message)
			}
		case v.Class != ClassMalformed && !valid:
			t.Fatalf("%q is %+v", message, v)
		case s.lex.state == failed && valid && !strings.Contains(s.lex.reason, "deeper"):
			t.Fatalf("%q is %+v", message, v)
		case v.Class == ClassMalformed && blank:
			t.Fatalf("%q is %+v", message, v)
		}
	})
}

// laxAnswer is a struct into which a client library may unmarshal a response.
type laxAnswer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  *string         `json:"method"`
	Error   json.RawMessage `json:"error"`
	Result  *struct {
		ResultType string `json:"resultType"`
		IsError    bool   `json:"isError"`
	} `json:"result"`
}

// FuzzScannerAgainstEncodingJSON checks the messages that a Scanner takes for the
// response: a lax parser must take each of them for the same response to the same
// request. The lax parser is encoding/json, which ignores the case of keys and takes
// the last of several equal keys.
func FuzzScannerAgainstEncodingJSON(f *testing.F) {
	for _, message := range listSeeds() {
		f.Add([]byte(message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, id := range []ID{IntID(7), StringID("seven")} {
			v := scan(NewScanner(id), id, string(message), len(message)+1)
			if v.Class != ClassAnswer {
				continue
			}
			var lax laxAnswer
			message := bytes.TrimPrefix(message, byteOrderMark)
			if err := json.Unmarshal(message, &lax); err != nil {
				if !json.Valid(message) {
					t.Fatalf("%q is %+v, but %v", message, v, err)
				}
				continue // skip a message with a member that does not have the type of the struct's field
			}
			var theirs, ours any
			if json.Unmarshal(lax.ID, &theirs) != nil || json.Unmarshal(id.AppendJSON(nil), &ours) != nil || theirs != ours {
				t.Fatalf("%q is %+v, but has the id %s", message, v, lax.ID)
			}
			isError := v.Outcome == OutcomeError
			if lax.JSONRPC != "2.0" || lax.Method != nil || (lax.Result == nil) != isError || (lax.Error != nil) != isError {
				t.Fatalf("%q is %+v, but encoding/json has %+v", message, v, lax)
			}
			if isError {
				continue
			}
			known := slices.Contains([]string{"", "complete", "input_required", "task"}, lax.Result.ResultType)
			if v.Outcome == OutcomeResult && (lax.Result.IsError || !known) || v.Outcome == OutcomeToolError && !lax.Result.IsError {
				t.Fatalf("%q is %+v, but encoding/json has %+v", message, v, lax.Result)
			}
		}
	})
}
