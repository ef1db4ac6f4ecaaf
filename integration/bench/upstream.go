package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/valyala/fasthttp"
)

// The program starts itself as the upstream and as the authorization server. Then its
// first argument is one of these words, and its second argument is the address to
// listen on.
const (
	asUpstream = "serve-upstream"
	asAuth     = "serve-auth"
)

// tokenVariable is the environment variable with the token that the authorization
// server accepts.
const tokenVariable = "BENCH_TOKEN"

// serve runs the server with this name until the process is killed.
func serve(name, address string) error {
	handlers := map[string]fasthttp.RequestHandler{asUpstream: answerCall, asAuth: authorizer(os.Getenv(tokenVariable))}
	handler, ok := handlers[name]
	if !ok {
		return fmt.Errorf("no server is named %q", name)
	}
	server := &fasthttp.Server{Handler: handler, NoDefaultServerHeader: true, NoDefaultDate: true}
	return server.ListenAndServe(address)
}

// answerLength is the length of the upstream's JSON answers in bytes.
const answerLength = 200

// The parts of an answer around the id and the text.
const (
	answerHead = `{"jsonrpc":"2.0","id":`
	answerTail = `"}]}}`
)

func resultHead(stateless bool) string {
	if stateless {
		return `"resultType":"complete","content":[{"type":"text","text":"`
	}
	return `"content":[{"type":"text","text":"`
}

// The texts are computed once, because the client compares each answer with them.
var (
	resultTexts   [2]string
	quotedResults [2][]byte
)

func init() {
	for i, stateless := range []bool{false, true} {
		length := answerLength - len(answerHead) - len("1000000000") - len(`,"result":{`) - len(resultHead(stateless)) - len(answerTail)
		resultTexts[i] = strings.Repeat("Light rain. ", length/12+1)[:length]
		quotedResults[i] = []byte(resultHead(stateless) + resultTexts[i] + `"}]`)
	}
}

func variant(stateless bool) int {
	if stateless {
		return 1
	}
	return 0
}

// resultText returns the text in the upstream's results.
func resultText(stateless bool) string { return resultTexts[variant(stateless)] }

// quotedResult returns the members of the upstream's results as JSON.
func quotedResult(stateless bool) []byte { return quotedResults[variant(stateless)] }

// appendAnswer appends the upstream's answer to the request with the id.
func appendAnswer(b, id []byte, stateless bool) []byte {
	b = append(b, answerHead...)
	b = append(b, id...)
	b = append(b, `,"result":{`...)
	b = append(b, quotedResult(stateless)...)
	return append(b, `}}`...)
}

// answerCall answers a tools/call. It answers calls of streamTool and bulkTool in an
// event stream, and all other calls in JSON. It answers a GET with an event stream that
// stays open.
func answerCall(ctx *fasthttp.RequestCtx) {
	if ctx.IsGet() {
		ctx.SetContentType("text/event-stream")
		ctx.SetBodyStreamWriter(stayOpen)
		return
	}
	request := ctx.PostBody()
	id := answeredID(request)
	if len(id) == 0 {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	stateless := string(ctx.Request.Header.Peek("Mcp-Protocol-Version")) == statelessVersion
	if bytes.Contains(request, []byte(`"name":"`+streamTool+`"`)) {
		event := append(appendAnswer([]byte("event: message\ndata: "), id, stateless), "\n\n"...)
		ctx.SetContentType("text/event-stream")
		ctx.SetBodyStream(bytes.NewReader(event), -1)
		return
	}
	if bytes.Contains(request, []byte(`"name":"`+bulkTool+`"`)) {
		ctx.SetContentType("text/event-stream")
		ctx.SetBodyStreamWriter(bulk(append([]byte(nil), id...), bulkSize(request)))
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(appendAnswer(make([]byte, 0, answerLength), id, stateless))
}

// stayOpen sends a comment, so that the head leaves, and then keeps the stream open
// until the process ends.
func stayOpen(w *bufio.Writer) {
	_, _ = w.WriteString(": open\n\n")
	_ = w.Flush()
	select {}
}

// bulkSize returns the number in the argument "bytes" of a request, or 0.
func bulkSize(request []byte) (size int) {
	_, after, _ := bytes.Cut(request, []byte(`"bytes":`))
	_, _ = fmt.Sscan(string(after[:min(len(after), 12)]), &size)
	return size
}

// bulk writes an event with a result of the given number of bytes.
func bulk(id []byte, size int) fasthttp.StreamWriter {
	return func(w *bufio.Writer) {
		_, _ = w.WriteString("event: message\ndata: " + answerHead + string(id) + `,"result":{"content":[{"type":"text","text":"`)
		piece := strings.Repeat("Light rain. ", 64<<10/12)
		for left := size; left > 0; left -= len(piece) {
			if _, err := w.WriteString(piece[:min(left, len(piece))]); err != nil {
				return // the client has left
			}
		}
		_, _ = w.WriteString(answerTail + "\n\n")
		_ = w.Flush()
	}
}

// authorizer returns a handler that accepts requests with the token. It knows the
// digests of all accepted tokens and asks no store, like an authorization server with a
// cache that has every answer.
func authorizer(token string) fasthttp.RequestHandler {
	accepted := map[[sha256.Size]byte]string{sha256.Sum256([]byte(token)): "acct_bench"}
	return func(ctx *fasthttp.RequestCtx) {
		given, ok := bytes.CutPrefix(ctx.Request.Header.Peek("Authorization"), []byte("Bearer "))
		account, known := accepted[sha256.Sum256(given)]
		if !ok || !known {
			ctx.SetStatusCode(fasthttp.StatusUnauthorized)
			return
		}
		ctx.Response.Header.Set("X-Account", account)
	}
}
