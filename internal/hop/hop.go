// Package hop finds the header fields that are for a single connection (RFC 9110,
// 7.6.1).
package hop

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Names returns the names that are listed in the Connection fields of a header, in
// canonical form. A proxy must not forward header fields with these names.
func Names(h http.Header) (names []string) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			names = append(names, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return names
}
