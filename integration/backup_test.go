package integration

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// payers are concurrent callers of a paid tool. Each caller calls the tool again and
// again until the test stops the callers.
type payers struct {
	mu      sync.Mutex
	charges []string // the ids of the charges in the received results
	stop    chan struct{}
	ended   sync.WaitGroup
}

func startPayers(t *testing.T, g *harness.Gateway, secret string, n int) *payers {
	p := &payers{stop: make(chan struct{})}
	for caller := range n {
		p.ended.Go(func() {
			for call := 1; ; call++ {
				select {
				case <-p.stop:
					return
				default:
				}
				answer, err := g.Post(t.Context(), http.DefaultClient, secret, harness.ToolCall(caller*1_000_000+call, "get_forecast", `{"city":"Oslo"}`))
				if err != nil || answer.Result == nil || answer.Result.Meta.Charge == nil {
					t.Errorf("a paid call failed: %+v, %v", answer, err)
					return
				}
				p.mu.Lock()
				p.charges = append(p.charges, answer.Result.Meta.Charge.ID)
				p.mu.Unlock()
			}
		})
	}
	return p
}

// received returns the ids of the charges in the results that have been received so
// far.
func (p *payers) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.charges...)
}

func (p *payers) end() {
	close(p.stop)
	p.ended.Wait()
}

// TestBackupUnderLoadAndRestore checks promises 1, 5 and 6 of docs/promises.md across a
// backup and its restore. The backup is made while callers pay. The backup contains the
// charge of every result that was received before the backup began. It contains no
// charge for a call that the server did not run. After a restore to a new location the
// books balance. All keys are disabled until they are enabled again. This includes a
// key that was deleted after the backup was made.
func TestBackupUnderLoadAndRestore(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	site := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01")
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "1000.00")
	lost := g.NewKey(t, "alice", "--name", "lost")
	backup := filepath.Join(t.TempDir(), "backup.db")

	load := startPayers(t, g, key.Secret, 16)
	harness.Eventually(t, "calls before the backup", func() error {
		if len(load.received()) < 50 {
			return errNotYet
		}
		return nil
	})
	before := load.received()
	g.CLI(t, nil, "backup", backup)
	after := len(load.received())
	load.end()
	g.CLI(t, nil, "key", "delete", lost.ID)
	made := map[string]bool{}
	for _, c := range g.Charges(t, "alice") {
		made[c.ID] = true
	}
	t.Logf("%d results before the backup, %d when it was done, %d charges in all", len(before), after, len(made))

	place := binaries.StartGateway(t, site)
	place.Stop(t)
	if err := os.RemoveAll(place.Data()); err != nil {
		t.Fatal(err)
	}
	var restored struct {
		Transactions int64 `json:"transactions"`
		Disabled     int64 `json:"keys_disabled"`
		Kept         string
	}
	place.CLI(t, &restored, "restore", backup, "--config", "Caddyfile", "--adapter", "caddyfile")
	if restored.Disabled != 2 || restored.Transactions < int64(len(before)) {
		t.Errorf("restored %+v", restored)
	}
	place.Start(t)
	place.VerifyLedger(t)
	charges := place.Charges(t, "alice")
	has := map[string]bool{}
	for _, c := range charges {
		if has[c.ID] = true; !made[c.ID] {
			t.Errorf("charge %s is in the backup, but the server did not run its call", c.ID)
		}
	}
	for _, id := range before {
		if !has[id] {
			t.Errorf("charge %s was acknowledged before the backup, but is not in it", id)
		}
	}
	a := place.Account(t, "alice")
	if want := 1000*ledger.Unit - ledger.Unit/100*ledger.Amount(len(charges)); a.Balance != want || a.Reserved != 0 {
		t.Errorf("balance %s, reserved %s; want %s, 0.00", a.Balance, a.Reserved, want)
	}

	call := harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)
	dead := func(what, secret string) {
		t.Helper()
		if answer := post(t, place, secret, call); answer.Status != http.StatusUnauthorized || answer.Code() != "TOKEN_INVALID" {
			t.Errorf("%s: status %d: %s", what, answer.Status, answer.Body)
		}
	}
	dead("a key of the backup", key.Secret)
	dead("a key that was deleted later", lost.Secret)
	place.CLI(t, nil, "key", "enable", key.ID)
	if answer := post(t, place, key.Secret, call); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Errorf("after key enable: %s", answer.Body)
	}
	dead("a key that was deleted later, and not enabled", lost.Secret)
	place.VerifyLedger(t)
}

// percentage matches the text of a progress bar.
var percentage = regexp.MustCompile(`(verifying|exporting|copying|receiving|migrating) +([0-9]+)%`)

// onTerminal runs a command with a terminal as its standard error. It returns
// the terminal's output and the standard output.
func onTerminal(t *testing.T, g *harness.Gateway, args ...string) (shown, printed string) {
	t.Helper()
	terminal, end, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := pty.Setsize(end, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binaries.Farebox, append([]string{"farebox"}, args...)...)
	cmd.Env = append(os.Environ(), g.Environment()...)
	cmd.Dir = g.Dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, end
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = end.Close() // the command has its own copy of the descriptor
	var text bytes.Buffer
	_, _ = io.Copy(&text, terminal) // fails after the command has closed the terminal
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text.String())
	}
	return text.String(), out.String()
}

// longBooks adds n transactions to the store of a stopped gateway.
func longBooks(t *testing.T, g *harness.Gateway, n int) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(g.Data(), "farebox.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`WITH RECURSIVE i (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?)
		INSERT INTO txn (seq, id, kind, debtor, creditor, amount, test, at, prev_debtor, prev_creditor, reason)
		SELECT x, randomblob(16), 2, 1, (SELECT n FROM account WHERE name = 'alice'), 1, 0, 1, x - 1, x - 1, 'test' FROM i`, n)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestProgress checks that long-running commands show their progress on a terminal,
// both through the running server and directly on the store. With --json, or without a
// terminal on standard error, they show no progress.
func TestProgress(t *testing.T) {
	g := binaries.StartGateway(t, harness.Site("http://127.0.0.1:1", "server weather", "provider acme", "free list_cities"))
	g.CLI(t, nil, "account", "create", "alice")
	g.Stop(t)
	n := 60_000
	if harness.RaceDetector {
		n = 6_000
	}
	longBooks(t, g, n)
	g.Start(t)
	offline := []string{"--offline", "--config", "Caddyfile", "--adapter", "caddyfile"}
	check := func(part string, least int, args ...string) {
		t.Helper()
		shown, printed := onTerminal(t, g, args...)
		steps := map[string]bool{}
		for _, found := range percentage.FindAllStringSubmatch(shown, -1) {
			if found[1] == part {
				steps[found[2]] = true
			}
		}
		if len(steps) < least {
			t.Errorf("%v showed %d steps of %s:\n%q", args, len(steps), part, shown)
		}
		if percentage.MatchString(printed) || printed == "" {
			t.Errorf("%v printed %.200q", args, printed)
		}
		if shown, _ := onTerminal(t, g, append(args, "--json")...); percentage.MatchString(shown) {
			t.Errorf("%v --json showed %q", args, shown)
		}
	}
	check("verifying", 2, "ledger", "verify")
	check("exporting", 2, "ledger", "export")
	check("copying", 1, "backup", "backup.db", "--force")
	check("receiving", 1, "backup", "backup.db", "--force")
	if _, err := g.Command("ledger", "verify"); err != nil {
		t.Error(err)
	}
	cmd := exec.Command(binaries.Farebox, "farebox", "ledger", "verify")
	cmd.Env = append(os.Environ(), g.Environment()...)
	if said, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(said), fmt.Sprintf("The books balance: %d transactions", n)) {
		t.Errorf("without a terminal: %q, %v", said, err)
	}
	g.Stop(t)
	check("verifying", 2, append([]string{"ledger", "verify"}, offline...)...)
	check("exporting", 2, append([]string{"ledger", "export"}, offline...)...)
	check("copying", 1, append([]string{"backup", "backup.db", "--force"}, offline...)...)

	if err := os.WriteFile(filepath.Join(g.Dir, "fresh.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := []byte(`{"apps": {"farebox": {"store": {"path": "fresh.db"}}}}`)
	if err := os.WriteFile(filepath.Join(g.Dir, "fresh.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if shown, printed := onTerminal(t, g, "migrate", "--config", "fresh.json"); !percentage.MatchString(shown) || !strings.Contains(printed, "from schema version 0 to ") {
		t.Errorf("migrate showed %q and printed %q", shown, printed)
	}
}
