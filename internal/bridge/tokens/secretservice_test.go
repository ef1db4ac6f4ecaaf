package tokens

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// insideBus is the variable by which TestSecretService starts itself on a bus of its own.
const insideBus = "FAREBOX_TEST_SECRET_SERVICE"

// TestSecretService checks the store at a real Secret Service, that of GNOME, on a session
// bus of its own. It is skipped on systems without these programs.
func TestSecretService(t *testing.T) {
	if os.Getenv(insideBus) != "" {
		atSecretService(t)
		return
	}
	for _, program := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	home := t.TempDir()
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c",
		`printf password | gnome-keyring-daemon --daemonize --unlock --components=secrets >&2 && exec "$0" -test.run '^TestSecretService$' -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), insideBus+"=1", "HOME="+home, "XDG_DATA_HOME="+home, "XDG_RUNTIME_DIR="+home)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSecretService") {
		t.Errorf("%v\n%s", err, out)
	}
}

func atSecretService(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "connect")
	s := New(dir, System())
	mustLoad(t, s, "")
	long := grantOf(strings.Repeat("t", 8000))
	for _, g := range []*Grant{grantOf("t1"), grantOf("t2"), long} {
		if place := mustSave(t, s, g); place != "the keyring" {
			t.Errorf("saved in %s", place)
		}
		mustLoad(t, New(dir, System()), g.AccessToken)
	}
	if err := s.Delete(server); err != nil {
		t.Error(err)
	}
	mustLoad(t, s, "")
	if len(filesIn(t, dir)) != 0 {
		t.Error("there is a file")
	}
}
