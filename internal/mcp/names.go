package mcp

import (
	"unicode"
	"unicode/utf8"
)

// names lists the reserved names of one kind of object. Each name has an ordinal, which
// is its index plus 1. The ordinal 0 stands for any other name.
type names []string

// The ordinals of the reserved names at the top level of a JSON-RPC message.
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

// The ordinals of the reserved names in the params of a request.
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

// The ordinals of the reserved names in a result.
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
	// metaPrefix begins the names that the specification reserves in _meta.
	metaPrefix = "io.modelcontextprotocol/"
	// ownPrefix begins the names that only the gateway may set in the _meta of a
	// result.
	ownPrefix = "dev.farebox/"

	// maxPriceName is the member of a request's _meta with the highest price that the
	// caller accepts.
	maxPriceName = ownPrefix + "max-price"
	// retryKeyName is the member of a request's _meta with the idempotency key.
	retryKeyName = ownPrefix + "idempotency-key"

	metaProtocolVersion = 1
	metaMaxPrice        = 5
	metaRetryKey        = 6
)

var metaNames = names{
	metaPrefix + "protocolVersion", metaPrefix + "clientCapabilities",
	metaPrefix + "clientInfo", metaPrefix + "logLevel", maxPriceName, retryKeyName,
}

// skeletonSize bounds a skeleton, in bytes. It must be longer than every reserved name,
// so that a longer key cannot match one.
const skeletonSize = 48

// find returns the ordinal of the reserved name that the key matches, or 0. The second
// result is true if the key equals the name, or matches no name. It is false if the key
// differs from the name but could be taken for it by a parser that is lax about case or
// invisible characters.
func (ns names) find(key []byte) (int, bool) {
	for i, name := range ns {
		if string(key) == name {
			return i + 1, true
		}
	}
	return ns.findFolded(key)
}

// findFolded is like find, for a key that is known to equal no reserved name.
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

// findMeta is like find, for a key in params._meta. The reserved names there are all
// names with the specification's prefix, and the two names of the gateway.
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

// foldsTo reports whether the ASCII name has the given skeleton.
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

// skeleton writes the skeleton of a key to dst. The skeleton is the key in lower case
// and without invisible characters. The results are n, the length of the skeleton, and
// rest, the number of bytes at the end of src that belong to an incomplete character.
// If ok is false, the key cannot match a reserved name: either the skeleton is too
// long, or the key has a character that does not fold to ASCII. dst then has the
// skeleton of the text before that character.
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

// foldRune returns the lower-case ASCII letter to which a rune beyond ASCII folds, or 0.
// The long s and the Kelvin sign fold by Unicode's simple case folding, which
// encoding/json uses. The Turkish dotted and dotless i fold because parsers in other
// programming languages map them to i by upper or lower case.
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

// invisible reports whether a parser may trim or drop the rune. That is so for white
// space, control and format characters (such as the byte order mark), variation
// selectors, fillers, and the replacement character.
func invisible(r rune) bool {
	return r == utf8.RuneError || unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf,
		unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
