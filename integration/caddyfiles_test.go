package integration

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCaddyfiles: every Caddyfile of the tree, and every block of a document
// that is marked as one, is valid, adapts to JSON without a warning, and is
// formatted as "caddy fmt" does it. Validating one writes nothing. (A piece of
// a Caddyfile in a document must not be marked as a whole one. Those
// of config/scopes are parts, for the block of scopes.)
func TestCaddyfiles(t *testing.T) {
	t.Parallel()
	files := caddyfiles(t)
	if _, ok := files["Caddyfile"]; !ok {
		t.Errorf("the Caddyfile of the root is not among those found")
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			home, work := t.TempDir(), t.TempDir()
			write := func(text string) string {
				file := filepath.Join(home, "Caddyfile")
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
			place := filepath.Join(binaries.Root, name) // a file stays there: what it imports is found from it
			if strings.Contains(name, " block ") {
				place = write(string(text))
			}
			file := place
			if filepath.Dir(name) == filepath.Join("config", "scopes") { // a part of a Caddyfile
				file = write("{\n\tfarebox {\n\t\timport " + place + "\n\t}\n}\n")
			}
			caddy := func(args ...string) (stdout, stderr []byte) {
				t.Helper()
				cmd := exec.Command(binaries.Farebox, args...)
				cmd.Dir = work
				cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "GORACE=atexit_sleep_ms=0",
					"FAREBOX_GATEWAY_KEY=sk_live_none") // the documents name it
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil {
					t.Errorf("caddy %s: %v\n%s", strings.Join(args, " "), err, errs.Bytes())
				}
				return out.Bytes(), errs.Bytes()
			}
			caddy("validate", "--config", file, "--adapter", "caddyfile")
			if entries, err := os.ReadDir(work); err != nil || len(entries) > 0 {
				t.Errorf("caddy validate wrote %v, %v", entries, err)
			}
			adapted, warnings := caddy("adapt", "--config", file, "--adapter", "caddyfile")
			if !json.Valid(adapted) {
				t.Errorf("caddy adapt printed %q", adapted)
			}
			if bytes.Contains(warnings, []byte(`"warn"`)) || bytes.Contains(warnings, []byte("WARN")) {
				t.Errorf("caddy adapt warned:\n%s", warnings)
			}
			if formatted, _ := caddy("fmt", place); !bytes.Equal(formatted, text) {
				t.Errorf("not formatted; caddy fmt makes it\n%s", formatted)
			}
		})
	}
}

// caddyfiles finds the Caddyfiles of the tree, by their path.
func caddyfiles(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(binaries.Root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin" || name == "data" || name == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(binaries.Root, path)
		if err != nil {
			return err
		}
		isCaddyfile := strings.Contains(name, "Caddyfile") || strings.HasSuffix(name, ".caddyfile")
		if !isCaddyfile && filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if isCaddyfile {
			found[relative] = text
			return nil
		}
		for i, block := range blocks(string(text)) {
			found[relative+" block "+strconv.Itoa(i+1)] = []byte(block)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// blocks returns what stands in a document's fenced blocks of Caddyfile.
func blocks(document string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(document, "```caddyfile\n")
		if !ok {
			return found
		}
		block, after, _ := strings.Cut(rest, "```")
		found = append(found, block)
		document = after
	}
}
