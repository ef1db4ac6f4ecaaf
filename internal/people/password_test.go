package people

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestCheckPassword checks that short, common and personal passwords are refused, and
// that others are accepted.
func TestCheckPassword(t *testing.T) {
	if n := CommonCount(); n < 1000 {
		t.Errorf("%d common passwords", n)
	}
	for _, password := range []string{
		"", "short", "123456789", "1234567890", "0987654321", "qwertyuiop", "poiuytrewq", "Password123", "P@ssw0rd123!", "passwordpassword", "aaaaaaaaaaaa", "abcabcabcabc",
		"letmein2024", "Summer2026!", "iloveyou123", "admin12345", "!!!!!!!!!!!!", "8472910563", "1qaz2wsx3edc", "myfootball1", "DRAGON1234567",
		"zoe.miller-1", "ExampleCorp7", "tidy\xffvalley-77", strings.Repeat("long ", 60),
	} {
		var input *InputError
		if err := CheckPassword(password, "zoe.miller@example.com", "Zoë"); !errors.As(err, &input) {
			t.Errorf("%q was accepted: %v", password, err)
		}
	}
	for _, password := range []string{"violet-anchor-37", "copper/meadow/91", "korrekt pferd batterie", "ünïcödé-pässt", "zXq81!mmTr"} {
		if err := CheckPassword(password, "zoe.miller@example.com", "Zoë"); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// TestNormalEmail checks that addresses are stored in lower case without surrounding
// spaces, and that an address that could look like another one or break a mail header
// is refused.
func TestNormalEmail(t *testing.T) {
	for text, want := range map[string]string{
		"A.B+c@Example.com": "a.b+c@example.com", " a@b.de\n": "a@b.de", "o'neil@x-y.example": "o'neil@x-y.example",
		"": "", "a": "", "a@b": "", "@b.de": "", "a@b@c.de": "", "a@.de": "", "a@b..de": "", "a@b.de.": "", "ä@b.de": "", "a@bücher.de": "",
		"a b@c.de": "", "a\x00@c.de": "", "a@c.de\r\nBcc: x@c.de": "", "<a>@c.de": "", strings.Repeat("a", 250) + "@c.de": "",
	} {
		if got, err := NormalEmail(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// TestHash checks that a hash matches its own password only, and that a stored hash is
// refused if it is malformed or its cost would exhaust memory.
func TestHash(t *testing.T) {
	h := newHasher(cost{memory: 64, passes: 1, threads: 1})
	hash, err := h.hash(t.Context(), "a password")
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.hash(t.Context(), "a password")
	if err != nil || hash == second {
		t.Errorf("two hashes of a password are equal: %q, %v", hash, err)
	}
	for password, want := range map[string]bool{"a password": true, "A password": false, "": false} {
		if ok, outdated, err := h.verify(t.Context(), hash, password); ok != want || outdated || err != nil {
			t.Errorf("%q: %v, %v, %v", password, ok, outdated, err)
		}
	}
	if ok, _, err := h.verify(t.Context(), "", ""); ok || err != nil {
		t.Errorf("without a password: %v, %v", ok, err)
	}
	for _, bad := range []string{
		"x", strings.Replace(hash, "argon2id", "argon2i", 1), strings.Replace(hash, "m=64", "m=99999999", 1), strings.Replace(hash, "t=1", "t=0", 1),
		strings.Replace(hash, "p=1", "p=0", 1), strings.Replace(hash, "v=19", "v=16", 1), hash + "$", hash[:len(hash)-4],
	} {
		if ok, _, err := h.verify(t.Context(), bad, "a password"); ok || err == nil {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
	}
}

// TestHashingIsBounded checks that at most maxHashing passwords are hashed at a time,
// that maxWaiting more wait, and that all others are refused at once. A waiting attempt
// ends when its client leaves.
func TestHashingIsBounded(t *testing.T) {
	h := newHasher(cost{memory: 64, passes: 1, threads: 1})
	var leave []func()
	for range maxHashing {
		out, err := h.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, out)
	}
	var running sync.WaitGroup
	var refused, left atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	for range maxWaiting + 10 {
		running.Go(func() {
			_, err := h.enter(ctx)
			var delay *DelayError
			switch {
			case errors.As(err, &delay):
				refused.Add(1)
			case errors.Is(err, context.Canceled):
				left.Add(1)
			default:
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	deadline := time.After(10 * time.Second)
	for h.waiting.Load() != maxWaiting || refused.Load() != 10 {
		select {
		case <-deadline:
			t.Fatalf("%d wait, %d were refused", h.waiting.Load(), refused.Load())
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	running.Wait()
	if left.Load() != maxWaiting {
		t.Errorf("%d have left", left.Load())
	}
	for _, out := range leave {
		out()
	}
	if _, err := h.hash(t.Context(), "a password"); err != nil {
		t.Error(err)
	}
}
