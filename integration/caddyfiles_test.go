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

// TestCaddyfiles checks every Caddyfile in the repository, and every block of a
// document that is marked as a Caddyfile. Each is valid, adapts to JSON without a
// warning, and is formatted like the output of "caddy fmt". The validation writes no
// files. A block with only a fragment of a Caddyfile has another mark (see frames).
// The files in config/scopes are fragments for the scopes block.
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
			place := filepath.Join(binaries.Root, name) // the file stays in place so that its imports resolve
			if strings.Contains(name, " block ") {
				text = bytes.ReplaceAll(text, []byte("/var/log/farebox"), []byte(home)) // validating opens the log files, which must be in a directory of the test
				place = write(string(text))
			}
			file := place
			if filepath.Dir(name) == filepath.Join("config", "scopes") { // the files in this folder are fragments of a Caddyfile
				file = write("{\n\tfarebox {\n\t\timport " + place + "\n\t}\n}\n")
			}
			caddy := func(args ...string) (stdout, stderr []byte) {
				t.Helper()
				cmd := exec.Command(binaries.Farebox, args...)
				cmd.Dir = work
				cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "GORACE=atexit_sleep_ms=0",
					// Variables used in the documentation and examples. Validating opens no store.
					"FAREBOX_GATEWAY_KEY=sk_live_none", "UPSTREAM_TOKEN=secret", "NOTES_API_KEY=secret", "FAREBOX_DSN=postgres://farebox@localhost/farebox")
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

// caddyfiles returns the Caddyfiles in the repository by path.
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
		for kind, frame := range frames {
			for i, block := range blocksOf(string(text), kind) {
				found[relative+" "+kind+" block "+strconv.Itoa(i+1)] = []byte(framed(frame, block))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// frames are Caddyfiles that complete the fragments in documents, by the mark of the
// fragment's block. The fragment takes the place of %s.
var frames = map[string]string{
	"farebox-global": "{\n\tfarebox {\n%s\t}\n}\n",
	"farebox": "http://localhost:8080 {\n\tfarebox_metadata\n\thandle /mcp {\n\t\tfarebox {\n\t\t\tserver weather\n\t\t\tprovider acme\n%s\t\t}\n" +
		"\t\treverse_proxy localhost:3001\n\t}\n}\n",
	"farebox-platform": "http://localhost:8080 {\n\thandle /api/* {\n\t\tfarebox_platform {\n%s\t\t}\n\t}\n}\n",
}

// framed puts a fragment into its frame and removes from the frame any option
// the fragment sets itself.
func framed(frame, piece string) string {
	before, after, _ := strings.Cut(frame, "%s")
	last := before[strings.LastIndexByte(strings.TrimSuffix(before, "\n"), '\n')+1:]
	indent := last[:len(last)-len(strings.TrimLeft(last, "\t"))]
	if strings.HasSuffix(last, "{\n") {
		indent += "\t"
	}
	for _, option := range []string{"server weather", "provider acme"} {
		if strings.HasPrefix(piece, option[:strings.IndexByte(option, ' ')+1]) {
			before = strings.Replace(before, indent+option+"\n", "", 1)
		}
	}
	var body strings.Builder
	for line := range strings.Lines(piece) {
		body.WriteString(indent + line)
	}
	return before + body.String() + after
}

// blocks returns a document's fenced blocks that are whole Caddyfiles.
func blocks(document string) []string { return blocksOf(document, "caddyfile") }

// blocksOf returns a document's fenced blocks with the given mark.
func blocksOf(document, kind string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(document, "```"+kind+"\n")
		if !ok {
			return found
		}
		block, after, _ := strings.Cut(rest, "```")
		found = append(found, block)
		document = after
	}
}
