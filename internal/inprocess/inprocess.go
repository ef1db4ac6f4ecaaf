// Package inprocess sends HTTP requests to a handler in the same process. Unlike
// httptest.ResponseRecorder it streams: the caller can read the response while the
// handler writes it.
package inprocess

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// Transport is an http.RoundTripper that calls Handler instead of dialing.
type Transport struct {
	Handler http.Handler
}

// RoundTrip runs the handler in a new goroutine and returns as soon as the handler has
// written a status. If the request's context ends before that, RoundTrip returns the
// context's cause and does not wait for the handler. The request's body is closed when
// the handler has returned. Close of the response's body waits for the handler, too.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: write, head: make(chan head, 1)}
	body := &pipeBody{PipeReader: read, done: make(chan struct{})}
	go func() {
		defer close(body.done)
		defer r.Body.Close()
		t.Handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = write.Close() // never fails
	}()
	select {
	case h := <-w.head:
		return &http.Response{StatusCode: h.status, Header: h.header, Body: body, ContentLength: -1, Request: r}, nil
	case <-r.Context().Done():
		err := context.Cause(r.Context())
		_ = read.CloseWithError(err) // never fails; later writes by the handler return the error
		return nil, err
	}
}

// head is the status and the header of a response.
type head struct {
	status int
	header http.Header
}

// pipeWriter is an http.ResponseWriter that writes the body into a pipe.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	head   chan head // receives one value, when the handler has written the status
}

func (w *pipeWriter) Header() http.Header { return w.header }
func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() { w.head <- head{status, w.header.Clone()} }) // a clone, because the handler may change w.header later
}
func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// pipeBody is the response's body.
type pipeBody struct {
	*io.PipeReader
	done chan struct{} // closed when the handler has returned
}

func (b *pipeBody) Close() error {
	_ = b.PipeReader.Close() // never fails; later writes by the handler return an error
	<-b.done
	return nil
}
