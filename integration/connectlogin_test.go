package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// userDesk is a user's machine without a keyring: the programs on it share one place for
// tokens, and one person answers the pages that they ask for.
type userDesk struct {
	t      *testing.T
	home   string
	secret string // the agent key of the person

	// answer acts for the person when a program shows a page. The person allows it if
	// answer is nil.
	answer func(program *exec.Cmd, page string)

	mu    sync.Mutex
	notes strings.Builder
	pages int
}

func newUserDesk(t *testing.T, secret string) *userDesk {
	t.Helper()
	return &userDesk{t: t, home: t.TempDir(), secret: secret}
}

// command prepares "farebox connect" on this machine.
func (d *userDesk) command(args ...string) *exec.Cmd {
	cmd := command(d.t, "", binaries.Farebox, append([]string{"connect"}, args...)...)
	cmd.Env = append(cmd.Env, "HOME="+d.home, "XDG_CONFIG_HOME="+filepath.Join(d.home, "config"), "XDG_RUNTIME_DIR="+d.home, "DBUS_SESSION_BUS_ADDRESS=", "AGENT_TOKEN=")
	cmd.Stderr = d.watch(cmd)
	return cmd
}

// watch returns a writer for the notes of a program. The person answers their pages.
func (d *userDesk) watch(program *exec.Cmd) io.Writer {
	out, in := io.Pipe()
	d.t.Cleanup(func() { _ = in.Close() })
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.mu.Lock()
			fmt.Fprintln(&d.notes, lines.Text())
			_, page, asked := strings.Cut(lines.Text(), ": open ")
			if asked {
				d.pages++
			}
			d.mu.Unlock()
			switch {
			case asked && d.answer != nil:
				go d.answer(program, page)
			case asked:
				go d.allow(page)
			}
		}
	}()
	return in
}

// allow signs in with the agent key, allows the program, and lets the browser return to
// it.
func (d *userDesk) allow(page string) {
	b := newBrowser(d.t)
	p := b.submit(b.submit(b.open(page), map[string]string{"key": d.secret, "step": "key"}), map[string]string{"step": "allow"})
	if p.location == nil {
		d.t.Errorf("the browser was not sent to the program: %d\n%s", p.status, p.text)
		return
	}
	resp, err := http.Get(p.location.String())
	if err != nil {
		d.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.t.Errorf("the program answers the browser with %s", resp.Status)
	}
}

func (d *userDesk) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages
}

// stored is the part of a file with tokens that the tests read.
type stored struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// tokens returns the tokens in the only file of this machine, and checks that others
// cannot read it.
func (d *userDesk) tokens() (stored, error) {
	files, err := filepath.Glob(filepath.Join(d.home, "*", "farebox", "connect", "*.json"))
	if err != nil || len(files) != 1 {
		return stored{}, fmt.Errorf("there are %d files, %w", len(files), err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		return stored{}, err
	}
	if info.Mode().Perm() != 0o600 {
		d.t.Errorf("%s has the mode %o", files[0], info.Mode().Perm())
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return stored{}, err
	}
	var s stored
	return s, json.Unmarshal(text, &s)
}

// payForecast makes a paid call.
func payForecast(session *mcp.ClientSession, t *testing.T) error {
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}})
	if err == nil && result.IsError {
		err = fmt.Errorf("refused: %s", harness.Text(result))
	}
	return err
}

// TestConnectLogin checks that two bridges of one user, with no token, ask the person
// once, pay with the person's key, outlive the ends of their tokens without asking again
// and without spending each other's refresh tokens, and ask again after the grant was
// revoked. The tokens are in a file that only the user can read, and are shown nowhere.
func TestConnectLogin(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, ownIssuerSite(binaries.StartWeather(t, "-stateless"), "access 2s"))
	agent, _ := g.NewAgent(t, "agent", "10.00")
	d := newUserDesk(t, g.NewKey(t, agent.Name, "--scope", "cities.read").Secret)
	var sessions [2]*mcp.ClientSession
	var group sync.WaitGroup
	for i := range sessions {
		cmd := d.command(g.Endpoint(), "--no-browser")
		group.Go(func() { sessions[i] = connected(t, cmd, revisions[i]) })
	}
	group.Wait()
	if t.Failed() || d.asked() != 1 {
		t.Fatalf("the person was asked %d times\n%s", d.asked(), d.notes.String())
	}
	seen := map[string]bool{}
	calls := 0
	harness.Eventually(t, "three refreshes", func() error {
		var failed [len(sessions)]error
		for i, session := range sessions {
			group.Go(func() { failed[i] = payForecast(session, t) })
		}
		group.Wait()
		for _, err := range failed {
			if err != nil {
				t.Errorf("call %d: %v", calls, err)
			}
			calls++
		}
		s, err := d.tokens()
		if err != nil {
			return err
		}
		seen[s.Access], seen[s.Refresh] = true, true
		if len(seen) < 8 {
			return fmt.Errorf("%d tokens were seen", len(seen))
		}
		return nil
	})
	if n := len(g.Charges(t, agent.Name)); n != calls || d.asked() != 1 {
		t.Errorf("%d charges for %d calls; the person was asked %d times", n, calls, d.asked())
	}
	var grants []struct {
		ID    string     `json:"id"`
		Ended *time.Time `json:"revoked_at"`
	}
	g.CLI(t, &grants, "grant", "list", "--account", "agent")
	if len(grants) != 1 {
		t.Fatalf("%d grants", len(grants))
	}
	g.CLI(t, nil, "grant", "revoke", grants[0].ID)
	for _, session := range sessions {
		if err := payForecast(session, t); err != nil {
			t.Errorf("after the grant was revoked: %v", err)
		}
	}
	if d.asked() != 2 {
		t.Errorf("the person was asked %d times", d.asked())
	}
	s, err := d.tokens()
	if err != nil {
		t.Fatal(err)
	}
	seen[s.Access], seen[s.Refresh] = true, true
	for _, session := range sessions {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
	d.logOut(g, seen)
	g.VerifyLedger(t)
}

// logOut checks that a sign-out revokes and deletes the tokens, and that no note has
// shown one.
func (d *userDesk) logOut(g *harness.Gateway, seen map[string]bool) {
	d.t.Helper()
	if out, err := d.command("logout", g.Endpoint()).Output(); err != nil || !strings.Contains(string(out), "revoked and deleted") {
		d.t.Errorf("%s, %v\n%s", out, err, d.notes.String())
	}
	if _, err := d.tokens(); err == nil {
		d.t.Error("the tokens are still there")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for secret := range seen {
		if strings.Contains(d.notes.String(), secret) {
			d.t.Errorf("a note shows a token:\n%s", d.notes.String())
		}
	}
}

// TestConnectLoginAtTerminal checks the commands of a person at a terminal: a sign-in,
// which a later bridge uses without asking, and no sign-in where nothing is to sign in
// to.
func TestConnectLoginAtTerminal(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, ownIssuerSite(binaries.StartWeather(t, "-stateless")))
	agent, _ := g.NewAgent(t, "agent", "10.00")
	d := newUserDesk(t, g.NewKey(t, agent.Name, "--scope", "cities.read").Secret)
	out, err := d.command("login", g.Endpoint(), "--no-browser").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, d.notes.String())
	}
	mustContain(t, string(out), "Signed in. The tokens are in the file "+d.home)
	if err := payForecast(connected(t, d.command(g.Endpoint()), ""), t); err != nil || d.asked() != 1 {
		t.Errorf("%v; the person was asked %d times", err, d.asked())
	}
	out, err = d.command("login", g.Endpoint(), "--no-browser", "--json").Output()
	if err != nil || !strings.HasPrefix(string(out), `{"place":"the file `) || d.asked() != 2 {
		t.Errorf("again: %s, %v; the person was asked %d times", out, err, d.asked())
	}
	plain := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "price * 0.01"))
	if err := d.command("login", plain.Endpoint(), "--no-browser").Run(); err == nil || d.asked() != 2 {
		t.Errorf("a server without OAuth: %v", err)
	}
	g.VerifyLedger(t)
}
