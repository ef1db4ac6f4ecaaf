package integration

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"strings"
	"sync"
)

// zlibbed compresses text in the zlib format, which HTTP calls "deflate". Many servers
// send raw DEFLATE instead; see deflated.
func zlibbed(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// countedText is a text that compresses well.
var countedText = sync.OnceValue(func() string {
	var b strings.Builder
	for i := range 600 {
		fmt.Fprint(&b, i, " ")
	}
	return b.String()
})

// bigZip is a small gzip stream that decompresses to 2 MiB.
var bigZip = sync.OnceValue(func() string { return zipped(strings.Repeat("x", 2<<20)) })

func asItIs(text string) string { return text }

// encoded returns a server that encodes its answers by encode(text), and labels them
// with the given encoding.
func encoded(name, encoding string, encode func(string) string) oddity {
	return oddity{name: name, forms: inBoth, play: func(o *odd) {
		// The encoders store a short text uncompressed, so a client without a
		// decoder could read it by chance.
		kind, body := jsonType, o.filled(oddText(countedText()))
		if o.events {
			kind, body = eventsType, event(body)
		}
		body = encode(body)
		send(o.RawExchange, oddHead("200 OK", kind, "Content-Encoding: "+encoding+"\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(body)))+body)
	}}
}

func oddEncodings() oddGroup {
	cut := func(text string) string { return text[:len(text)/2] }
	bomb := func(text string) string { // a gzip stream can have several members, which decompress to one text
		before, after, _ := strings.Cut(text, "answer")
		return zipped(before) + bigZip() + zipped(after)
	}
	return oddGroup{"Encodings that nobody asked for", []oddity{
		encoded("gzip", "gzip", zipped),
		encoded("x-gzip", "x-gzip", zipped),
		encoded("GZIP in capitals", "GZIP", zipped),
		encoded("deflate", "deflate", zlibbed),
		encoded("deflate without zlib's head", "deflate", deflated),
		encoded("br", "br", brotlied),
		encoded("zstd", "zstd", zstandard),
		encoded("identity", "identity", asItIs),
		encoded("two, one in the other", "deflate, gzip", func(text string) string { return zipped(zlibbed(text)) }),
		encoded("an unknown one", "rot13", asItIs),
		encoded("gzip that is none", "gzip", asItIs),
		encoded("gzip that is cut", "gzip", func(text string) string { return cut(zipped(text)) }),
		encoded("gzip that is said to be none", "identity", zipped),
		encoded("2 MiB in 2 KiB", "gzip", bomb),
		{name: "gzip of an error's page", forms: inJSON, play: func(o *odd) {
			send(o.RawExchange, oddHead("503 Service Unavailable", "Content-Type: text/html\r\nContent-Encoding: gzip\r\n")+zipped("<p>mine</p>"))
		}},
	}}
}

// oddNames returns servers with unusual tool names. The test puts "free-" or "paid-"
// before each name, which makes the tool free or paid.
func oddNames() oddGroup {
	return oddGroup{"Names of tools", []oddity{
		called("a colon", "ns:"),
		called("a space", " and "),
		called("Japanese", "日本"),
		called("an accent, composed", "caf\u00e9"),
		called("an accent, decomposed", "cafe\u0301"),
		called("an emoji", "🌦"),
		called("Arabic", "أداة"),
		called("a slash", "a/b"),
		called("dots", "../"),
		called("an escape of URLs", "%2F"),
		called("a quotation mark", `"`),
		called("a backslash", `\`),
		called("what shells and globs read", "$(*)[a]?"),
		called("200 letters", strings.Repeat("x", 190)),
		called("300 letters", strings.Repeat("x", 290)),
		called("a line break", "\n"),
		called("a NUL", "\x00"),
		called("a joiner that cannot be seen", "\u200d"),
		called("letters of full width", "ｆｒｅｅ"),
		called("a line break of Unicode", "\u2028"),
	}}
}

func oddStatuses() oddGroup {
	const mine = `{"jsonrpc":"2.0","id":$ID,"error":{"code":-32001,"message":"mine"}}`
	rows := []oddity{
		responds("200 as text", "200 OK", "Content-Type: text/plain\r\n", oddGood),
		responds("200 as HTML", "200 OK", "Content-Type: text/html\r\n", "<p>mine</p>"),
		responds("200 without a type", "200 OK", "", oddGood),
		responds("200 without a body", "200 OK", jsonType+"Content-Length: 0\r\n", ""),
		responds("200 in JSON with a charset", "200 OK", "Content-Type: application/json; charset=utf-8\r\n", oddGood),
		responds("200 in JSON by another name", "200 OK", "Content-Type: application/json-rpc\r\n", oddGood),
		responds("200 in JSON, UTF-16", "200 OK", "Content-Type: application/json; charset=utf-16\r\n", oddGood),
		responds("202 without a body", "202 Accepted", "Content-Length: 0\r\n", ""),
		responds("204", "204 No Content", "", ""),
		responds("201 with an answer", "201 Created", jsonType, oddGood),
	}
	for _, status := range []string{"400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "409 Conflict", "429 Too Many Requests", "500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"} {
		rows = append(rows, responds(status[:3]+" with an error", status, jsonType, mine))
	}
	return oddGroup{"Statuses and connections", append(rows,
		responds("500 with a page", "500 Internal Server Error", "Content-Type: text/html\r\n", "<p>mine</p>"),
		responds("503 with `Retry-After`", "503 Service Unavailable", "Retry-After: 7\r\nContent-Type: text/plain\r\n", "mine"),
		responds("502 without a body", "502 Bad Gateway", "Content-Length: 0\r\n", ""),
		responds("400 with an error without an id", "400 Bad Request", jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"mine"}}`),
		responds("500 with an answer", "500 Internal Server Error", jsonType, oddGood),
		oddity{name: "the connection ends before the head", forms: inJSON, play: func(*odd) {}},
		oddity{name: "the head is cut", forms: inJSON, play: func(o *odd) { send(o.RawExchange, "HTTP/1.1 200 OK\r\nContent-Ty") }},
		oddity{name: "the body is cut", forms: inBoth, play: func(o *odd) {
			kind := jsonType
			if o.events {
				kind = eventsType
			}
			send(o.RawExchange, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n"+kind+"\r\n"+o.filled(oddGood)[:20])
		}},
		oddity{name: "the stream breaks off after a notification", forms: inStream, play: func(o *odd) {
			send(o.RawExchange, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"+eventsType+"\r\n"+chunk(event(progress)))
		}},
		oddity{name: "nothing comes", forms: inBoth, brief: true, play: func(o *odd) {
			if o.events {
				send(o.RawExchange, oddHead("200 OK", eventsType))
			}
			hang(o.RawExchange)
		}},
		oddity{name: "an HTTP/1.0 answer", forms: inJSON, play: func(o *odd) {
			send(o.RawExchange, "HTTP/1.0 200 OK\r\n"+jsonType+"\r\n"+o.filled(oddGood))
		}},
		oddity{name: "informational heads first", forms: inJSON, play: func(o *odd) {
			send(o.RawExchange, "HTTP/1.1 103 Early Hints\r\nX-Hint: a\r\n\r\n"+oddHead("200 OK", jsonType)+o.filled(oddGood))
		}},
		oddity{name: "the head at once and the answer in pieces", forms: inJSON, play: func(o *odd) {
			send(o.RawExchange, oddHead("200 OK", jsonType))
			for _, b := range []byte(o.filled(oddGood)) {
				_, _ = o.Write([]byte{b})
			}
		}},
	)}
}

func oddRedirects() oddGroup {
	to := func(name, status, location string) oddity {
		return responds(name, status, "Location: "+location+"\r\nContent-Length: 0\r\n", "")
	}
	return oddGroup{"Redirects", []oddity{
		to("307 to the same path with a slash", "307 Temporary Redirect", "$PATH/"),
		to("308 to the same path with a slash", "308 Permanent Redirect", "$PATH/"),
		to("307 to the same host by its name", "307 Temporary Redirect", "http://$HOST$PATH/"),
		to("307 to another host", "307 Temporary Redirect", "$ELSEWHERE$PATH/"),
		to("307 to another scheme", "307 Temporary Redirect", "https://$HOST$PATH/"),
		to("307 to itself", "307 Temporary Redirect", "$PATH"),
		to("307 without a place", "307 Temporary Redirect", ""),
		to("301 to the same path with a slash", "301 Moved Permanently", "$PATH/"),
		to("302 to the same path with a slash", "302 Found", "$PATH/"),
		to("303 to the same path with a slash", "303 See Other", "$PATH/"),
		responds("200 with a `Location` of the server's own address", "200 OK", jsonType+"Location: http://$HOST/inner\r\n", oddGood),
		responds("200 with a `Content-Location` of the server's own address", "200 OK", jsonType+"Content-Location: http://$HOST/inner\r\n", oddGood),
		responds("200 with a `Link` to the server's own address", "200 OK", jsonType+"Link: <http://$HOST/inner>; rel=\"next\"\r\n", oddGood),
		responds("500 with a `Location` of the server's own address", "500 Internal Server Error", "Content-Type: text/plain\r\nLocation: http://$HOST/inner\r\n", "mine"),
	}}
}

func oddNotifications() oddGroup {
	told := func(name, status, fields, body string) oddity {
		o := responds(name, status, fields, body)
		o.ask = notifies
		return o
	}
	preflight := oddity{name: "a preflight for `Mcp-Param-Region`", forms: inJSON, ask: preflights, only: "raw", play: func(*odd) {}}
	return oddGroup{"Notifications of others, and other pages", []oddity{
		told("202 to `notifications/vendor/heat`", "202 Accepted", "Content-Length: 0\r\n", ""),
		told("200 without a body to it", "200 OK", "Content-Length: 0\r\n", ""),
		told("204 to it", "204 No Content", "", ""),
		told("200 with JSON to it", "200 OK", jsonType+"Content-Length: 2\r\n", "{}"),
		told("404 to it", "404 Not Found", "Content-Type: text/plain\r\nContent-Length: 4\r\n", "mine"),
		told("400 with an error to it", "400 Bad Request", jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"mine"}}`),
		told("500 to it", "500 Internal Server Error", "Content-Length: 0\r\n", ""),
		{name: "the connection ends before a head for it", forms: inJSON, ask: notifies, play: func(*odd) {}},
		preflight,
	}}
}
