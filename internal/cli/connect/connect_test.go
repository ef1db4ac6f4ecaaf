package connect

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestToken checks the sources of the token: the file comes before the environment, only
// its owner may read it, and no error shows the token.
func TestToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		env  string
		want string // the token, or a part of the error
	}{
		"private":  {" tok-en1\n", 0o600, "other", "tok-en1"},
		"readonly": {"tok-en1", 0o400, "", "tok-en1"},
		"group":    {"tok-en1", 0o640, "", "chmod 600"},
		"others":   {"tok-en1", 0o604, "", "chmod 600"},
		"empty":    {" \n", 0o600, "other", "no token in it"},
		"words":    {"Bearer tok-en1", 0o600, "", "without Bearer"},
		"long":     {strings.Repeat("x", maxToken+1), 0o600, "", "more than"},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, test.mode); err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS == "windows" && strings.Contains(test.want, "chmod") {
			continue
		}
		o := options{tokenFile: file}
		got, err := o.read("https://mcp.example.com/mcp", test.env)
		switch {
		case err == nil && got.Token != test.want:
			t.Errorf("%s: the token is %q", name, got.Token)
		case err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "tok-en1")):
			t.Errorf("%s: %v", name, err)
		}
	}
	var o options
	if got, err := o.read("https://mcp.example.com/mcp", " of-env "); err != nil || got.Token != "of-env" {
		t.Errorf("of the environment: %q, %v", got.Token, err)
	}
	if _, err := o.read("https://mcp.example.com/mcp", "two words"); err == nil || strings.Contains(err.Error(), "two words") {
		t.Errorf("a wrong one of the environment: %v", err)
	}
}
