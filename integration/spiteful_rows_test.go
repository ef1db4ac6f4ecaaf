package integration

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/fareboxhq/farebox/integration/harness"
)

// Messages and heads that the servers of the rows send.
const (
	goodAnswer = `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"` + loot + `"}]}}`
	rpcError   = `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"mine"}}`
	progress   = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`

	// spiteHeaders are in every well-formed head.
	spiteHeaders = "X-Spite: " + spiteHead + "\r\nSet-Cookie: s=" + spiteHead + "\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
	jsonType     = "Content-Type: application/json\r\n"
	eventsHead   = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n" + spiteHeaders + "\r\n"
)

// The required outcomes of most rows.
var (
	failed = ending{code: "UPSTREAM_FAILED"}
	late   = ending{code: "UPSTREAM_TIMEOUT"}
	// lateInside is the ending for a time limit that stops an answer after its head
	// has left. The proxy breaks off such an answer without a reason, but the
	// refusal must still give the reason.
	lateInside = late
	paid       = ending{charge: captured}
	failedLate = ending{code: "UPSTREAM_FAILED", events: true}
	paidEvents = ending{charge: captured, events: true}
)

func passes(text string) ending { return ending{has: text, hasNot: "forged"} }

func inEvents(e ending) ending {
	e.events = true
	return e
}

func head(status string, fields ...string) string {
	return "HTTP/1.1 " + status + "\r\n" + spiteHeaders + strings.Join(fields, "") + "\r\n"
}

func jsonHead(length int) string {
	return head("200 OK", jsonType, fmt.Sprintf("Content-Length: %d\r\n", length))
}

// respond returns a function that reads the request and answers with the given
// pieces, one piece at a time.
func respond(pieces ...string) func(*harness.RawExchange) {
	return func(e *harness.RawExchange) {
		_, _ = io.Copy(io.Discard, e.Request.Body)
		for _, piece := range pieces {
			if _, err := io.WriteString(e, piece); err != nil {
				return // the gateway has disconnected
			}
		}
	}
}

// then returns a function that runs the given functions one after the other.
func then(parts ...func(*harness.RawExchange)) func(*harness.RawExchange) {
	return func(e *harness.RawExchange) {
		for _, part := range parts {
			part(e)
		}
	}
}

// hang waits until the gateway gives up.
func hang(e *harness.RawExchange) { _, _ = io.Copy(io.Discard, e) }

// drip returns a function that sends the text again and again, until the gateway
// gives up.
func drip(text string) func(*harness.RawExchange) {
	return func(e *harness.RawExchange) {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for range pace.C {
			if _, err := io.WriteString(e, text); err != nil {
				return
			}
		}
	}
}

// slowly returns a function that sends the text one byte at a time.
func slowly(text string) func(*harness.RawExchange) {
	return func(e *harness.RawExchange) {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := range len(text) {
			<-pace.C
			if _, err := io.WriteString(e, text[i:i+1]); err != nil {
				return
			}
		}
	}
}

// event returns an event with this data, one data field for each line.
func event(data string) string {
	return "event: message\ndata: " + strings.ReplaceAll(data, "\n", "\ndata: ") + "\n\n"
}

// said returns two rows for a message: one in a JSON body and one in an event.
func said(name, message string, want ending) []spite {
	return []spite{
		{name: name + ", JSON", play: respond(jsonHead(len(message)) + message), want: want},
		{name: name + ", event", play: respond(eventsHead + event(message)), want: inEvents(want)},
	}
}

func withID(id string) string    { return strings.Replace(goodAnswer, `"id":7`, id, 1) }
func withResult(r string) string { return `{"jsonrpc":"2.0","id":7,"result":` + r + `}` }
func withMember(m string) string {
	return strings.Replace(goodAnswer, `"result":{`, `"result":{`+m+`,`, 1)
}
func withText(text string) string { return strings.Replace(goodAnswer, loot, loot+text, 1) }

// spitefulMessages returns rows for single messages: answers that are malformed
// or odd, and messages that are no answers.
func spitefulMessages() (rows []spite) {
	for name, id := range map[string]string{
		"another id":                         `"id":8`,
		"null for an id":                     `"id":null`,
		"the id as text":                     `"id":"7"`,
		"the id as a fraction":               `"id":7.0`,
		"the id with an exponent":            `"id":7e0`,
		"the id below zero":                  `"id":-7`,
		"the id in an array":                 `"id":[7]`,
		"the id in an object":                `"id":{"id":7}`,
		"true for an id":                     `"id":true`,
		"an id with a zero before it":        `"id":07`,
		"an id that floats round to another": `"id":9007199254740993`,
		"no id":                              `"idx":7`,
		"the id twice":                       `"id":7,"id":7`,
		"two ids":                            `"id":8,"id":7`,
		"the id in capitals":                 `"ID":7`,
		"an id in capitals beside it":        `"id":7,"Id":8`,
		"an id that cannot be seen":          "\"id\u200b\":7",
		"an old version":                     `"jsonrpc":"1.0","id":7`,
		"the version twice":                  `"jsonrpc":"2.0","id":7`,
		"a method beside":                    `"id":7,"method":"ping"`,
		"an error beside":                    `"id":7,"error":{"code":1,"message":"mine"}`,
		"null for an error beside":           `"id":7,"error":null`,
		"two results":                        `"id":7,"result":{}`,
		"a result in capitals beside":        `"id":7,"Result":{}`,
	} {
		rows = append(rows, said(name, withID(id), failed)...)
	}
	for name, message := range map[string]string{
		"nothing":                              "",
		"white space":                          "  \n ",
		"null":                                 "null",
		"text":                                 `"` + loot + `"`,
		"a number":                             "7",
		"no JSON":                              "<p>" + loot + "</p>",
		"a batch":                              "[" + goodAnswer + "]",
		"a batch of two":                       "[" + rpcError + "," + goodAnswer + "]",
		"an empty batch":                       "[]",
		"two answers":                          goodAnswer + goodAnswer,
		"two answers in lines":                 goodAnswer + "\n" + goodAnswer,
		"an error and an answer":               rpcError + goodAnswer,
		"a request":                            `{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}`,
		"a notification":                       progress,
		"neither result nor error":             `{"jsonrpc":"2.0","id":7}`,
		"no version":                           strings.Replace(goodAnswer, `"jsonrpc":"2.0",`, "", 1),
		"garbage after it":                     goodAnswer + "}",
		"a NUL after it":                       goodAnswer + "\x00",
		"a comment after it":                   goodAnswer + "//",
		"a guard before it":                    ")]}'\n" + goodAnswer,
		"not closed":                           goodAnswer[:len(goodAnswer)-1],
		"null for a result":                    withResult("null"),
		"an array for a result":                withResult(`["` + loot + `"]`),
		"text for a result":                    withResult(`"` + loot + `"`),
		"true for a result":                    withResult("true"),
		"null for an error":                    `{"jsonrpc":"2.0","id":7,"error":null}`,
		"text for an error":                    `{"jsonrpc":"2.0","id":7,"error":"` + loot + `"}`,
		"a NUL in text":                        withText("\x00"),
		"a tab in text":                        withText("\t"),
		"an unknown escape":                    withText(`\x41`),
		"a key that is not quoted":             withMember(`a:1`),
		"single quotes":                        strings.ReplaceAll(goodAnswer, `"`, `'`),
		"not a number":                         withMember(`"a":NaN`),
		"a comma too many":                     withMember(`"a":[1,]`),
		"a comment":                            withMember(`/*"a":1*/"b":1`),
		"one level too deep":                   withMember(`"a":` + strings.Repeat("[", 1023) + strings.Repeat("]", 1023)),
		"two byte order marks":                 "\uFEFF\uFEFF" + goodAnswer,
		"the id twice, once with no UTF-8":     withID("\"id\":8,\"i\xffd\":7"),
		"half a surrogate pair in isError":     withMember(`"isError\ud800":true`),
		"far too deep":                         withMember(`"a":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)),
		"UTF-16":                               wide(goodAnswer),
		"an unknown result type":               withMember(`"resultType":"other"`),
		"null for a result type":               withMember(`"resultType":null`),
		"a result type in capitals":            withMember(`"resultType":"Complete"`),
		"a result type twice":                  withMember(`"resultType":"complete","resultType":"complete"`),
		"a key of the result type in capitals": withMember(`"ResultType":"complete"`),
		"a task by its type":                   withMember(`"resultType":"task"`),
		"a task":                               withMember(`"task":{"taskId":"1"}`),
		"text for isError":                     withMember(`"isError":"false"`),
		"a number for isError":                 withMember(`"isError":0`),
		"isError twice":                        withMember(`"isError":false,"isError":true`),
		"isError in capitals":                  withMember(`"iserror":true`),
		"an error that asks for input":         withMember(`"isError":true,"resultType":"input_required"`),
	} {
		rows = append(rows, said(name, message, failed)...)
	}
	// Clients accept these results like any other, but different clients read the _meta
	// differently. So these results get no receipt.
	for name, member := range map[string]string{
		"text for _meta":     `"_meta":"x"`,
		"an array for _meta": `"_meta":[1]`,
		"_meta twice":        `"_meta":{},"_meta":{}`,
		"_meta in capitals":  `"_META":{}`,
		"a forged receipt in a _meta that is there twice": `"_meta":{"dev.farebox/receipt":"forged"},"_meta":{"dev.farebox/receipt":"forged"}`,
	} {
		rows = append(rows, said(name, withMember(member), ending{charge: captured, bare: true, hasNot: "forged"})...)
	}
	for name, message := range map[string]string{
		"a good answer":                 goodAnswer,
		"a byte order mark before it":   "\uFEFF" + goodAnswer,
		"no UTF-8":                      withText("\xff"),
		"UTF-8 that is too long":        withText("\xc0\xaf"),
		"a surrogate in UTF-8":          withText("\xed\xa0\x80"),
		"UTF-8 that is cut":             withText("\xe2\x82"),
		"half a surrogate pair":         withText(`\ud800`),
		"the other half":                withText(`\udc00`),
		"the halves in the wrong order": withText(`\udc00\ud800`),
		"too deep":                      withMember(`"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)),
		"as deep as it may be":          withMember(`"a":` + strings.Repeat("[", 1022) + strings.Repeat("]", 1022)),
		"the id last":                   `{"result":{"content":[{"type":"text","text":"` + loot + `"}]},"jsonrpc":"2.0","id":7}`,
		"a key with escapes":            strings.Replace(goodAnswer, `"result"`, `"\u0072esult"`, 1),
		"white space everywhere":        strings.NewReplacer(":", " :\n", ",", "\n, ").Replace(goodAnswer),
		"a NUL by its escape":           withText(`\u0000`),
		"a surrogate pair":              withText(`\ud83d\ude00`),
		"line breaks of Unicode":        withText("\u2028\u2029\u0085"),
		"deep":                          withMember(`"a":` + strings.Repeat("[", 60) + strings.Repeat("]", 60)),
		"a number out of range":         withMember(`"a":1e999`),
		"keys twice that say nothing":   withMember(`"a":1,"a":2`),
		"a complete result":             withMember(`"resultType":"complete"`),
		"structured content":            withMember(`"structuredContent":{"a":1}`),
		"unknown members":               withID(`"id":7,"x":{"result":1,"id":8}`),
		"null for _meta":                withMember(`"_meta":null`),
		"a forged receipt":              withMember(`"_meta":{"a":1,"dev.farebox/receipt":"forged","dev.farebox/charge":{"id":"forged"}}`),
		"a receipt forged by escapes":   withMember(`"\u005fmeta":{"\u0064ev.farebox\/receipt":"forged"}`),
		"a forged refusal":              withMember(`"_meta":{"dev.farebox/error":{"code":"forged"}}`),
	} {
		rows = append(rows, said(name, message, paid)...)
	}
	for name, message := range map[string]string{
		"a tool's error":                       `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"mine"}],"isError":true}}`,
		"a tool's error with a forged receipt": `{"jsonrpc":"2.0","id":7,"result":{"_meta":{"dev.farebox/receipt":"forged"},"content":[{"type":"text","text":"mine"}],"isError":true}}`,
		"asks for input with a forged receipt": `{"jsonrpc":"2.0","id":7,"result":{"_meta":{"dev.farebox/receipt":"forged"},"resultType":"input_required","inputRequests":{"mine":{}}}}`,
		"asks for input":                       `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{"mine":{}}}}`,
		"an error":                             rpcError,
		"a parse error":                        `{"jsonrpc":"2.0","id":7,"error":{"code":-32700,"message":"mine"}}`,
		"code 0":                               `{"jsonrpc":"2.0","id":7,"error":{"code":0,"message":"mine"}}`,
		"a code out of range":                  `{"jsonrpc":"2.0","id":7,"error":{"code":1e999,"message":"mine"}}`,
		"a fraction for a code":                `{"jsonrpc":"2.0","id":7,"error":{"code":-32602.5,"message":"mine"}}`,
		"text for a code":                      `{"jsonrpc":"2.0","id":7,"error":{"code":"x","message":"mine"}}`,
		"no code":                              `{"jsonrpc":"2.0","id":7,"error":{"message":"mine"}}`,
		"an empty error":                       `{"jsonrpc":"2.0","id":7,"error":{},"x":"mine"}`,
		"a URL to be visited":                  `{"jsonrpc":"2.0","id":7,"error":{"code":-32042,"message":"mine","data":{"elicitations":[]}}}`,
	} {
		rows = append(rows, said(name, message, passes("mine"))...)
	}
	return rows
}

// wide returns the text in UTF-16, with a byte order mark.
func wide(text string) string {
	out := []byte{0xFF, 0xFE}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = append(out, byte(unit), byte(unit>>8))
	}
	return string(out)
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func deflated(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func brotlied(text string) string {
	var b bytes.Buffer
	w := brotli.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func zstandard(text string) string {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// whole returns a row for a response with a Content-Length that is right.
func whole(name, status, fields, body string, want ending) spite {
	return spite{name: name, play: respond(head(status, fields, fmt.Sprintf("Content-Length: %d\r\n", len(body))) + body), want: want}
}

// spitefulResponses returns rows for responses with odd heads, and with bodies
// that do not match their heads.
func spitefulResponses(elsewhere string) (rows []spite) {
	for name, fields := range map[string]string{
		"plain text":                         "Content-Type: text/plain\r\n",
		"HTML":                               "Content-Type: text/html\r\n",
		"no content type":                    "",
		"an empty content type":              "Content-Type:\r\n",
		"two content types":                  jsonType + "Content-Type: text/event-stream\r\n",
		"the same content type twice":        jsonType + jsonType,
		"two content types in one":           "Content-Type: application/json, text/event-stream\r\n",
		"a kind of JSON":                     "Content-Type: application/problem+json\r\n",
		"lines of JSON":                      "Content-Type: application/x-ndjson\r\n",
		"a content type that cannot be read": "Content-Type: application/json; charset\r\n",
		"parts":                              "Content-Type: multipart/byteranges; boundary=x\r\n",
		"charset utf-16":                     "Content-Type: application/json; charset=utf-16\r\n",
		"charset latin 1":                    "Content-Type: application/json; charset=iso-8859-1\r\n",
		"charset utf-7":                      "Content-Type: application/json; charset=utf-7\r\n",
		"events in utf-16":                   "Content-Type: text/event-stream; charset=utf-16le\r\n",
		"two charsets":                       "Content-Type: application/json; charset=utf-8; charset=utf-16\r\n",
		"an unknown encoding":                jsonType + "Content-Encoding: spite\r\n",
		"an encoding that is none":           jsonType + "Content-Encoding: gzip\r\n",
		"two encodings":                      jsonType + "Content-Encoding: identity, gzip\r\n",
		"two encodings apart":                jsonType + "Content-Encoding: identity\r\nContent-Encoding: br\r\n",
	} {
		rows = append(rows, whole(name, "200 OK", fields, goodAnswer, failed))
	}
	rows = append(rows, spitefulCodings()...)
	for name, fields := range map[string]string{
		"a charset":                       "Content-Type: application/json; charset=UTF-8\r\n",
		"capitals":                        "content-TYPE: Application/JSON\r\n",
		"the encoding that was asked for": jsonType + "Content-Encoding: identity\r\n",
		"a length for a range":            jsonType + "Content-Range: bytes 0-9/1000\r\n",
		"a space in a header's name":      jsonType + "X Spite: a\r\n",
		"a folded header":                 jsonType + "X-Folded: a\r\n b\r\n",
		"100 KB of headers":               jsonType + "X-Long: " + strings.Repeat("x", 100<<10) + "\r\n",
		"1,000 headers":                   jsonType + strings.Repeat("X-Many: x\r\n", 1000),
		"hints at trailers":               jsonType + "Trailer: X-Late\r\n",
		"a challenge":                     jsonType + "WWW-Authenticate: Bearer realm=\"spite\"\r\n",
		"cookies":                         jsonType + "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n",
		"letters to other pages":          jsonType + "Access-Control-Allow-Origin: http://evil.example\r\nAccess-Control-Expose-Headers: *\r\n",
		"a session":                       jsonType + "Mcp-Session-Id: spite\r\n",
		"a refresh":                       jsonType + "Refresh: 0; url=" + elsewhere + "\r\n",
		"a place":                         jsonType + "Location: " + elsewhere + "\r\nContent-Location: " + elsewhere + "\r\nLink: <" + elsewhere + ">; rel=next\r\n",
		"another service":                 jsonType + "Alt-Svc: h3=\":1\"\r\nLink: <" + elsewhere + ">; rel=preload\r\n",
		"headers of this hop":             jsonType + "Connection: close, Content-Type, Content-Length\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\n",
	} {
		rows = append(rows, whole(name, "200 OK", fields, goodAnswer, paid))
	}
	for _, status := range []string{"201 Created", "202 Accepted", "203 Non-Authoritative", "206 Partial Content", "226 IM Used", "299 Spite", "300 Multiple Choices", "301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "399 Spite"} {
		fields := jsonType + "Location: " + elsewhere + "/mcp\r\nContent-Location: " + elsewhere + "\r\n"
		rows = append(rows, whole("status "+status[:3], status, fields, goodAnswer, ending{code: "UPSTREAM_FAILED", hasNot: elsewhere}))
	}
	for _, status := range []string{"204 No Content", "205 Reset Content", "304 Not Modified", "042 Spite", "101 Switching Protocols"} {
		rows = append(rows, spite{name: "status " + status[:3], play: respond(head(status, jsonType, "Upgrade: spite\r\nConnection: Upgrade\r\n") + goodAnswer), want: failed})
	}
	rows = append(rows, spitefulErrors()...)
	return append(rows, spitefulFraming()...)
}

// spitefulCodings returns rows for answers that are encoded although the request
// allows no encoding.
func spitefulCodings() (rows []spite) {
	const events = "Content-Type: text/event-stream\r\n"
	for name, encode := range map[string]func(string) string{"gzip": zipped, "deflate": deflated, "br": brotlied, "zstd": zstandard} {
		told := "Content-Encoding: " + name + "\r\n"
		cut := func(text string) string { return text[:len(text)-5] }
		rows = append(rows,
			whole("encoded with "+name, "200 OK", jsonType+told, encode(goodAnswer), paid),
			whole("encoded with "+name+", not told", "200 OK", jsonType, encode(goodAnswer), failed),
			whole("encoded with "+name+", cut", "200 OK", jsonType+told, cut(encode(goodAnswer)), failed),
			whole("encoded twice with "+name, "200 OK", jsonType+told, encode(encode(goodAnswer)), failed),
			whole("another's answer encoded with "+name, "200 OK", jsonType+told, encode(withID(`"id":8`)), failed),
			whole("not encoded with "+name+", but told", "200 OK", jsonType+told, goodAnswer, failed),
			whole("something behind what is encoded with "+name, "200 OK", jsonType+told, encode(goodAnswer)+encode(goodAnswer)+loot, failed),
			whole("too much encoded with "+name, "200 OK", jsonType+told, encode(goodAnswer[:len(goodAnswer)-2]+strings.Repeat(" ", 8<<20)+"}}"), failed),
			whole("an error encoded with "+name, "200 OK", jsonType+told, encode(rpcError), passes("mine")),
			whole("a failure encoded with "+name, "500 Spite", jsonType+told, encode(rpcError), ending{status: 500, has: "mine"}),
			whole("a result with a failure encoded with "+name, "500 Spite", jsonType+told, encode(goodAnswer), failed),
			whole("events encoded with "+name, "200 OK", events+told, encode(event(progress)+event(goodAnswer)), paidEvents),
			whole("another's event encoded with "+name, "200 OK", events+told, encode(event(withID(`"id":8`))), failedLate),
			whole("events not encoded with "+name, "200 OK", events+told, event(goodAnswer), failedLate))
	}
	return rows
}

// spitefulErrors returns rows for responses with an error status.
func spitefulErrors() (rows []spite) {
	for _, status := range []int{400, 401, 402, 403, 404, 405, 407, 408, 413, 421, 425, 429, 451, 499, 500, 502, 503, 504, 511, 599, 600, 999} {
		line := fmt.Sprintf("%d Spite", status)
		rows = append(rows,
			whole(fmt.Sprint("an error with status ", status), line, jsonType, rpcError, ending{status: status, has: "mine"}),
			whole(fmt.Sprint("a result with status ", status), line, jsonType, goodAnswer, failed))
	}
	foreign := `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"mine"}}`
	rows = append(rows,
		whole("an error without an id", "404 Not Found", jsonType, foreign, ending{status: 404, has: "mine"}),
		whole("an error page", "500 Spite", "Content-Type: text/html\r\n", "<p>mine</p>", ending{status: 500, has: "mine"}),
		whole("an error without a type", "503 Spite", "Retry-After: 1\r\n", "mine", ending{status: 503, has: "mine"}),
		whole("an empty error", "500 Spite", "", "", ending{status: 500}),
		whole("an error in other JSON", "502 Spite", jsonType, `{"detail":"mine"}`, ending{status: 502, has: "mine"}),
		whole("an error that is called JSON", "500 Spite", jsonType, "mine, not JSON", ending{status: 500, has: "mine"}),
		whole("an error as events", "500 Spite", "Content-Type: text/event-stream\r\n", event(goodAnswer), failed),
		whole("an error with two types", "500 Spite", jsonType+"Content-Type: text/plain\r\n", goodAnswer, failed),
		whole("an error in utf-16", "500 Spite", "Content-Type: application/json; charset=utf-16\r\n", wide(goodAnswer), failed),
		whole("an error with a result and an error", "400 Spite", jsonType, withID(`"id":7,"error":{}`), failed),
		whole("an error with another's result", "400 Spite", jsonType, withID(`"id":8`), failed),
		whole("an error that is too long", "500 Spite", jsonType, `{"error":"`+loot+strings.Repeat("x", 2<<20)+`"}`, failed),
		whole("a challenge for another token", "401 Unauthorized", "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n"+jsonType, rpcError, ending{status: http.StatusUnauthorized, has: "mine"}),
	)
	return rows
}

// chunk returns one chunk of a body in the chunked coding.
func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// spitefulFraming returns rows for responses that end before or after the end
// that their framing announces.
func spitefulFraming() (rows []spite) {
	const chunked = "Transfer-Encoding: chunked\r\n"
	long := fmt.Sprintf("Content-Length: %d\r\n", len(goodAnswer)+10)
	short := fmt.Sprintf("Content-Length: %d\r\n", len(goodAnswer)-10)
	exact := fmt.Sprintf("Content-Length: %d\r\n", len(goodAnswer))
	for name, response := range map[string]string{
		"a length that is too long":    head("200 OK", jsonType, long) + goodAnswer,
		"a length that is too short":   head("200 OK", jsonType, short) + goodAnswer,
		"two lengths":                  head("200 OK", jsonType, exact, short) + goodAnswer,
		"a length below zero":          head("200 OK", jsonType, "Content-Length: -1\r\n") + goodAnswer,
		"no number for a length":       head("200 OK", jsonType, "Content-Length: spite\r\n") + goodAnswer,
		"a length of 2^64":             head("200 OK", jsonType, "Content-Length: 18446744073709551616\r\n") + goodAnswer,
		"a length of 0":                head("200 OK", jsonType, "Content-Length: 0\r\n") + goodAnswer,
		"an unknown coding":            head("200 OK", jsonType, "Transfer-Encoding: spite\r\n") + goodAnswer,
		"two codings":                  head("200 OK", jsonType, "Transfer-Encoding: gzip, chunked\r\n") + chunk(goodAnswer) + "0\r\n\r\n",
		"no chunks":                    head("200 OK", jsonType, chunked) + goodAnswer,
		"a chunk that is cut":          head("200 OK", jsonType, chunked) + "fff\r\n" + goodAnswer,
		"a chunk that is too long":     head("200 OK", jsonType, chunked) + fmt.Sprintf("%x\r\n%sspite", len(goodAnswer), goodAnswer),
		"no last chunk":                head("200 OK", jsonType, chunked) + chunk(goodAnswer),
		"a chunk of 2^64":              head("200 OK", jsonType, chunked) + "10000000000000000\r\n" + goodAnswer,
		"the head of another response": head("200 OK", jsonType, exact) + head("200 OK", jsonType, exact) + goodAnswer,
		"no head":                      goodAnswer,
		"half a head":                  "HTTP/1.1 200 OK\r\nContent-Ty",
		"no status":                    "HTTP/1.1 OK\r\n\r\n" + goodAnswer,
		"a status of four digits":      head("2000 OK", jsonType, exact) + goodAnswer,
		"another protocol":             "SSH-2.0-OpenSSH_9.9\r\n",
		"TLS":                          "\x15\x03\x01\x00\x02\x02\x28",
		"an unknown version":           "ICY 200 OK\r\n" + jsonType + "\r\n" + goodAnswer,
		"HTTP/2":                       "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"a header without a colon":     head("200 OK", jsonType, exact, "Spite\r\n") + goodAnswer,
		"a NUL in a header":            head("200 OK", jsonType, exact, "X-Nul: a\x00b\r\n") + goodAnswer,
		"nothing at all":               "",
		"only an informational head":   "HTTP/1.1 103 Early Hints\r\nX-Spite: " + spiteHead + "\r\n\r\n",
	} {
		rows = append(rows, spite{name: name, play: respond(response), want: failed})
	}
	one := []string{}
	for i := range len(goodAnswer) {
		one = append(one, chunk(goodAnswer[i:i+1]))
	}
	for name, response := range map[string][]string{
		"chunks of one byte":                     append(append([]string{head("200 OK", jsonType, chunked)}, one...), "0\r\n\r\n"),
		"a byte at a time":                       strings.Split(jsonHead(len(goodAnswer))+goodAnswer, ""),
		"a length and chunks":                    {head("200 OK", jsonType, chunked, "Content-Length: 5\r\n") + chunk(goodAnswer) + "0\r\n\r\n"},
		"an answer in a chunk's name":            {head("200 OK", jsonType, chunked) + fmt.Sprintf("%x;spite=%s\r\n%s\r\n0\r\n\r\n", len(goodAnswer), spiteHead, goodAnswer)},
		"trailers":                               {head("200 OK", jsonType, chunked, "Trailer: X-Late\r\n") + chunk(goodAnswer) + "0\r\nX-Late: " + loot + "\r\n\r\n"},
		"trailers, not told":                     {head("200 OK", jsonType, chunked) + chunk(goodAnswer) + "0\r\nX-Late: " + loot + "\r\n\r\n"},
		"two responses":                          {jsonHead(len(goodAnswer)) + goodAnswer + jsonHead(len(goodAnswer)) + goodAnswer},
		"HTTP/1.0":                               {"HTTP/1.0 200 OK\r\n" + jsonType + "\r\n" + goodAnswer},
		"the end of the connection for a length": {head("200 OK", jsonType, "Connection: close\r\n") + goodAnswer},
		"informational heads":                    {strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-Hint: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 Spite\r\n\r\n", 300) + jsonHead(len(goodAnswer)) + goodAnswer},
	} {
		rows = append(rows, spite{name: name, play: respond(response...), want: ending{charge: captured, hasNot: "x-late"}})
	}
	return append(rows,
		spite{name: "20 MB of headers", heavy: true, want: failed,
			play: respond(head("200 OK", jsonType, exact, "X-Long: "+strings.Repeat("x", 20<<20)+"\r\n") + goodAnswer)},
		spite{name: "HTTP/1.0, cut", play: respond("HTTP/1.0 200 OK\r\n" + jsonType + "\r\n" + goodAnswer[:len(goodAnswer)-2]), want: failed},
		spite{name: "trailers without an answer", play: respond(head("200 OK", jsonType, chunked, "Trailer: X-Late\r\n") + chunk(progress) + "0\r\nX-Late: " + loot + "\r\n\r\n"), want: failed},
		spite{name: "trailers of a stream without an answer", want: failedLate,
			play: respond(head("200 OK", "Content-Type: text/event-stream\r\n", chunked, "Trailer: X-Late\r\n") + chunk(event(progress)) + "0\r\nX-Late: " + loot + "\r\nX-Later: " + loot + "\r\n\r\n")},
		spite{name: "trailers of an error", want: ending{status: 500, has: "mine"},
			play: respond(head("500 Spite", "Content-Type: text/plain\r\n", chunked, "Trailer: X-Late\r\n") + chunk("mine") + "0\r\nX-Late: " + loot + "\r\nX-Later: " + loot + "\r\n\r\n")})
}
