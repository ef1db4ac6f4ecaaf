package people_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/people"
)

// TestSignIn checks that a person signs in by address and password. Each sign-in makes
// a new token and session, so that an attacker cannot plant a token before the sign-in
// (session fixation). A wrong address and a wrong password get the same error.
func TestSignIn(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	_, first := w.operatorPerson("a@example.com")
	in, second, err := w.SignIn(ctx, client(2), "A@example.com", good)
	w.ok(err)
	w.secret(second)
	if first == second || !strings.HasPrefix(second, people.SessionPrefix) || in.Session.Client != client(2) {
		t.Errorf("the session is %+v", in.Session)
	}
	w.signedIn(first)
	w.signedIn(second)
	for _, c := range [][2]string{{"a@example.com", better}, {"b@example.com", good}, {"nobody", good}, {"", ""}, {"a@example.com", ""}, {"a@example.com", strings.Repeat("x", 10_000)}} {
		_, token, err := w.SignIn(ctx, client(3), c[0], c[1])
		if !errors.Is(err, people.ErrCredentials) || token != "" {
			t.Errorf("%q: %q, %v", c, token, err)
		}
	}
	for _, token := range []string{"", "fbs_", first[:len(first)-1], first + "x", strings.ToUpper(first), "fbs_" + strings.Repeat("A", 43)} {
		w.ended(token)
	}
}

// TestDelays checks that after some failures each further attempt must wait longer than
// the one before, up to a bound. The delay of a person applies from every address, and
// the delay of an address applies to every person. All addresses of an IPv6 /64 count
// as one address. A success forgets the person's failures.
func TestDelays(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	w.operatorPerson("a@example.com")
	fail := func(c people.Client, email string) error {
		_, _, err := w.SignIn(ctx, c, email, "not the password")
		return err
	}
	for n := range 5 {
		w.want(fail(client(n), "a@example.com"), people.ErrCredentials)
	}
	var waits []time.Duration
	for n := range 8 {
		wait := w.wait(fail(client(10+n), "A@example.com"))
		waits = append(waits, wait)
		_, _, err := w.SignIn(ctx, client(50), "a@example.com", good)
		w.wait(err) // the wait applies even to the right password
		w.advance(wait)
		w.want(fail(client(20+n), "a@example.com"), people.ErrCredentials)
	}
	if !slices.IsSorted(waits) || waits[0] != time.Second || waits[3] != 8*time.Second || waits[7] != time.Minute {
		t.Errorf("the waits are %s", waits)
	}
	w.advance(time.Minute)
	_, _, err := w.SignIn(ctx, client(60), "a@example.com", good)
	w.ok(err)
	w.want(fail(client(61), "a@example.com"), people.ErrCredentials) // no delay: this address has no failures yet

	network := func(n int) people.Client {
		return people.Client{Address: netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1::%x", n+1))}
	}
	for n := range 20 {
		w.want(fail(network(n), fmt.Sprint("p", n, "@example.com")), people.ErrCredentials)
	}
	w.wait(fail(network(100), "q@example.com"))
	_, _, err = w.BeginSignIn(ctx, network(101))
	w.ok(err) // a sign-in by passkey has no delay, because a passkey cannot be guessed
	w.want(fail(people.Client{Address: netip.MustParseAddr("2001:db8:0:2::1")}, "q@example.com"), people.ErrCredentials)
	w.advance(time.Hour)
	w.want(fail(network(100), "q@example.com"), people.ErrCredentials) // the failures are forgotten
}

// TestPace checks that an address that begins too many ceremonies must wait, and that
// other addresses need not.
func TestPace(t *testing.T) {
	w := newWorld(t, people.Settings{})
	for range 60 {
		_, _, err := w.BeginSignIn(t.Context(), client(1))
		w.ok(err)
	}
	_, _, err := w.BeginSignIn(t.Context(), client(1))
	wait := w.wait(err)
	_, _, err = w.BeginSignIn(t.Context(), client(2))
	w.ok(err)
	w.advance(wait)
	_, _, err = w.BeginSignIn(t.Context(), client(1))
	w.ok(err)
}

// TestDelaysAtOnce checks that concurrent attempts cannot exceed the limit.
func TestDelaysAtOnce(t *testing.T) {
	w := newWorld(t, people.Settings{})
	w.operatorPerson("a@example.com")
	var running sync.WaitGroup
	judged := make(chan bool, 40)
	for n := range cap(judged) {
		running.Go(func() {
			_, _, err := w.SignIn(t.Context(), client(n), "a@example.com", "not the password")
			judged <- errors.Is(err, people.ErrCredentials)
		})
	}
	running.Wait()
	close(judged)
	count := 0
	for ok := range judged {
		if ok {
			count++
		}
	}
	if count != 5 {
		t.Errorf("%d guesses were judged", count)
	}
}

// TestSessionEnds checks that a session ends after its idle time, and after SessionLife
// even with requests. A reload with shorter times applies to existing sessions.
func TestSessionEnds(t *testing.T) {
	settings := people.Settings{Origin: origin, SessionIdle: time.Hour, SessionLife: 3 * time.Hour}
	w := newWorld(t, settings)
	_, idle := w.operatorPerson("a@example.com")
	_, used, err := w.SignIn(t.Context(), client(1), "a@example.com", good)
	w.ok(err)
	created := w.signedIn(used).Session.CreatedAt
	for range 3 {
		w.advance(59 * time.Minute)
		in := w.signedIn(used)
		if got := w.now().Sub(in.Session.SeenAt); got != 0 {
			t.Errorf("seen %s ago", got)
		}
		if in.Session.ExpiresAt.After(created.Add(3 * time.Hour)) {
			t.Errorf("it would end %s after its begin", in.Session.ExpiresAt.Sub(created))
		}
	}
	w.ended(idle)
	w.advance(4 * time.Minute)
	w.ended(used)

	_, token, err := w.SignIn(t.Context(), client(1), "a@example.com", good)
	w.ok(err)
	w.advance(10 * time.Minute)
	settings.SessionIdle = 5 * time.Minute
	w.ok(w.Configure(settings))
	w.ended(token)
	_, token, err = w.SignIn(t.Context(), client(1), "a@example.com", good)
	w.ok(err)
	w.advance(4 * time.Minute)
	w.signedIn(token)
	settings.SessionLife = 5 * time.Minute
	w.ok(w.Configure(settings))
	w.advance(2 * time.Minute)
	w.ended(token)
	list, err := w.Sessions(t.Context(), w.person("a@example.com").ID)
	w.ok(err)
	if len(list) != 0 {
		t.Errorf("listed %+v", list)
	}
}

// person returns the person with the id or e-mail address.
func (w *world) person(ref string) people.Person {
	w.Helper()
	p, err := w.Person(w.Context(), ref)
	w.ok(err)
	return p
}

// TestTouch checks that the time and the client of a session are written at most once a
// minute.
func TestTouch(t *testing.T) {
	w := newWorld(t, people.Settings{})
	_, token := w.operatorPerson("a@example.com")
	seen := w.signedIn(token).Session.SeenAt
	w.advance(50 * time.Second)
	in, err := w.Authenticate(t.Context(), client(9), token)
	w.ok(err)
	if !in.Session.SeenAt.Equal(seen) || in.Session.Client != client(1) {
		t.Errorf("the session is %+v", in.Session)
	}
	w.advance(15 * time.Second)
	in, err = w.Authenticate(t.Context(), people.Client{Address: netip.MustParseAddr("::ffff:198.51.100.9"), Agent: "Bro\x00wser\u202e/9" + strings.Repeat("é", 200)}, token)
	w.ok(err)
	if !in.Session.SeenAt.After(seen.Add(time.Minute)) || in.Session.Client.Address != client(9).Address ||
		!strings.HasPrefix(in.Session.Client.Agent, "Browser/9é") || len(in.Session.Client.Agent) > people.MaxAgent {
		t.Errorf("the session is %+v", in.Session)
	}
}

// TestEndSessions checks that a session that an operator or the person ends is refused
// at once on every node.
func TestEndSessions(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	other := w.node(people.Settings{})
	in, first := w.operatorPerson("a@example.com")
	var tokens []string
	for range 3 {
		_, token, err := other.SignIn(ctx, client(2), "a@example.com", good)
		w.ok(err)
		tokens = append(tokens, token)
	}
	list, err := w.Sessions(ctx, in.Person.ID)
	w.ok(err)
	if len(list) != 4 || list[3].ID != in.Session.ID {
		t.Fatalf("sessions %+v", list)
	}
	w.refused(w.EndSession(ctx, operator, "psn_other", list[0].ID), admin.NotFound)
	w.ok(w.EndSession(ctx, operator, in.Person.ID, list[0].ID))
	w.ended(tokens[2])
	w.refused(w.EndSession(ctx, operator, "", list[0].ID), admin.NotFound)
	w.ok(other.SignOut(ctx, client(2), tokens[1]))
	w.ended(tokens[1])
	w.ok(other.SignOut(ctx, client(2), tokens[1])) // signing out twice is no error
	n, err := other.EndSessions(ctx, operator, in.Person.ID, in.Session.ID)
	w.ok(err)
	w.ended(tokens[0])
	w.signedIn(first)
	if n != 1 {
		t.Errorf("%d sessions were ended", n)
	}
	for range people.MaxSessions + 5 {
		_, _, err := w.SignIn(ctx, client(2), "a@example.com", good)
		w.ok(err)
	}
	list, err = w.Sessions(ctx, in.Person.ID)
	w.ok(err)
	if len(list) != people.MaxSessions {
		t.Errorf("%d sessions", len(list))
	}
	w.ended(first)
}

// TestSetPassword checks that setting a new password needs the old password, ends the
// other sessions, and replaces the old password. A person without a password must have
// signed in less than FreshTime ago.
func TestSetPassword(t *testing.T) {
	w := newWorld(t, people.Settings{})
	ctx := t.Context()
	in, first := w.operatorPerson("a@example.com")
	_, other, err := w.SignIn(ctx, client(2), "a@example.com", good)
	w.ok(err)
	w.want(w.SetPassword(ctx, in, "wrong", better), people.ErrCredentials)
	var input *people.InputError
	if err := w.SetPassword(ctx, in, good, "short"); !errors.As(err, &input) || input.Field != "password" {
		t.Errorf("error %v", err)
	}
	w.ok(w.SetPassword(ctx, in, good, better))
	w.secret(better)
	w.signedIn(first)
	w.ended(other)
	_, _, err = w.SignIn(ctx, client(2), "a@example.com", good)
	w.want(err, people.ErrCredentials)
	_, _, err = w.SignIn(ctx, client(2), "a@example.com", better)
	w.ok(err)

	a := newAuthenticator(w)
	keyed, token, err := a.accept(w.invite(people.NewInvitation{Operator: true}), "b@example.com")
	w.ok(err)
	w.advance(people.FreshTime + time.Second)
	w.want(w.SetPassword(ctx, keyed, "", better), people.ErrStale)
	w.ok(w.SignOut(ctx, client(1), token))
	w.want(w.SetPassword(ctx, keyed, "", better), people.ErrSession)
	keyed, _, err = a.signIn()
	w.ok(err)
	w.ok(w.SetPassword(ctx, keyed, "", better))
	_, _, err = w.SignIn(ctx, client(2), "b@example.com", better)
	w.ok(err)
}

// TestRehash checks that a sign-in replaces a hash that was made at another cost, and
// that the password is accepted before and after the replacement.
func TestRehash(t *testing.T) {
	w := newWorld(t, people.Settings{})
	w.operatorPerson("a@example.com")
	w.Dear()
	for range 2 {
		_, _, err := w.SignIn(t.Context(), client(1), "a@example.com", good)
		w.ok(err)
	}
	w.Cheapen()
	_, _, err := w.SignIn(t.Context(), client(1), "a@example.com", better)
	w.want(err, people.ErrCredentials)
}
