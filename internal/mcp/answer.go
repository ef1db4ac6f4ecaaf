package mcp

import "strconv"

// AppendError appends a JSON-RPC error response from the gateway itself. For the zero
// ID, the response's id is null. If meta has fields, they become error.data._meta. The
// response is always well formed. Bytes of the message that are not UTF-8 become
// U+FFFD. If AddMeta would refuse one of the fields, all of them are left out.
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

// AppendToolRefusal appends the gateway's own result for a refused tools/call. In the
// result, isError is true, and the content is the given text, for the model to read. If
// meta has fields, they become the _meta of the result. In EraStateless, resultType is
// "complete". The result never has structuredContent, because clients that check
// structuredContent against the tool's schema would drop the whole result. Invalid text
// and invalid fields are treated as in AppendError.
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
