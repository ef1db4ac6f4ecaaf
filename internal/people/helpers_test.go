package people_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// origin is the origin of the console in the tests.
const origin = "https://console.example.com"

// good and better are passwords that are accepted.
const (
	good   = "violet-anchor-37"
	better = "copper/meadow/91"
)

var operator = admin.Actor{Name: "offline", From: "192.0.2.1"}

// world is a service on a real store, with a clock that only the test moves.
type world struct {
	*testing.T
	*people.Service
	store   *sqlitestore.Store
	admin   *admin.Service
	path    string
	begin   time.Time
	ahead   atomic.Int64
	logs    lockedBuffer
	secrets []string // texts that must not be in the store's files or in the log
}

func (w *world) now() time.Time {
	return w.begin.Add(time.Duration(w.ahead.Load()))
}

func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// lockedBuffer is a buffer that several loggers write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the buffer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// newWorld returns a world with the settings. At the end of the test it searches the
// files of the store and the log for every text that the test has passed to w.secret.
func newWorld(t *testing.T, settings people.Settings) *world {
	t.Helper()
	w := &world{T: t, path: filepath.Join(t.TempDir(), "farebox.db"), begin: clock.Now().UTC().Truncate(time.Microsecond)}
	var err error
	if w.store, err = sqlitestore.Open(t.Context(), sqlitestore.Options{Path: w.path, Now: w.now}); err != nil {
		t.Fatal(err)
	}
	w.admin = admin.New(w.store, nil, func() *admin.Settings { return new(admin.Settings) }, w.now)
	w.Service = w.node(settings)
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
		w.search()
	})
	return w
}

// node returns the service of another node that uses the same store.
func (w *world) node(settings people.Settings) *people.Service {
	w.Helper()
	s := people.New(peoplestore.New(w.store.Rows()), people.Options{
		Now: w.now, Accounts: w.admin, Logger: slog.New(slog.NewTextHandler(&w.logs, nil)),
	})
	s.Cheapen()
	if settings.Origin == "" {
		settings.Origin = origin
	}
	settings.Link = func(secret string) string { return origin + "/invitation#" + secret }
	w.ok(s.Configure(settings))
	return s
}

// search fails the test if a secret is in a file of the store or in the log.
func (w *world) search() {
	files, err := filepath.Glob(w.path + "*")
	w.ok(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		w.ok(err)
		for _, secret := range w.secrets {
			if bytes.Contains(text, []byte(secret)) || bytes.Contains(w.logs.b.Bytes(), []byte(secret)) {
				w.Errorf("the secret %q is in %s or in the log", secret, filepath.Base(file))
			}
		}
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("unexpected error: %v", err)
	}
}

func (w *world) want(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("error is %v, want %v", err, want)
	}
}

// refused checks that err is an *admin.Error with the code.
func (w *world) refused(err error, code admin.Code) {
	w.Helper()
	var refused *admin.Error
	if !errors.As(err, &refused) || refused.Code != code {
		w.Fatalf("error is %v, want the code %s", err, code)
	}
}

// secret returns the text unchanged. At the end of the test, search looks for the text
// in the store's files and in the log.
func (w *world) secret(text string) string {
	if text != "" {
		w.secrets = append(w.secrets, text)
	}
	return text
}

// client returns client number n. Each client has an address of its own.
func client(n int) people.Client {
	return people.Client{Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), Agent: fmt.Sprint("Browser/", n)}
}

// account creates an account and returns its id.
func (w *world) account(name string) string {
	w.Helper()
	a, err := w.admin.CreateAccount(w.Context(), operator, admin.NewAccount{Name: name})
	w.ok(err)
	return a.ID
}

// invite returns the secret of an invitation.
func (w *world) invite(n people.NewInvitation) string {
	w.Helper()
	_, secret, err := w.Invite(w.Context(), operator, n)
	w.ok(err)
	if !strings.HasPrefix(secret, people.InvitationPrefix) {
		w.Fatalf("the secret is %q", secret)
	}
	return w.secret(secret)
}

// member accepts an invitation by a password, and returns the new session and its
// token.
func (w *world) member(n people.NewInvitation, email string) (people.SignedIn, string) {
	w.Helper()
	in, token, err := w.AcceptWithPassword(w.Context(), client(1), w.invite(n), people.Profile{Email: email, Name: "Zoë"}, good)
	w.ok(err)
	w.secret(good)
	return in, w.secret(token)
}

// operatorPerson creates a person that is an operator, and returns its session and
// token.
func (w *world) operatorPerson(email string) (people.SignedIn, string) {
	w.Helper()
	return w.member(people.NewInvitation{Operator: true}, email)
}

// signedIn checks that a token is valid, and returns its session.
func (w *world) signedIn(token string) people.SignedIn {
	w.Helper()
	in, err := w.Authenticate(w.Context(), client(1), token)
	w.ok(err)
	return in
}

// ended checks that a token is not valid.
func (w *world) ended(token string) {
	w.Helper()
	_, err := w.Authenticate(w.Context(), client(1), token)
	w.want(err, people.ErrSession)
}

// actions returns the actions of the audit rows about a target, oldest first.
func (w *world) actions(target string) (all []string) {
	w.Helper()
	rows, _, err := w.store.AuditLog(w.Context(), ledger.AuditFilter{Target: target})
	w.ok(err)
	for _, row := range rows {
		all = append([]string{row.Action}, all...)
	}
	return all
}

// wait returns the wait in err. It fails the test if err is not a *DelayError.
func (w *world) wait(err error) time.Duration {
	w.Helper()
	var delay *people.DelayError
	if !errors.As(err, &delay) || delay.Wait <= 0 {
		w.Fatalf("error is %v, want a delay", err)
	}
	return delay.Wait
}
