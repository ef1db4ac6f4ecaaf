package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// peopleShell runs commands with --offline, without a server.
type peopleShell struct {
	*testing.T
	path string
	host reach.Host
	in   reach.Installation
}

func newPeopleShell(t *testing.T) *peopleShell {
	s := &peopleShell{T: t, path: filepath.Join(t.TempDir(), "farebox.db"), host: testHost()}
	s.in = reach.Installation{
		Currency: "USD", Settings: new(admin.Settings), StoreFile: s.path, Connect: func() error { return nil },
		Open: func(ctx context.Context, log *slog.Logger) (reach.Store, error) {
			return sqlitestore.Open(ctx, sqlitestore.Options{Path: s.path, Logger: log})
		},
	}
	s.host.ReadConfig = func(string, string) ([]byte, error) { return []byte("{}"), nil }
	s.host.Installation = func([]byte) (*reach.Installation, error) { return &s.in, nil }
	return s
}

// run runs a command. It returns the output, and whether the command succeeded.
func (s *peopleShell) run(args ...string) (output string, ok bool) {
	s.Helper()
	var out bytes.Buffer
	root := &cobra.Command{Use: "farebox"}
	AddTo(root, s.host)
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append(args, "--offline"))
	err := root.ExecuteContext(s.Context())
	return out.String(), err == nil
}

// must runs a command that must succeed, and returns its output. The output must
// contain the given words.
func (s *peopleShell) must(words string, args ...string) string {
	s.Helper()
	output, ok := s.run(args...)
	if !ok || !strings.Contains(output, words) {
		s.Errorf("%q: %s", args, output)
	}
	return output
}

// fails runs a command that must fail. Its output must contain the given words.
func (s *peopleShell) fails(words string, args ...string) {
	s.Helper()
	if output, ok := s.run(args...); ok || !strings.Contains(output, words) {
		s.Errorf("%q: %s", args, output)
	}
}

// accept accepts an invitation as the console of a server would. No command may have
// the store open meanwhile.
func (s *peopleShell) accept(secret, email string) {
	s.Helper()
	store, err := sqlitestore.Open(s.Context(), sqlitestore.Options{Path: s.path})
	if err != nil {
		s.Fatal(err)
	}
	defer store.Close()
	accounts := admin.New(store, nil, func() *admin.Settings { return s.in.Settings }, func() time.Time { return clock.Now() })
	persons := engine.NewPeople(store, accounts, nil, slog.New(slog.DiscardHandler))
	if _, _, err := persons.AcceptWithPassword(s.Context(), people.Client{}, secret, people.Profile{Email: email}, "violet-anchor-37"); err != nil {
		s.Fatal(err)
	}
}

// TestPeopleByCommands checks that the commands invite, show, change and remove people
// with --offline, if the config has a console. A command that gets a secret in place of
// an id refuses it without repeating it.
func TestPeopleByCommands(t *testing.T) {
	s := newPeopleShell(t)
	s.must("acme", "account", "create", "acme")
	s.must("beta", "account", "create", "beta")
	s.fails("no console is configured", "console", "invite", "--operator")
	s.in.People = &people.Settings{Origin: "https://c.example.com", Link: func(secret string) string { return "https://c.example.com/#" + secret }}
	for _, args := range [][]string{{}, {"acme", "--operator"}, {"acme", "--person", "x"}, {"--operator", "--person", "x"}, {"acme", "beta"}} {
		s.fails("Error: ", append([]string{"console", "invite"}, args...)...)
	}
	output := s.must("https://c.example.com/#fbi_", "console", "invite", "acme", "--role", "owner", "--life", "2h")
	secret := regexp.MustCompile(`fbi_[\w-]+`).FindString(output)
	s.must("owner of acct_", "invitation", "list")
	s.accept(secret, "a@example.com")
	s.must("owner of acme", "person", "list")
	s.must("a@example.com", "person", "show", "a@example.com")
	s.fails("nothing to change: give --name, --email, --operator or --account", "person", "update", "a@example.com")
	s.fails("is not an account and a role", "person", "update", "a@example.com", "--account", "acme")
	s.must("operator, viewer of acme, owner of beta", "person", "update", "a@example.com", "--operator", "true", "--account", "acme=viewer", "--account", "beta=owner")
	s.must("rights        operator\n", "person", "update", "a@example.com", "--account", "")
	var p ops.PersonView
	if err := json.Unmarshal([]byte(s.must("", "person", "show", "a@example.com", "--json")), &p); err != nil {
		t.Fatal(err)
	}
	var sessions []ops.SessionView
	if err := json.Unmarshal([]byte(s.must("", "session", "list", p.ID, "--json")), &sessions); err != nil || len(sessions) != 1 {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	s.must("on all nodes", "session", "end", sessions[0].ID)
	s.must("new credentials of "+p.ID, "console", "invite", "--person", "a@example.com")
	var invitations []ops.InvitationView
	if err := json.Unmarshal([]byte(s.must("", "invitation", "list", "--json")), &invitations); err != nil || len(invitations) != 1 || invitations[0].Link != "" {
		t.Fatalf("invitations %+v, %v", invitations, err)
	}
	s.must("is withdrawn", "invitation", "withdraw", invitations[0].ID)
	for _, args := range [][]string{{"invitation", "withdraw", secret}, {"session", "end", secret}} {
		if output, ok := s.run(args...); ok || strings.Contains(output, secret) || !strings.Contains(output, "this is not the id") {
			t.Errorf("%q: %s", args, output)
		}
	}
	s.must("is disabled", "person", "disable", p.ID)
	s.must("is enabled", "person", "enable", p.ID)
	s.must("is removed", "person", "remove", "a@example.com")
	s.fails("there is no person", "person", "show", p.ID)
}
