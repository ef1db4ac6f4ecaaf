package intercept

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// through plays an upstream's whole response through an Intake.
func through(t *testing.T, w http.ResponseWriter, status int, header http.Header, pieces ...string) (*Intake, *Moved, error) {
	t.Helper()
	in := NewIntake(w)
	for name, values := range header {
		in.Header()[name] = values
	}
	in.WriteHeader(status)
	for _, piece := range pieces {
		if _, err := io.Copy(in, strings.NewReader(piece)); err != nil {
			break // a proxy, too, stops at the first write that fails
		}
		in.Flush()
	}
	moved, err := in.End()
	return in, moved, err
}

func zip(t *testing.T, pieces ...string) (encoded []string) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i, piece := range pieces {
		_, err := io.WriteString(w, piece)
		if i < len(pieces)-1 {
			err = errors.Join(err, w.Flush())
		} else {
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, b.String())
		b.Reset()
	}
	return encoded
}

// TestEncodedAnswer checks that an encoded response is decoded before it is judged,
// charged and delivered. The head of the delivered response has no trace of the
// coding.
func TestEncodedAnswer(t *testing.T) {
	r := newRig(t, nil)
	body := zip(t, result)[0]
	header := http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}, "Content-Length": {"50"}, "Etag": {`"x"`}}
	_, moved, err := through(t, r.Interceptor, 200, header, body[:5], body[5:])
	if moved != nil || err != nil || !r.end(nil) {
		t.Fatalf("%v, %v", moved, err)
	}
	if !r.books.captured || r.out() != stamped {
		t.Errorf("captured %t, sent %q", r.books.captured, r.out())
	}
	if h := r.wire.Header(); h.Get("Content-Encoding") != "" || h.Get("Etag") != "" || h.Get("Content-Length") != strconv.Itoa(len(stamped)) {
		t.Errorf("the head says %v of %d bytes", h, len(stamped))
	}
}

// TestEncodedEventsPassAtOnce checks that each event of an encoded stream passes as
// soon as the server has flushed it. The response is charged before it is sent.
func TestEncodedEventsPassAtOnce(t *testing.T) {
	r := newRig(t, nil)
	pieces := zip(t, event(progress), event(result))
	in := NewIntake(r.Interceptor)
	in.Header().Set("Content-Type", "text/event-stream")
	in.Header().Set("Content-Encoding", "gzip")
	in.WriteHeader(200)
	if _, err := io.WriteString(in, pieces[0]); err != nil || r.out() != event(progress) {
		t.Fatalf("after the first event there is %q, %v", r.out(), err)
	}
	if _, err := io.WriteString(in, pieces[1]); err != nil || !r.books.captured || r.books.before != event(progress) {
		t.Fatalf("captured %t when %q was out, %v", r.books.captured, r.books.before, err)
	}
	if _, err := in.End(); err != nil || !r.end(nil) || r.out() != event(progress)+event(stamped) {
		t.Errorf("sent %q, %v", r.out(), err)
	}
}

// TestBrokenCoding checks bodies that cannot be decoded. End returns an error for a
// broken body. A body with an unknown coding is refused without an error from End.
// Neither call is charged.
func TestBrokenCoding(t *testing.T) {
	whole := zip(t, result)[0]
	for name, body := range map[string]string{"cut": whole[:len(whole)-3], "no gzip": result, "trailing": whole + "x"} {
		r := newRig(t, nil)
		_, _, err := through(t, r.Interceptor, 200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, body)
		if err == nil || !r.end(&gate.Refusal{Code: gate.UpstreamFailed, Cause: err}) || r.out() != "refused UPSTREAM_FAILED" {
			t.Errorf("%s: %v, sent %q", name, err, r.out())
		}
		r.free()
	}
	r := newRig(t, nil)
	_, _, err := through(t, r.Interceptor, 200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"spite"}}, result)
	if r.end(nil); err != nil || r.out() != "refused UPSTREAM_FAILED" {
		t.Errorf("an unknown coding: %v, sent %q", err, r.out())
	}
	r.free()
}

// TestRedirectIsKeptBack checks that a redirect is not passed on, not even by a
// flush, and that its body is read up to a bound.
func TestRedirectIsKeptBack(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		r := newRig(t, nil)
		header := http.Header{"Content-Type": {"application/json"}, "Location": {"/mcp/"}}
		in, moved, err := through(t, r.Interceptor, status, header, result)
		if err != nil || moved == nil || moved.Status != status || len(moved.Location) != 1 || moved.Location[0] != "/mcp/" {
			t.Fatalf("%d: %+v, %v", status, moved, err)
		}
		if _, err := io.WriteString(in, strings.Repeat("x", maxSwallowed)); !errors.Is(err, errMoved) {
			t.Errorf("%d: its body goes on: %v", status, err)
		}
		if r.wire.flushed != 0 || r.out() != "" {
			t.Errorf("%d: sent %q", status, r.out())
		}
	}
}

// TestAddressIsHidden checks that the head of a response, an error or an early hint
// never discloses the server's address. Links without an address pass.
func TestAddressIsHidden(t *testing.T) {
	for link, passes := range map[string]bool{
		"</docs>; rel=help": true, "<http://10.0.0.7:3001/>; rel=next": false, "<//inner/>; rel=next": false, `<\\inner\x>`: false, "<http:inner>": false,
	} {
		for _, status := range []int{200, 201, 404} {
			w := newWire()
			header := http.Header{"Location": {"http://inner/"}, "Content-Location": {"http://inner/"}, "Link": {"</a>", link}}
			if _, _, err := through(t, NewRelay(w, nil), status, header); err != nil {
				t.Fatal(err)
			}
			h := w.Header()
			if h.Get("Location") != "" || h.Get("Content-Location") != "" || (h.Get("Link") != "") != passes {
				t.Errorf("%d, %s: %v", status, link, h)
			}
		}
	}
	hint := http.Header{"Link": {"<http://inner/>; rel=preload"}}
	hideAddress(hint)
	if len(hint) != 0 {
		t.Errorf("a hint discloses %v", hint)
	}
}
