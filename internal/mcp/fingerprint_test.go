package mcp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func fingerprintOf(t *testing.T, method, params string) [32]byte {
	t.Helper()
	m, err := Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`))
	if err != nil {
		t.Fatalf("%s: %v", params, err)
	}
	return Fingerprint(&m)
}

// TestFingerprintSame checks that a retry has the same fingerprint even if it writes
// the same call as different JSON.
func TestFingerprintSame(t *testing.T) {
	first := fingerprintOf(t, "tools/call", `{"name":"pay","arguments":{"a":"x/é","b":[1,{"c":null,"d":true}]}}`)
	for _, same := range []string{
		`{"arguments":{"b":[1,{"d":true,"c":null}],"a":"x/é"},"name":"pay"}`,
		`{ "name" : "p\u0061y", "arguments" : { "a" : "x\/\u00e9", "b" : [ 1 , { "c" : null , "d" : true } ] } }`,
		`{"name":"pay","arguments":{"a":"x/é","b":[1,{"c":null,"d":true}]},"_meta":{"progressToken":7,"dev.farebox/idempotency-key":"k"}}`,
	} {
		if fingerprintOf(t, "tools/call", same) != first {
			t.Errorf("%s has another fingerprint", same)
		}
	}
}

// TestFingerprintDiffers checks that two calls have different fingerprints if a server
// could distinguish them.
func TestFingerprintDiffers(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, params := range []string{
		`{"name":"pay"}`, `{"name":"pay","arguments":{}}`, `{"name":"paya","arguments":{}}`,
		`{"name":"pay","arguments":{"a":1}}`, `{"name":"pay","arguments":{"a":1.0}}`, `{"name":"pay","arguments":{"a":"1"}}`,
		`{"name":"pay","arguments":{"a":9007199254740993}}`, `{"name":"pay","arguments":{"a":9007199254740992}}`,
		`{"name":"pay","arguments":{"a":[1,2]}}`, `{"name":"pay","arguments":{"a":[12]}}`, `{"name":"pay","arguments":{"a":[2,1]}}`, `{"name":"pay","arguments":{"a":[[1],2]}}`,
		`{"name":"pay","arguments":{"a":null}}`, `{"name":"pay","arguments":{"a":"null"}}`, `{"name":"pay","arguments":{"a":false}}`,
		`{"name":"pay","arguments":{"a":{"b":1},"c":2}}`, `{"name":"pay","arguments":{"a":{"b":1,"c":2}}}`,
		`{"name":"pay","arguments":{"A":1}}`, `{"name":"pay","arguments":{"a":"\"}"}}`, `{"name":"pay","arguments":{"a":[]}}`, `{"name":"pay","arguments":{"a":{}}}`,
	} {
		f := fingerprintOf(t, "tools/call", params)
		if other, ok := seen[f]; ok {
			t.Errorf("%s and %s have one fingerprint", params, other)
		}
		seen[f] = params
	}
	if fingerprintOf(t, "prompts/get", `{"name":"pay"}`) == fingerprintOf(t, "tools/call", `{"name":"pay"}`) {
		t.Error("two methods have one fingerprint")
	}
}

// TestFingerprintOfOtherMethods checks that, for methods other than tools/call and
// prompts/get, the fingerprint covers the params except _meta, requestState and
// inputResponses.
func TestFingerprintOfOtherMethods(t *testing.T) {
	first := fingerprintOf(t, "resources/read", `{"uri":"docs://a"}`)
	for _, same := range []string{
		`{ "uri" : "docs:\/\/a" }`, `{"_meta":{"progressToken":7},"uri":"docs://a"}`,
		`{"requestState":"s","uri":"docs://a","inputResponses":{"x":{}}}`,
	} {
		if fingerprintOf(t, "resources/read", same) != first {
			t.Errorf("%s has another fingerprint", same)
		}
	}
	for _, other := range []string{`{"uri":"docs://b"}`, `{"uri":"docs://a","range":1}`, `{"uri":"docs://a","arguments":{}}`} {
		if fingerprintOf(t, "resources/read", other) == first {
			t.Errorf("%s has the same fingerprint", other)
		}
	}
	if fingerprintOf(t, "vendor/thing", `{"a":1,"b":{"_meta":1}}`) == fingerprintOf(t, "vendor/thing", `{"a":1,"b":{"_meta":2}}`) {
		t.Error("a _meta that is not the request's own is left out")
	}
}

// TestWithID checks that WithID replaces the id of a stored response and changes
// nothing else.
func TestWithID(t *testing.T) {
	for message, want := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"result":{"id":2}}`:                  `{"jsonrpc":"2.0","id":"n\u0022","result":{"id":2}}`,
		`{"result":{"content":[]}, "\u0069d" : "x" ,"jsonrpc":"2.0"}`: `{"result":{"content":[]}, "\u0069d" : "n\u0022" ,"jsonrpc":"2.0"}`,
	} {
		got, err := WithID([]byte(message), StringID(`n"`))
		want = strings.ReplaceAll(want, `\u0022`, `\"`)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", message, got, err, want)
		}
	}
	for _, bad := range []string{``, `[]`, `{"result":{}}`, `{"id":1,"id":2}`, `{"id":1`, `{"id":1}{}`} {
		if _, err := WithID([]byte(bad), IntID(1)); !errors.Is(err, ErrNoResult) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestRetryKey checks that the idempotency key in _meta must be a string of 1 to 256
// bytes, and that a member with a similar name is refused.
func TestRetryKey(t *testing.T) {
	body := func(meta string) []byte {
		return []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","_meta":{` + meta + `}}}`)
	}
	long := strings.Repeat("k", MaxIdempotencyKey)
	for meta, want := range map[string]string{
		`"dev.farebox/idempotency-key":"order-7"`:             "order-7",
		`"dev.farebox/idempotency-k\u0065y":"\u006f"`:         "o",
		fmt.Sprintf(`"dev.farebox/idempotency-key":%q`, long): long,
		``: "",
	} {
		if m, err := Decode(body(meta)); err != nil || m.IdempotencyKey != want {
			t.Errorf("%s: %q, %v", meta, m.IdempotencyKey, err)
		}
	}
	for _, meta := range []string{
		`"dev.farebox/idempotency-key":""`, `"dev.farebox/idempotency-key":7`, `"dev.farebox/idempotency-key":null`,
		fmt.Sprintf(`"dev.farebox/idempotency-key":"%sx"`, long),
		`"dev.farebox/Idempotency-Key":"a"`, `"dev.farebox/idempotency-key ":"a"`,
		`"dev.farebox/idempotency-key":"a","dev.farebox/idempotency-key":"b"`,
	} {
		if m, err := Decode(body(meta)); err == nil {
			t.Errorf("%s is accepted with the key %q", meta, m.IdempotencyKey)
		}
	}
}

// TestEventData checks that EventData returns the data that a client reads from an
// event.
func TestEventData(t *testing.T) {
	for event, want := range map[string]string{
		"event: message\ndata: {\"a\":1}\n\n":        `{"a":1}`,
		"id: 7\r\ndata:{\r\ndata:  \"a\":1}\r\n\r\n": "{\n \"a\":1}",
		"\ndata: x\r\r": "x",
		": comment\n\n": "",
	} {
		if got := EventData([]byte(event)); string(got) != want {
			t.Errorf("%q: %q, want %q", event, got, want)
		}
	}
}
