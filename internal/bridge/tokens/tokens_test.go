package tokens

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const server = "https://mcp.example.com:8443/mcp?k=secret"

// ring is a keyring in memory. If failing is set, it refuses everything.
type ring struct {
	secrets map[string]string
	failing bool
}

var errRing = errors.New("locked")

func (r *ring) Get(name string) (string, error) {
	if r.failing {
		return "", errRing
	}
	secret, ok := r.secrets[name]
	if !ok {
		return "", ErrNotFound
	}
	return secret, nil
}

func (r *ring) Set(name, secret string) error {
	if r.failing {
		return errRing
	}
	r.secrets[name] = secret
	return nil
}

func (r *ring) Delete(name string) error {
	if r.failing {
		return errRing
	}
	delete(r.secrets, name)
	return nil
}

func grantOf(token string) *Grant {
	return &Grant{Server: server, ID: "one", AccessToken: token, RefreshToken: "refresh-" + token, Scopes: []string{"a"}}
}

func mustSave(t *testing.T, s *Store, g *Grant) string {
	t.Helper()
	place, err := s.Save(g)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

func mustLoad(t *testing.T, s *Store, want string) {
	t.Helper()
	g, err := s.Load(server)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if g != nil {
		got = g.AccessToken
	}
	if got != want {
		t.Errorf("loaded the token %q, want %q", got, want)
	}
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFileIsPrivate checks that, without a keyring, tokens are in a file that only its
// owner can read, in a directory for which the same holds, under a name that shows no
// secret in the URL. A file that others can read is refused.
func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "farebox", "connect")
	s := New(dir, nil)
	mustLoad(t, s, "")
	mustSave(t, s, grantOf("t1"))
	if place := mustSave(t, s, grantOf("t2")); !strings.Contains(place, dir) {
		t.Errorf("the place is %q", place)
	}
	mustLoad(t, s, "t2")
	found := filesIn(t, dir)
	if len(found) != 1 || strings.Contains(found[0], "secret") || !strings.Contains(found[0], "mcp.example.com-8443") {
		t.Fatalf("files %q", found)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for path, want := range map[string]os.FileMode{found[0]: 0o600, dir: 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o", path, info.Mode().Perm())
		}
	}
	if err := os.Chmod(found[0], 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(server); err == nil || !strings.Contains(err.Error(), "0640") || strings.Contains(err.Error(), "t2") {
		t.Errorf("an exposed file: %v", err)
	}
	if err := s.Delete(server); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, "")
}

// TestForeignFiles checks that a file is not used for another server, and that no error
// shows its text.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	s := New(t.TempDir(), nil)
	mustSave(t, s, grantOf("t1"))
	file := filesIn(t, s.dir)[0]
	for name, text := range map[string]string{
		"another server": `{"server":"https://other.example.com/","access_token":"s3cret"}`,
		"no JSON":        `s3cret`,
		"no token":       `{"server":"` + server + `"}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := s.Load(server); g != nil || err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}

// TestKeyring checks that a keyring is used where it answers, that a file takes its place
// where it does not, and that there is one place at a time: an old refresh token in the
// other place would end the grant.
func TestKeyring(t *testing.T) {
	t.Parallel()
	r := &ring{secrets: map[string]string{}}
	s := New(t.TempDir(), r)
	if place := mustSave(t, s, grantOf("t1")); place != "the keyring" || len(filesIn(t, s.dir)) != 0 {
		t.Errorf("saved in %s", place)
	}
	mustLoad(t, s, "t1")
	r.failing = true
	mustLoad(t, s, "")
	mustSave(t, s, grantOf("t2"))
	mustLoad(t, s, "t2")
	r.failing = false // the keyring has t1 again
	mustLoad(t, s, "t2")
	mustSave(t, s, grantOf("t3"))
	mustLoad(t, s, "t3")
	if len(r.secrets) != 0 || len(filesIn(t, s.dir)) != 1 {
		t.Errorf("%d secrets, files %q", len(r.secrets), filesIn(t, s.dir))
	}
	if err := s.Delete(server); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, "")
	mustSave(t, s, grantOf("t4"))
	if len(r.secrets) != 1 {
		t.Errorf("%d secrets after a new sign-in", len(r.secrets))
	}
}

// silentRing never answers.
type silentRing struct{ ring }

func (*silentRing) Get(string) (string, error) { select {} } // as a prompt that nobody sees

// TestSilentKeyring checks that a keyring that waits for a password is given up after a
// bounded time, and is not asked again.
func TestSilentKeyring(t *testing.T) {
	t.Parallel()
	b := &bounded{keyring: &silentRing{}, most: time.Millisecond}
	if _, err := b.Get(server); !errors.Is(err, errSilent) {
		t.Errorf("got %v", err)
	}
	if err := b.Set(server, "x"); !errors.Is(err, errSilent) {
		t.Errorf("then %v", err)
	}
}

// TestHasKeyring checks that no session bus is started only for a question.
func TestHasKeyring(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		system, bus string
		socket      bool
		want        bool
	}{
		{"linux", "", false, false}, {"linux", "", true, true}, {"linux", "unix:path=/x", false, true},
		{"darwin", "", false, true}, {"windows", "", false, true},
	} {
		environment := func(name string) string {
			return map[string]string{"DBUS_SESSION_BUS_ADDRESS": test.bus, "XDG_RUNTIME_DIR": "/run/user/7"}[name]
		}
		exists := func(file string) bool { return test.socket && filepath.ToSlash(file) == "/run/user/7/bus" }
		if got := hasKeyring(test.system, environment, exists); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}

// TestLock checks that one holder at a time has the lock of a server, that others learn
// that they wait, and that a wait ends with its context.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var group sync.WaitGroup
	var holders atomic.Int32
	for range 8 {
		group.Go(func() {
			unlock, err := New(dir, nil).Lock(t.Context(), server, func() {})
			if err != nil {
				t.Error(err)
				return
			}
			if holders.Add(1) != 1 {
				t.Error("there are two holders")
			}
			runtime.Gosched()
			holders.Add(-1)
			unlock()
		})
	}
	group.Wait()
	unlock, err := New(dir, nil).Lock(t.Context(), server, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := New(dir, nil).Lock(ctx, server, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was given up: %v", err)
	}
	if other, err := New(dir, nil).Lock(t.Context(), "https://other.example.com/", func() { t.Error("another server waits") }); err == nil {
		other()
	}
}

// TestAnswerTime checks the real bound of a keyring's answer.
func TestAnswerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bounded{keyring: slowRing{}, most: answerTime}
		if got, err := b.Get(server); err != nil || got != "late" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// slowRing answers just in time.
type slowRing struct{}

func (slowRing) Get(string) (string, error) {
	time.Sleep(answerTime - time.Second)
	return "late", nil
}
func (slowRing) Set(string, string) error { return nil }
func (slowRing) Delete(string) error      { return nil }
