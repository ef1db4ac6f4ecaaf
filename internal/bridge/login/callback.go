package login

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callbackPath is the path to which the browser returns.
const callbackPath = "/callback"

// listener receives the answer of the authorization server by way of the browser (RFC
// 8252, section 7.3).
type listener struct {
	address string // the redirect URI
	state   string // the state of the request, which only its answer has
	server  *http.Server
	got     chan url.Values // has the first answer
}

// listen opens a port of the loopback interface.
func listen(state string) (*listener, error) {
	at, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("no port of this machine can be opened for the browser's answer: %w", err)
	}
	l := &listener{address: "http://" + at.Addr().String() + callbackPath, state: state, got: make(chan url.Values, 1)}
	const limit = 10 * time.Second
	l.server = &http.Server{Handler: l, ReadTimeout: limit, WriteTimeout: limit, IdleTimeout: limit, MaxHeaderBytes: 64 << 10}
	go func() { _ = l.server.Serve(at) }() // ends with close
	return l, nil
}

// closeTime is for the page that the browser still loads.
const closeTime = 2 * time.Second

func (l *listener) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
}

// submit takes an answer. One with another state is no answer to this sign-in, and does
// not end it.
func (l *listener) submit(answer url.Values) bool {
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(l.state)) != 1 {
		return false
	}
	select {
	case l.got <- answer:
	default: // the first one counts
	}
	return true
}

var resultPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>farebox connect</title></head>
<body><h1>{{.Title}}</h1><p>{{.Text}}</p></body></html>
`))

// ServeHTTP answers the browser.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	title, text := "Thank you", "The program continues by itself. You can close this window."
	switch {
	case r.URL.Path != callbackPath || r.Method != http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
		title, text = "Not found", "This address is only for the answer to a sign-in."
	case !l.submit(r.URL.Query()):
		w.WriteHeader(http.StatusBadRequest)
		title, text = "Not the answer", "This is not the answer to the sign-in that is under way. Begin again with the address that the program shows."
	case r.URL.Query().Get("error") != "":
		title, text = "Not signed in", "The program has no access. You can close this window."
	}
	_ = resultPage.Execute(w, map[string]string{"Title": title, "Text": text}) // fails only if the browser has left
}

// await waits for the answer from the browser, or for its address in a line of paste.
func (l *listener) await(ctx context.Context, paste io.Reader) (url.Values, error) {
	if paste != nil {
		go l.readPasted(paste) // ends with the process if nothing is pasted
	}
	select {
	case answer := <-l.got:
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// maxPasted bounds a pasted line, in bytes.
const maxPasted = 64 << 10

// readPasted takes the address that a browser on another machine could not open.
func (l *listener) readPasted(paste io.Reader) {
	lines := bufio.NewScanner(paste)
	lines.Buffer(nil, maxPasted)
	for lines.Scan() {
		if answer, err := pasted(lines.Text(), l.address); err == nil && l.submit(answer) {
			return
		}
	}
}

// pasted returns the answer in an address that begins with the redirect URI.
func pasted(line, address string) (url.Values, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), address+"?")
	if !ok {
		return nil, errors.New("it is not the address of the answer")
	}
	return url.ParseQuery(rest)
}
