// Package inprocess sends HTTP requests to a handler in the same process. Unlike
// httptest.ResponseRecorder it streams: the caller can read the response while the
// handler writes it.
package inprocess

import (
	"io"
	"net/http"
	"sync"
)

// Transport is an http.RoundTripper that calls Handler instead of dialing.
type Transport struct {
	Handler http.Handler
}

// RoundTrip runs the handler in a new goroutine and returns as soon as the handler has
// written a status. Closing the response's body waits for the handler to return.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: write, status: make(chan int, 1)}
	body := &pipeBody{PipeReader: read, done: make(chan struct{})}
	go func() {
		defer close(body.done)
		t.Handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = write.Close() // never fails
	}()
	status := <-w.status
	return &http.Response{StatusCode: status, Header: w.header, Body: body, ContentLength: -1, Request: r}, nil
}

// pipeWriter is an http.ResponseWriter that writes the body into a pipe.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	status chan int // receives the status once
}

func (w *pipeWriter) Header() http.Header    { return w.header }
func (w *pipeWriter) WriteHeader(status int) { w.once.Do(func() { w.status <- status }) }
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
