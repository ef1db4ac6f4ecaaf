package tap

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What costs nothing passes as it comes, but for a switch of protocols.
func TestRelay(t *testing.T) {
	w := newWire()
	r := NewRelay(w, func(h http.Header) { h.Set("X-Head", "1") }, nil)
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(http.StatusEarlyHints)
	if r.SentHead() {
		t.Error("103 was taken for the final head")
	}
	if _, err := io.Copy(r, strings.NewReader(result)); err != nil || w.Body.String() != result {
		t.Errorf("sent %q, %v", w.Body.String(), err)
	}
	if w.Result().Header.Get("X-Head") != "1" || !r.SentHead() {
		t.Error("the head was not changed on its way")
	}

	w = newWire()
	r = NewRelay(w, nil, nil)
	r.WriteHeader(http.StatusSwitchingProtocols)
	_, _ = io.WriteString(r, "tunnel")
	_, _, err := http.NewResponseController(r).Hijack()
	if !r.Withheld() || r.SentHead() || w.Body.Len() != 0 || !errors.Is(err, errHijack) {
		t.Errorf("a tunnel was let through: %q, %v", w.Body.String(), err)
	}
}

// On a stream opened by GET, what the server says of itself passes, split
// anywhere, and answers to calls do not.
func TestListenerDropsAnswers(t *testing.T) {
	request := `{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}`
	stream := ": hi\n\n" + event(result) + event(progress) + event(rpcError) + event(request) + event("no json") + event(foreign)
	want := ": hi\n\n" + event(progress) + event(request)
	for at := range len(stream) {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<30), nil)
		l.Header().Set("Content-Type", "text/event-stream")
		l.WriteHeader(200)
		for _, piece := range []string{stream[:at], stream[at:]} {
			if _, err := io.Copy(l, strings.NewReader(piece)); err != nil {
				t.Fatal(err)
			}
		}
		if w.Body.String() != want {
			t.Fatalf("split at %d: sent %q", at, w.Body.String())
		}
	}
}

// A GET that is answered by anything but events could hide an answer.
func TestListenerWithholds(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"json": asJSON, "nothing": nil,
		"encoded": {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"},
	} {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<30), nil)
		for n, v := range header {
			l.Header().Set(n, v)
		}
		_, _ = io.WriteString(l, result)
		if !l.Withheld() || l.SentHead() || w.Body.Len() > 0 {
			t.Errorf("%s: sent %q", name, w.Body.String())
		}
	}
	for _, withheld := range []http.ResponseWriter{NewRelay(newWire(), nil, nil), NewListener(newWire(), nil, nil, NewBudget(1<<30), nil)} {
		if err := http.NewResponseController(withheld).Flush(); err != nil { // before a head: nothing to send
			t.Error(err)
		}
	}
	w := newWire() // errors pass: a server without such streams answers 405
	l := NewListener(w, nil, nil, NewBudget(1<<30), nil)
	l.WriteHeader(http.StatusMethodNotAllowed)
	_, _ = io.WriteString(l, "no streams here")
	if w.Code != http.StatusMethodNotAllowed || w.Body.String() != "no streams here" {
		t.Errorf("got %d %q", w.Code, w.Body.String())
	}
}

// An event without end does not fill the memory.
func TestListenerBounds(t *testing.T) {
	budget := NewBudget(1 << 30)
	l := NewListener(newWire(), nil, nil, budget, nil)
	l.Header().Set("Content-Type", "text/event-stream")
	l.WriteHeader(200)
	var err error
	for written := 0; err == nil; written += 1 << 16 {
		if written > 2*DefaultHold {
			t.Fatal("it holds what comes without bound")
		}
		_, err = io.WriteString(l, long(1<<16))
	}
	if budget.Used() == 0 {
		t.Error("what it holds is not counted")
	}
	if l.Close(); budget.Used() != 0 {
		t.Errorf("%d bytes leaked", budget.Used())
	}
}
