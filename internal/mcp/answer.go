package mcp

import "strconv"

// AppendError appends a JSON-RPC error of the gateway's own: the id, or null for the
// zero ID; the code; the message; and, if there are any, the fields as data._meta.
// The result is always well formed: bytes of the message that are not UTF-8 become
// U+FFFD, and if one field is invalid, as for AddMeta, all of them are left out.
func AppendError(b []byte, id ID, code int, message string, meta []Field) []byte {
	b = appendHead(b, id)
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, message)
	if len(meta) > 0 && validFields(meta) {
		b = append(b, `,"data":{"_meta":`...)
		b = appendObject(b, meta)
		b = append(b, '}')
	}
	return append(b, "}}"...)
}

// AppendToolRefusal appends a result of the gateway's own for a refused tools/call:
// isError is true, the text is for the model to read, and the fields, if there are
// any, are the result's _meta. In EraStateless it has resultType "complete". It never
// has structuredContent: clients that check it against the tool's schema would drop
// the whole result. Invalid text and fields are treated as in AppendError.
func AppendToolRefusal(b []byte, id ID, era Era, text string, meta []Field) []byte {
	b = appendHead(b, id)
	b = append(b, `,"result":{"content":[{"type":"text","text":`...)
	b = appendString(b, text)
	b = append(b, `}],"isError":true`...)
	if era == EraStateless {
		b = append(b, `,"resultType":"complete"`...)
	}
	if len(meta) > 0 && validFields(meta) {
		b = append(b, `,"_meta":`...)
		b = appendObject(b, meta)
	}
	return append(b, "}}"...)
}

func appendHead(b []byte, id ID) []byte {
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	return id.AppendJSON(b)
}
