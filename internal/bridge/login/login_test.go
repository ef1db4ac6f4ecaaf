package login

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSignIn checks the whole way to the first token, and that it is kept for the next
// start. The authority of the test checks PKCE.
func TestSignIn(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	r := newRig(t, a, dir, nil)
	r.mustHave(t, "")
	r.signIn(t, "")
	r.mustHave(t, "access-1")
	page, err := url.Parse(r.pages[0])
	if err != nil {
		t.Fatal(err)
	}
	asked := page.Query()
	for name, want := range map[string]string{"response_type": "code", "code_challenge_method": "S256", "resource": a.url + "/mcp", "scope": "read", "client_id": "client-1"} {
		if asked.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, asked.Get(name), want)
		}
	}
	if !strings.HasPrefix(asked.Get("redirect_uri"), "http://127.0.0.1:") || len(asked.Get("state")) < 20 {
		t.Errorf("the page is %s", page)
	}
	if !strings.Contains(r.notes.String(), r.pages[0]) {
		t.Errorf("the address is not shown: %s", r.notes.String())
	}
	later := newRig(t, a, dir, nil)
	later.mustHave(t, "access-1")
	if len(later.pages) != 0 {
		t.Error("the next start has asked again")
	}
}

// TestAnswers checks that no wrong answer of a browser gives a token, that the person
// learns the reason, and that an answer to another sign-in does not end this one.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"denied":       {func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, "denied in the browser"},
		"refused":      {func(v url.Values) { v.Del("code"); v.Set("error", "invalid_scope\x1b") }, "invalid_scope"},
		"other issuer": {func(v url.Values) { v.Set("iss", "https://evil.example.com") }, "is not of"},
		"no issuer":    {func(v url.Values) { v.Del("iss") }, "is not of"},
		"no code":      {func(v url.Values) { v.Del("code") }, "no code"},
		"wrong code":   {func(v url.Values) { v.Set("code", "x") }, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, newAuthority(t), t.TempDir(), test.change)
			for range 2 { // a model calls again
				err := r.SignIn(t.Context(), "", []string{r.a.challenge()})
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\x1b") {
					t.Errorf("%v", err)
				}
			}
			if len(r.pages) != 1 {
				t.Errorf("%d pages were opened", len(r.pages))
			}
			r.mustHave(t, "")
			r.now = r.now.Add(pause)
			_ = r.SignIn(t.Context(), "", []string{r.a.challenge()})
			if len(r.pages) != 2 {
				t.Errorf("%d pages were opened after a pause", len(r.pages))
			}
		})
	}
}

// TestForeignState checks that an answer with another state changes nothing.
func TestForeignState(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := newRig(t, a, t.TempDir(), nil)
	r.o.Open = func(page string) error {
		go func() {
			a.person(t, page, func(v url.Values) { v.Set("state", "guessed"); v.Set("error", "access_denied") })
			a.person(t, page, nil)
		}()
		return nil
	}
	r.signIn(t, "")
	r.mustHave(t, "access-1")
}

// TestPasted checks that a person with a browser on another machine can paste the
// address at which it has ended.
func TestPasted(t *testing.T) {
	t.Parallel()
	got, err := pasted(" http://127.0.0.1:7/callback?code=a&state=b \n", "http://127.0.0.1:7/callback")
	if err != nil || got.Get("code") != "a" || got.Get("state") != "b" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := pasted("http://127.0.0.1:8/callback?code=a", "http://127.0.0.1:7/callback"); err == nil {
		t.Error("an address of another sign-in was read")
	}
}

// TestNobodyAnswers checks that a sign-in ends after its time, with advice.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, newAuthority(t), t.TempDir(), nil)
	r.o.Patience = 50 * time.Millisecond
	r.o.Open = func(string) error { return errors.New("there is no display") }
	err := r.SignIn(t.Context(), "", []string{r.a.challenge()})
	if err == nil || !strings.Contains(err.Error(), "farebox connect login") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(r.notes.String(), "there is no display") {
		t.Errorf("notes: %s", r.notes.String())
	}
}

// TestRefresh checks that a token is renewed before it ends and when it is refused,
// without a person.
func TestRefresh(t *testing.T) {
	t.Parallel()
	r := newRig(t, newAuthority(t), t.TempDir(), nil)
	r.signIn(t, "")
	r.now = r.now.Add(time.Hour - early)
	r.mustHave(t, "access-2")
	r.signIn(t, "access-2")
	r.mustHave(t, "access-3")
	if err := r.Refresh(t.Context(), "access-2"); err != nil {
		t.Error(err)
	}
	r.mustHave(t, "access-3")
	if len(r.pages) != 1 {
		t.Errorf("%d pages were opened", len(r.pages))
	}
}

// TestOneRefreshForAll checks that several programs at one store use each refresh token
// once: the authority would end the grant at its second use.
func TestOneRefreshForAll(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	newRig(t, a, dir, nil).signIn(t, "")
	var rigs []*rig
	for range 4 {
		r := newRig(t, a, dir, nil)
		r.mustHave(t, "access-1")
		rigs = append(rigs, r)
	}
	for round, refused := range []string{"access-1", "access-2", "access-3"} {
		var group sync.WaitGroup
		for _, r := range rigs {
			for range 4 {
				group.Go(func() {
					if err := r.SignIn(t.Context(), refused, nil); err != nil {
						t.Error(err)
					}
				})
			}
		}
		group.Wait()
		if a.issued != round+2 {
			t.Errorf("%d tokens were issued after %d refreshes", a.issued, round+1)
		}
	}
	for _, r := range rigs {
		r.mustHave(t, "access-4")
		if len(r.pages) != 0 {
			t.Error("a person was asked")
		}
	}
}

// TestRevoked checks that a grant that was revoked leads to a new sign-in, and that a
// failure of the authorization server does not: the grant stays.
func TestRevoked(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := newRig(t, a, t.TempDir(), nil)
	r.signIn(t, "")
	for _, body := range []string{"<html>down</html>", `{"error":"temporarily_unavailable"}`} {
		a.status, a.answer = 503, body
		if err := r.SignIn(t.Context(), "access-1", nil); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("while the server is down: %v", err)
		}
	}
	a.status = 0
	a.end()
	var out *SignedOutError
	if err := r.Refresh(t.Context(), "access-1"); !errors.As(err, &out) {
		t.Errorf("a refresh of a revoked grant: %v", err)
	}
	if len(r.pages) != 1 {
		t.Errorf("a refresh has opened a page")
	}
	r.signIn(t, "access-1")
	r.mustHave(t, "access-2")
	if len(r.pages) != 2 {
		t.Errorf("%d pages were opened", len(r.pages))
	}
}

// TestStepUp checks that a lack of scopes asks the person for all of them, that the old
// grant is revoked, and that scopes that were not granted are asked for once.
func TestStepUp(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.granted = "read"
	r := newRig(t, a, t.TempDir(), nil)
	r.signIn(t, "")
	lack := []string{`Bearer error="insufficient_scope", scope="write", resource_metadata="` + a.url + `/.well-known/oauth-protected-resource/mcp"`}
	if err := r.SignIn(t.Context(), "access-1", lack); err != nil {
		t.Fatal(err)
	}
	r.mustHave(t, "access-2")
	if u, _ := url.Parse(r.pages[1]); u.Query().Get("scope") != "write read" {
		t.Errorf("asked for %s", r.pages[1])
	}
	if len(a.revoked) != 1 || a.revoked[0] != "refresh-1" {
		t.Errorf("revoked %q", a.revoked)
	}
	if err := r.SignIn(t.Context(), "access-2", lack); err == nil || len(r.pages) != 2 {
		t.Errorf("%d pages, %v", len(r.pages), err)
	}
	r.mustHave(t, "access-2")
}

// TestTerminal checks the sign-in and its end by commands.
func TestTerminal(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := newRig(t, a, t.TempDir(), nil)
	place, err := r.Start(t.Context())
	if err != nil || !strings.HasPrefix(place, "the file ") {
		t.Errorf("%q, %v", place, err)
	}
	if _, err := r.Start(t.Context()); err != nil || len(r.pages) != 2 {
		t.Errorf("a second sign-in: %d pages, %v", len(r.pages), err)
	}
	if found, err := r.End(t.Context()); err != nil || !found || a.revoked[len(a.revoked)-1] != "refresh-2" {
		t.Errorf("%t, %v; revoked %q", found, err, a.revoked)
	}
	if found, err := r.End(t.Context()); err != nil || found {
		t.Errorf("again: %t, %v", found, err)
	}
}
