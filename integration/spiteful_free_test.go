package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// crossStreams checks promise 1 of docs/promises.md for several streams. While a paid
// call waits for its answer, the server sends this answer on a stream for server
// messages. The gateway drops every form of the answer on that stream, passes the other
// messages, and charges the call for its own answer.
func (b *lawless) crossStreams(t *testing.T) {
	asked, answer := make(chan bool), make(chan bool)
	c := spiteCase{n: 1_000_000, spite: spite{want: paid}}
	stolen := []string{
		event(goodAnswer), event(withID(`"id":"7"`)), event(withID(`"id":8`)), event(`{"jsonrpc":"2.0","result":{"a":"` + loot + `"}}`), event("[" + goodAnswer + "]"),
		"id: 1\n" + event(goodAnswer), "data:" + strings.ReplaceAll(goodAnswer, ",", "\rdata:,") + "\r\r", event(`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"` + loot + `"}}`),
		event(`{"jsonrpc":"2.0","id":7,"method":"ping","result":{"a":"` + loot + `"}}`), "spite: a\n" + event(goodAnswer), "Data: " + goodAnswer + "\n\n",
	}
	b.plan(c.path(), func(e *harness.RawExchange) {
		if e.Request.Method == http.MethodGet {
			respond(append(append([]string{eventsHead, event(progress)}, stolen...), event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"the last"}}`))...)(e)
			hang(e)
			return
		}
		close(asked)
		<-answer
		respond(jsonHead(len(goodAnswer)) + goodAnswer)(e)
	})
	done := make(chan *end, 1)
	go func() { done <- b.call(t.Context(), c) }()
	<-asked
	p := <-b.balances
	defer func() { b.balances <- p }()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	text := b.listen(ctx, t, c.path(), p.secret)
	close(answer)
	leave()
	if strings.Contains(text, loot) || !strings.Contains(text, "notifications/progress") {
		t.Errorf("the stream delivered %q", text)
	}
	e := <-done
	e.requests-- // do not count the request that opened the stream
	c.check(t, e)
}

// listen opens a stream and reads it until the server's last message.
func (b *lawless) listen(ctx context.Context, t *testing.T, path, secret string) string {
	t.Helper()
	r, err := newRequest(ctx, b.gateway, http.MethodGet, path, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if strings.Contains(lines.Text(), "the last") {
			return text.String()
		}
	}
	t.Fatalf("the stream ended after %q", text.String())
	return ""
}

// notification stands for a POST that has no answer.
const notification = "notification"

var (
	ownAnswer    = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	othersAnswer = strings.Replace(goodAnswer, `"id":7`, `"id":8`, 1)
)

// freeStreams checks promise 1 of docs/promises.md for a server that sends the answer
// to another call on the stream of a free call. The gateway withholds that answer, even
// if it is too long to hold, because the other call is paid elsewhere. The answer to
// the free call passes if no such answer came before it.
func (b *lawless) freeStreams(t *testing.T) {
	p := <-b.balances
	defer func() { b.balances <- p }()
	events := "Content-Type: text/event-stream\r\n"
	long := strings.Replace(othersAnswer, `"result":{`, `"result":{"pad":"`+strings.Repeat("x", 2<<20)+`",`, 1)
	for i, c := range []struct {
		name, raw  string
		own, whole bool // own: the call's own answer passes; whole: the response ends without an error, which is checked only if own is set
	}{
		{"its own answer", head("200 OK", events) + event(ownAnswer), true, true},
		{"another's answer", head("200 OK", events) + event(othersAnswer) + event(ownAnswer), false, true},
		{"a long answer of another", head("200 OK", events) + event(long) + event(ownAnswer), false, false},
	} {
		path := fmt.Sprintf("/mcp/freestream%d", i)
		b.plan(path, respond(c.raw))
		r, err := newRequest(t.Context(), b.gateway, http.MethodPost, path, p.secret, harness.ToolCall(7, "list_cities", `{}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := b.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if c.whole != (err == nil) && c.own {
			t.Errorf("%s: %v", c.name, err)
		}
		events := strings.Split(string(text), "\n\n")
		whole := strings.Join(events[:len(events)-1], "\n") // text without a blank line at the end is no event
		if strings.Contains(whole, loot) || strings.Contains(whole, ownAnswer) != c.own {
			t.Errorf("%s: the client has the events %.300q", c.name, whole)
		}
	}
}

// freeCalls checks that free responses pass unchanged, with two exceptions: responses
// that are no answer at all, and responses that the gateway cannot distinguish from the
// answer to another call.
func (b *lawless) freeCalls(t *testing.T) {
	p := <-b.balances
	defer func() { b.balances <- p }()
	events := "Content-Type: text/event-stream\r\n"
	for i, c := range []struct {
		name, method, raw string
		status            int
	}{
		{"JSON for a stream", http.MethodGet, jsonHead(len(goodAnswer)) + goodAnswer, http.StatusBadGateway},
		{"nothing that is named for a stream", http.MethodGet, head("200 OK") + event(goodAnswer), http.StatusBadGateway},
		{"two types for a stream", http.MethodGet, head("200 OK", events, jsonType) + goodAnswer, http.StatusBadGateway},
		{"a stream in an unknown encoding", http.MethodGet, head("200 OK", events, "Content-Encoding: spite\r\n") + event(goodAnswer), http.StatusBadGateway},
		{"an encoded stream", http.MethodGet, head("200 OK", events, "Content-Encoding: gzip\r\n") + zipped(event(goodAnswer)), http.StatusOK},
		{"a stream with another status", http.MethodGet, head("206 Partial Content", jsonType) + goodAnswer, http.StatusBadGateway},
		{"no stream", http.MethodGet, head("405 Method Not Allowed", "Allow: POST\r\n"), http.StatusMethodNotAllowed},
		{"a status that is none, for a stream", http.MethodGet, head("042 Spite"), http.StatusBadGateway},
		{"a tunnel", http.MethodPost, head("101 Switching Protocols", "Upgrade: spite\r\nConnection: Upgrade\r\n") + goodAnswer, http.StatusOK},
		{"a tunnel for a stream", http.MethodGet, head("101 Switching Protocols", "Upgrade: spite\r\nConnection: Upgrade\r\n") + goodAnswer, http.StatusBadGateway},
		{"a status that is none", http.MethodPost, head("042 Spite"), http.StatusOK},
		{"nothing", http.MethodPost, "", http.StatusOK},
		{"no head", http.MethodPost, goodAnswer, http.StatusOK},
		{"an error", http.MethodPost, head("500 Spite", jsonType) + rpcError, http.StatusInternalServerError},
		{"an answer", http.MethodPost, jsonHead(len(ownAnswer)) + ownAnswer, http.StatusOK},
		{"the answer to another call", http.MethodPost, jsonHead(len(othersAnswer)) + othersAnswer, http.StatusOK},
		{"what is no JSON", http.MethodPost, head("200 OK", jsonType, "Content-Length: 4\r\n") + "mine", http.StatusOK},
		{"an answer to a notification", notification, jsonHead(len(othersAnswer)) + othersAnswer, http.StatusOK},
		{"a stream for a notification", notification, head("200 OK", events) + event(othersAnswer), http.StatusOK},
		{"an answer with an error to a notification", notification, head("400 Bad Request", jsonType) + othersAnswer, http.StatusBadRequest},
		{"an answer with an error for a stream", http.MethodGet, head("400 Bad Request", jsonType) + othersAnswer, http.StatusBadRequest},
	} {
		path, body := fmt.Sprintf("/mcp/free%d", i), ""
		b.plan(path, respond(c.raw))
		switch c.method {
		case http.MethodPost:
			body = harness.ToolCall(7, "list_cities", `{}`)
		case notification:
			c.method, body = http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`
		}
		r, err := newRequest(t.Context(), b.gateway, c.method, path, p.secret, body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.send(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got.status != c.status || got.has(loot) || got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: got %d %v %q; want %d", c.name, got.status, got.header, got.body, c.status)
		}
		if own := c.status == http.StatusBadGateway || got.header.Get("X-Farebox-Error") != ""; got.has(spiteHead) == own || strings.Contains(string(got.body), "UPSTREAM_FAILED") != own {
			t.Errorf("%s: got %d %v %q; the gateway's own: %t", c.name, got.status, got.header, got.body, own)
		}
	}
}
