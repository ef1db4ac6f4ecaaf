package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// keys has the tokens "k1", "k2" and so on. A refresh and a sign-in give the next one, a
// sign-in with a new grant.
type keys struct {
	mu        sync.Mutex
	n, grant  int
	refreshes int
	signIns   []string // the challenges
	expired   bool     // a refresh is impossible
	err       error    // the error of a sign-in
}

func (k *keys) Current(context.Context) (token, grant string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == 0 {
		return "", "", nil
	}
	return fmt.Sprint("key-of-the-test-", k.n), fmt.Sprint("g", k.grant), nil
}

func (k *keys) Refresh(_ context.Context, refused string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.expired || k.n == 0 {
		return errors.New("nobody has signed in")
	}
	if refused == fmt.Sprint("key-of-the-test-", k.n) {
		k.n++
		k.refreshes++
	}
	return nil
}

func (k *keys) SignIn(ctx context.Context, refused string, challenge []string) error {
	lacks := strings.Contains(strings.Join(challenge, " "), "insufficient_scope")
	if !lacks && k.Refresh(ctx, refused) == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signIns = append(k.signIns, strings.Join(challenge, " "))
	if k.err != nil {
		return k.err
	}
	k.n++
	k.grant++
	k.expired = false
	return nil
}

// signedIn starts a bridge with these keys.
func signedIn(t *testing.T, s *server, k *keys) *client {
	t.Helper()
	c := start(t, s.URL, func(o *Options) { o.Token, o.Tokens = "", k })
	t.Cleanup(func() {
		if strings.Contains(c.notes.String(), "key-of-the-test") {
			t.Errorf("the notes contain a token: %s", c.notes)
		}
	})
	return c
}

// refuse answers with 401 unless the request has the n-th key.
func refuse(w http.ResponseWriter, r *request, n int) bool {
	if r.Header.Get("Authorization") == fmt.Sprint("Bearer key-of-the-test-", n) {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://x/y"`)
	http.Error(w, `no, `+r.Header.Get("Authorization"), http.StatusUnauthorized)
	return true
}

// TestSignsIn checks that a bridge without a token sends none, signs in when the server
// refuses that, and sends the request again, so that the client does not notice.
func TestSignsIn(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if !refuse(w, r, 1) && !handshake(w, r, "one") {
			answer(w, r, paid("0.01"))
		}
	})
	k := &keys{}
	c := signedIn(t, s, k)
	c.hello(t)
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Result == nil {
		t.Errorf("response: %s", m.Line)
	}
	if first := s.requests[0].Header; first.Get("Authorization") != "" || len(k.signIns) != 1 || !strings.Contains(k.signIns[0], "https://x/y") {
		t.Errorf("%q; signed in by %q", first.Get("Authorization"), k.signIns)
	}
}

// TestTokenEnds checks that a token that ends is replaced on every way to the server: for
// calls, for notifications and for the session's stream.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	good := 1
	var mu sync.Mutex
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		mu.Lock()
		n := good
		mu.Unlock()
		switch {
		case refuse(w, r, n):
		case r.HTTPMethod == http.MethodGet:
			event(w, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}`)
		case handshake(w, r, "one"):
		case r.ID == nil:
			w.WriteHeader(http.StatusAccepted)
		default:
			answer(w, r, paid("0.01"))
		}
	})
	k := &keys{n: 1}
	c := signedIn(t, s, k)
	c.hello(t)
	end := func() {
		mu.Lock()
		defer mu.Unlock()
		good++
	}
	end()
	s.await(t, 1, func(r *request) bool {
		return r.HTTPMethod == http.MethodGet && r.Header.Get("Authorization") == "Bearer key-of-the-test-2"
	})
	end()
	c.send(t, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	s.await(t, 1, func(r *request) bool {
		return strings.Contains(r.Body, "list_changed") && r.Header.Get("Authorization") == "Bearer key-of-the-test-3"
	})
	end()
	c.send(t, toolCall(1, "x"))
	for {
		if m := c.next(t); string(m.ID) == "1" {
			if m.Result == nil {
				t.Errorf("response: %s", m.Line)
			}
			break
		}
	}
	if len(k.signIns) != 0 {
		t.Errorf("%d sign-ins", len(k.signIns))
	}
}

// TestSignInFails checks that the reason reaches the client and the notes, and that the
// client can go on: a later sign-in serves its next request.
func TestSignInFails(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if !refuse(w, r, 1) {
			answer(w, r, paid("0.01"))
		}
	})
	k := &keys{err: errors.New("the sign-in was denied")}
	c := signedIn(t, s, k)
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Error == nil || m.Error.Code != http.StatusUnauthorized || !strings.Contains(m.Error.Message, "the sign-in was denied") {
		t.Errorf("response: %s", m.Line)
	}
	if !strings.Contains(c.notes.String(), "the sign-in was denied") {
		t.Errorf("notes: %s", c.notes)
	}
	k.mu.Lock()
	k.n = 1
	k.mu.Unlock()
	c.send(t, toolCall(2, "x"))
	if m := c.next(t); m.Result == nil {
		t.Errorf("response: %s", m.Line)
	}
}

// TestStepsUp checks that a 403 for a missing scope leads to a sign-in with its scopes,
// and that the server's own refusal reaches the client if that fails.
func TestStepsUp(t *testing.T) {
	t.Parallel()
	for _, denied := range []bool{false, true} {
		s := newServer(t, func(w http.ResponseWriter, r *request) {
			if r.Header.Get("Authorization") == "Bearer key-of-the-test-2" {
				answer(w, r, paid("0.01"))
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="write"`)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":403,"message":"needs write"}}`, r.ID)
		})
		k := &keys{n: 1}
		if denied {
			k.err = errors.New("denied")
		}
		c := signedIn(t, s, k)
		c.send(t, toolCall(1, "x"))
		if m := c.next(t); denied != (m.Error != nil && m.Error.Message == "needs write") || len(k.signIns) != 1 {
			t.Errorf("denied %t: %s; %d sign-ins", denied, m.Line, len(k.signIns))
		}
	}
}

// TestEndlessRefusals checks that a server that refuses every token is not asked for
// ever.
func TestEndlessRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) { refuse(w, r, 0) })
	c := signedIn(t, s, &keys{n: 1})
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Error == nil || m.Error.Code != http.StatusUnauthorized {
		t.Errorf("response: %s", m.Line)
	}
	if n := len(s.calls()); n != maxTokens {
		t.Errorf("the call was sent %d times", n)
	}
}

// TestDoubtStaysWithItsPayer checks promise 4 of docs/promises.md: a call that may have
// been charged is repeated after a refresh, with its idempotency key, and is not repeated
// after a sign-in. Somebody else may pay then, and the gateway would not find the key.
func TestDoubtStaysWithItsPayer(t *testing.T) {
	t.Parallel()
	for _, expired := range []bool{false, true} {
		var s *server
		s = newServer(t, func(w http.ResponseWriter, r *request) {
			switch {
			case len(s.calls()) == 1:
				breakOff(w)
			case !refuse(w, r, 2):
				answer(w, r, paid("0.01"))
			}
		})
		c := signedIn(t, s, &keys{n: 1, grant: 1, expired: expired})
		c.send(t, toolCall(1, "x"))
		m := c.next(t)
		if expired != (m.Error != nil && strings.Contains(m.Error.Message, "not known whether the call was charged")) {
			t.Errorf("expired %t: %s", expired, m.Line)
		}
		want := 3
		if expired {
			want = 2
		}
		calls := s.calls()
		if len(calls) != want || calls[0].Header.Get("Idempotency-Key") != calls[1].Header.Get("Idempotency-Key") {
			t.Errorf("expired %t: the call was sent %d times", expired, len(calls))
		}
	}
}
