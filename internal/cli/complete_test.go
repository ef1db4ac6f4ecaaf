package cli

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/keys"
)

// completed returns the completions that are offered after the words, and the text
// on standard error.
func completed(t *testing.T, words ...string) (offers []string, stderr string) {
	t.Helper()
	root := &cobra.Command{Use: "farebox"}
	AddTo(root, testHost())
	var out, errors bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errors)
	root.SetArgs(append([]string{"__complete"}, words...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := len(lines) - 1
	if lines[last] != ":4" { // :4 stands for the directive ShellCompDirectiveNoFileComp
		t.Errorf("%q: ends with %q", words, lines[last])
	}
	stderr = strings.TrimSpace(errors.String())
	return lines[:last], strings.TrimPrefix(stderr, "Completion ended with directive: ShellCompDirectiveNoFileComp")
}

// TestCompletion checks flags and arguments that take an account, key or server.
// They complete with the names and ids of the running server. If no server answers,
// nothing is offered.
func TestCompletion(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := map[string]string{
			"/farebox/accounts": `{"items":[{"id":"acct_1","name":"alice"},{"id":"acct_2","name":"auth0|5f"},{"id":"acct_3","name":"bob"}]}`,
			"/farebox/keys":     `{"items":[{"id":"key_1","account":"acct_1","account_name":"alice","name":"laptop","kind":"agent","state":"active"}]}`,
			"/farebox/servers":  `{"items":[{"name":"maps"},{"name":"weather"}]}`,
		}[r.URL.Path]
		if text == "" || r.Method != http.MethodGet {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		_, _ = io.WriteString(w, text)
	}))
	defer server.Close()
	at := "--address=" + strings.TrimPrefix(server.URL, "http://")
	const key = "key_1\talice laptop agent, active"
	for _, c := range []struct {
		words string
		want  []string
	}{
		{"account show a", []string{"alice\tacct_1", "auth0|5f\tacct_2"}},
		{"credit b", []string{"bob\tacct_3"}},
		{"credit bob ", nil}, // the next argument is an amount, for which there is no completion
		{"adjust bo", []string{"bob\tacct_3"}},
		{"key create --account al", []string{"alice\tacct_1"}},
		{"charge list --provider bob", []string{"bob\tacct_3"}},
		{"charge list --key ", []string{key}},
		{"key show ", []string{key}},
		{"key rotate key_1", []string{key}},
		{"key delete x", nil},
		{"key create --server w", []string{"weather"}},
		{"charge list --server ", []string{"maps", "weather"}},
		{"key list --kind ", keys.Kinds()},
		{"key create --kind ", keys.CreatedKinds()},
	} {
		got, stderr := completed(t, append([]string{at}, strings.Split(c.words, " ")...)...)
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") || stderr != "" {
			t.Errorf("%q: offered %q, stderr %q; want %q", c.words, got, stderr, c.want)
		}
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "--address=" + nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{gone, "--address=nonsense:x:y", "--offline"} {
		if got, stderr := completed(t, where, "key", "show", ""); len(got) > 0 || stderr != "" {
			t.Errorf("%s: offered %q, stderr %q", where, got, stderr)
		}
	}
}
