package mcp

import (
	"unicode"
	"unicode/utf8"
)

// names lists the reserved names of a level, in the order of its constants. Zero
// represents any other name.
type names []string

// The names with a meaning at the top of a JSON-RPC message.
const (
	keyOther = iota
	keyJSONRPC
	keyID
	keyMethod
	keyParams
	keyResult
	keyError
)

var topNames = names{"jsonrpc", "id", "method", "params", "result", "error"}

// The names with a meaning to a gateway in a request's params.
const (
	paramName = iota + 1
	paramURI
	paramArguments
	paramMeta
	paramTask
	paramRequestState
	paramInputResponses
	paramCursor
	paramTaskID
	paramRef
	paramArgument
)

var paramNames = names{
	"name", "uri", "arguments", "_meta", "task", "requestState", "inputResponses",
	"cursor", "taskId", "ref", "argument",
}

// The names with a meaning to a gateway in a result.
const (
	resultIsError = iota + 1
	resultType
	resultTask
	resultMeta
)

var (
	resultNames = names{"isError", "resultType", "task", "_meta"}
	// outcomeNames are the names that determine the outcome of a call.
	outcomeNames = resultNames[:resultTask]
)

const (
	// metaPrefix begins the names that are reserved by the specification.
	metaPrefix = "io.modelcontextprotocol/"
	// ownPrefix begins the names in a result's _meta that only the gateway may set.
	ownPrefix = "dev.farebox/"

	// maxPriceName is the name in a request's _meta for the caller's highest price.
	maxPriceName = ownPrefix + "max-price"
	// retryKeyName is the name in a request's _meta for its idempotency key.
	retryKeyName = ownPrefix + "idempotency-key"

	metaProtocolVersion = 1
	metaMaxPrice        = 5
	metaRetryKey        = 6
)

var metaNames = names{
	metaPrefix + "protocolVersion", metaPrefix + "clientCapabilities",
	metaPrefix + "clientInfo", metaPrefix + "logLevel", maxPriceName, retryKeyName,
}

// skeletonSize bounds a skeleton: one byte more than the longest reserved name.
const skeletonSize = 48

// find returns the number of the reserved name that equals the key, or 0. It returns
// false if the key does not equal the name, but a reader that is lax about case or
// invisible characters could take it for that name.
func (ns names) find(key []byte) (int, bool) {
	for i, name := range ns {
		if string(key) == name {
			return i + 1, true
		}
	}
	return ns.findFolded(key)
}

// findFolded is find for a key that equals none of the names.
func (ns names) findFolded(key []byte) (int, bool) {
	var buf [skeletonSize]byte
	n, _, ok := skeleton(&buf, key)
	if !ok {
		return 0, true
	}
	for i, name := range ns {
		if foldsTo(name, buf[:n]) {
			return i + 1, false
		}
	}
	return 0, true
}

// findMeta is find for the keys of params._meta, where every name under the
// specification's prefix is reserved, and the gateway's own.
func findMeta(key []byte) (int, bool) {
	if len(key) >= len(metaPrefix) && string(key[:len(metaPrefix)]) == metaPrefix ||
		string(key) == maxPriceName || string(key) == retryKeyName {
		return metaNames.find(key)
	}
	var buf [skeletonSize]byte
	n, _, ok := skeleton(&buf, key)
	switch {
	case ok && foldsTo(maxPriceName, buf[:n]):
		return metaMaxPrice, false
	case ok && foldsTo(retryKeyName, buf[:n]):
		return metaRetryKey, false
	}
	return 0, n < len(metaPrefix) || string(buf[:len(metaPrefix)]) != metaPrefix
}

// foldsTo reports whether the ASCII name has that skeleton.
func foldsTo(name string, skeleton []byte) bool {
	if len(name) != len(skeleton) {
		return false
	}
	for i := range skeleton {
		if lower(name[i]) != skeleton[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// skeleton writes the key to dst without its case and its invisible characters. It
// returns the length, and the number of bytes at the end of src that begin an
// incomplete character. It returns false if no reserved name has this skeleton,
// because it is too long or has a character that folds to no ASCII character; dst
// then has the characters before that one.
func skeleton(dst *[skeletonSize]byte, src []byte) (n, rest int, ok bool) {
	for i := 0; i < len(src); {
		c := src[i]
		if c < utf8.RuneSelf {
			i++
			if c <= ' ' || c == 0x7F {
				continue
			}
			c = lower(c)
		} else {
			if !utf8.FullRune(src[i:]) {
				return n, len(src) - i, true
			}
			r, size := utf8.DecodeRune(src[i:])
			i += size
			if invisible(r) {
				continue
			}
			if c = foldRune(r); c == 0 {
				return n, 0, false
			}
		}
		if n == len(dst) {
			return n, 0, false
		}
		dst[n] = c
		n++
	}
	return n, 0, true
}

// foldRune returns the ASCII letter, in lower case, that a rune beyond ASCII folds
// to, or 0. The long s and the Kelvin sign fold by Unicode's simple case folding,
// which encoding/json follows; the Turkish i, dotted and dotless, by the upper and
// lower case of other languages' readers.
func foldRune(r rune) byte {
	switch r {
	case '\u017F':
		return 's'
	case '\u212A':
		return 'k'
	case '\u0130', '\u0131':
		return 'i'
	}
	return 0
}

// invisible reports whether a reader may trim or drop the rune: white space, control
// and format characters (such as the byte order mark), variation selectors, fillers,
// and the replacement character.
func invisible(r rune) bool {
	return r == utf8.RuneError || unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf,
		unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
