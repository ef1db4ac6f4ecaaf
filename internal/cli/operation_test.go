package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// These are the inputs and outputs of made-up operations. The operations are
// declared in the same way as those of package ops, and only in this test.
type (
	newNote struct {
		Text   string         `json:"text"`
		Tags   []string       `json:"tags,omitempty" doc:"Words to find it by"`
		Worth  *ledger.Amount `json:"worth,omitempty" doc:"Its value"`
		Pinned bool           `json:"pinned,omitempty" doc:"Keep it at the top"`
		Rank   int64          `json:"rank" doc:"Its place"`
	}
	noteView struct {
		newNote
		Account   string     `json:"account"`
		WrittenAt time.Time  `json:"written_at"`
		ReadAt    *time.Time `json:"read_at"`
	}
	addNote struct {
		Ref  string `path:"ref" doc:"The account"`
		Body newNote
	}
	listNotes struct {
		Like string `query:"like" doc:"Only notes with this text"`
		ops.Page
	}
	notes struct{ all []noteView }
)

var madeUp = []ops.Op[*notes]{
	ops.Define(ops.Operation{
		ID: "note.add", Method: http.MethodPost, Path: "/accounts/{ref}/notes", Needs: identity.ManageAccounts, Tag: "notes",
		Summary: "Add a note to an account", Command: "note add <account> <text>", Status: http.StatusCreated,
	}, func(_ context.Context, n *notes, _ *identity.Principal, in *addNote) (noteView, error) {
		n.all = append(n.all, noteView{newNote: in.Body, Account: in.Ref, WrittenAt: time.Unix(1_800_000_000, 0).UTC()})
		return n.all[len(n.all)-1], nil
	}),
	ops.Define(ops.Operation{
		ID: "note.list", Method: http.MethodGet, Path: "/notes", Needs: identity.View, Tag: "notes",
		Summary: "List notes", Command: "note list",
	}, func(_ context.Context, n *notes, _ *identity.Principal, in *listNotes) (list admin.List[noteView], err error) {
		if in.Like == "nothing" {
			return list, &admin.Error{Code: admin.NotFound, Message: "there is no such note"}
		}
		at := len(in.After) // each page has one item, and the length of the cursor is the index of this item
		if list.Items = n.all[at : at+1]; at+1 < len(n.all) {
			list.Next = in.After + "x"
		}
		return list, nil
	}),
}

// exitCode is the error that carries a command's exit code.
type exitCode int

func (exitCode) Error() string { return "exit" }

// runMadeUp runs a command line against the admin endpoint at the given URL. The
// commands are those of package ops and those of the made-up operations.
func runMadeUp(t *testing.T, endpoint string, words ...string) (stdout, stderr string, exit int) {
	t.Helper()
	host := testHost()
	host.ExitError = func(code int) error { return exitCode(code) }
	root := &cobra.Command{Use: "farebox"}
	addTo(root, host, slices.Concat(ops.All(), ops.Describe(madeUp)))
	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(append(words, "--address", strings.TrimPrefix(endpoint, "http://")))
	err := root.Execute()
	var code exitCode
	if err != nil && !errors.As(err, &code) {
		t.Errorf("%q: %v", words, err)
	}
	return out.String(), errOut.String(), int(code)
}

// TestMadeUpOperation checks that an operation needs only one declaration, in the
// table. With it, the operation is a command, a path of the admin endpoint and of
// the API, and a part of the OpenAPI document.
func TestMadeUpOperation(t *testing.T) {
	n := new(notes)
	operator := identity.As{Subject: "test", Rights: identity.Operator}
	endpoint := ops.NewAdminEndpoint(operator, slog.New(slog.DiscardHandler))
	ops.Register(endpoint, ops.Always(n), madeUp)
	server := httptest.NewServer(endpoint)
	defer server.Close()

	for _, c := range []struct {
		words  []string
		stdout string // the whole text that the command must print to standard output
		stderr string // a text that standard error must contain; "" if standard error must be empty
		exit   int
	}{
		{[]string{"note", "add", "alice", "hello world", "--tag", "a", "--tag", "b", "--worth", "1.5"}, `text        hello world
tags        a b
worth       1.50
pinned      false
rank        0
account     alice
written at  2027-01-15T08:00:00Z
read at     -
`, "", 0},
		{[]string{"note", "add", "a/b", "2", "--pinned", "--rank", "7", "--json"}, `{
  "text": "2",
  "pinned": true,
  "rank": 7,
  "account": "a/b",
  "written_at": "2027-01-15T08:00:00Z",
  "read_at": null
}
`, "", 0},
		{[]string{"note", "list"}, `TEXT         TAGS  WORTH  PINNED  RANK  ACCOUNT  WRITTEN AT            READ AT
hello world  a b   1.50   false   0     alice    2027-01-15T08:00:00Z  -
2            -     -      true    7     a/b      2027-01-15T08:00:00Z  -
`, "", 0},
		{[]string{"note", "list", "--limit", "1"}, `TEXT         TAGS  WORTH  PINNED  RANK  ACCOUNT  WRITTEN AT            READ AT
hello world  a b   1.50   false   0     alice    2027-01-15T08:00:00Z  -
`, "There are more than these 1", 0},
		{[]string{"note", "list", "--like", "nothing"}, "", "there is no such note", exitNotFound},
		{[]string{"note", "add", "alice"}, "", "<text> is missing, usage: farebox note add <account> <text> [flags]", exitUsage},
		{[]string{"note", "add", "alice", "x", "--rank", "high"}, "", `--rank: "high" is not a whole number`, exitUsage},
		{[]string{"note", "add", "alice", "x", "--worth", "1,5"}, "", `--worth: "1,5" is not an amount`, exitUsage},
	} {
		stdout, stderr, exit := runMadeUp(t, server.URL, c.words...)
		if stdout != c.stdout || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" || exit != c.exit {
			t.Errorf("%q: exit %d\n%s\n%s\nwant exit %d\n%s\n%s", c.words, exit, stdout, stderr, c.exit, c.stdout, c.stderr)
		}
	}
	help, _, _ := runMadeUp(t, server.URL, "note", "add", "--help")
	for _, part := range []string{"Add a note to an account", "note add <account> <text>", "--tag stringArray", "Words to find it by; may be repeated", "--rank string", "Its place (required)"} {
		if !strings.Contains(help, part) {
			t.Errorf("the help has no %q:\n%s", part, help)
		}
	}

	api := ops.NewMount(ops.MountOptions{Base: "/api/v1", Auth: operator, Logger: slog.New(slog.DiscardHandler)})
	ops.Register(api, ops.Always(n), ops.ForKeys(madeUp))
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/notes", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "hello world") {
		t.Errorf("the API answers %d %s", w.Code, w.Body)
	}
	document, err := api.Document()
	if err != nil || !bytes.Contains(document, []byte("/accounts/{ref}/notes")) || !bytes.Contains(document, []byte(`"note.add"`)) {
		t.Errorf("%v: the document lacks the operation:\n%s", err, document)
	}
}

// TestEveryOperationHasACommand checks that each operation in the table has the command
// that it names. An operation that names no command must be a step of another command,
// or must do the work of a command in the background.
func TestEveryOperationHasACommand(t *testing.T) {
	steps := map[string]bool{
		ops.SumCharges.ID: true, ops.ShowArchive.ID: true, ops.ArchivePart.ID: true,
		ops.StartVerification.ID: true, ops.ShowVerification.ID: true, // the command "ledger verify" waits for the same verification
	}
	root := &cobra.Command{Use: "farebox"}
	AddTo(root, testHost())
	for _, o := range ops.All() {
		if o.Command == "" {
			if !steps[o.ID] {
				t.Errorf("%s has no command", o.ID)
			}
			continue
		}
		words, arguments := splitCommand(o.Command)
		cmd, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 || cmd == root {
			t.Errorf("%s: there is no command %q", o.ID, words)
			continue
		}
		if want := strings.Join(append(words[len(words)-1:], arguments...), " "); cmd.Use != want {
			t.Errorf("%s: the command's usage is %q, the table has %q", o.ID, cmd.Use, want)
		}
	}
	known := func(id string) bool {
		return slices.ContainsFunc(ops.All(), func(o ops.Operation) bool { return o.ID == id })
	}
	for id := range handwritten {
		if _, styled := styles[id]; styled || !known(id) {
			t.Errorf("%s is handwritten: known: %t, styled: %t", id, known(id), styled)
		}
	}
	for id := range styles {
		if !known(id) {
			t.Errorf("%s has a style and is not in the table", id)
		}
	}
}

// TestPathOf checks that path parameters are escaped, so that a name cannot lead to
// another operation.
func TestPathOf(t *testing.T) {
	if got := pathOf(&ops.CreditAccount.Operation, "../keys?x"); got != "/accounts/..%2Fkeys%3Fx/credits" {
		t.Errorf("got %s", got)
	}
}
