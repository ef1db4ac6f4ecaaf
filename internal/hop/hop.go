// Package hop knows the header fields that are for one hop only (RFC 9110, 7.6.1).
package hop

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Names returns the canonical names that the Connection fields of a header list. A
// proxy must not pass the fields of these names on.
func Names(h http.Header) (names []string) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			names = append(names, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return names
}
