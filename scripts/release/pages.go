package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// pages are the files that the binary generates about its own commands.
type pages struct {
	man         []file            // the compressed man pages, sorted by name
	completions map[string][]byte // maps the name of a shell to its completion script
}

// writePages gets the man pages and the completions by running the binary for this
// platform.
func (r *release) writePages() (*pages, error) {
	p := &pages{completions: map[string][]byte{}}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := r.farebox("completion", shell)
		if err != nil {
			return nil, err
		}
		p.completions[shell] = script
	}
	dir := filepath.Join(r.work, "man")
	if _, err := r.farebox("manpage", "--directory", dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		if text, err = r.mended(text); err != nil {
			return nil, err
		}
		packed, err := compress(text)
		if err != nil {
			return nil, err
		}
		p.man = append(p.man, file{name: shortName(entry.Name()) + ".gz", content: packed, mode: 0o644})
	}
	if len(p.man) < 20 {
		return nil, fmt.Errorf("only %d man pages", len(p.man))
	}
	return p, nil
}

// farebox runs the binary for this platform and returns its standard output.
func (r *release) farebox(args ...string) ([]byte, error) {
	cmd := exec.Command(r.binary(host), args...)
	cmd.Dir = r.work
	cmd.Env = append(os.Environ(), "HOME="+r.work, "XDG_DATA_HOME="+r.work, "XDG_CONFIG_HOME="+r.work,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.at.Unix())) // the binary writes this date into the man pages
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("farebox %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// shortName returns the name of a man page without the second "farebox". In Caddy, the
// commands are called "farebox farebox account" and so on, but the binary also accepts
// them without the second "farebox". The page of "farebox farebox" itself keeps its
// name.
func shortName(name string) string {
	return strings.Replace(name, "farebox-farebox-", "farebox-", 1)
}

// mended corrects a man page of Caddy's generator. It puts Farebox's name into the
// page. It also restores the arguments in angle brackets, which the generator leaves
// out because it mistakes them for HTML.
func (r *release) mended(page []byte) ([]byte, error) {
	for _, sep := range []string{" ", "-", `\-`} {
		page = bytes.ReplaceAll(page, []byte("farebox"+sep+"farebox"+sep), []byte("farebox"+sep))
	}
	page = bytes.Replace(page, []byte(`.TH "Caddy"`), []byte(`.TH "FAREBOX"`), 1)
	page = bytes.ReplaceAll(page, []byte("$ caddy "), []byte("$ farebox "))
	found := synopsis.FindSubmatch(page)
	if found == nil {
		return nil, fmt.Errorf("a man page without a synopsis:\n%s", page)
	}
	if !lost.Match(found[1]) {
		return page, nil
	}
	words := strings.Fields(string(found[1]))[1:]
	if i := slices.IndexFunc(words, func(word string) bool { return strings.ContainsAny(word[:1], "-[|") }); i >= 0 {
		words = words[:i]
	}
	help, err := r.farebox(append(words, "--help")...)
	if err != nil {
		return nil, err
	}
	_, usage, _ := strings.Cut(string(help), "\nUsage:\n")
	usage, _, _ = strings.Cut(usage, "\n")
	usage = strings.ReplaceAll(strings.TrimSpace(usage), "-", `\-`)
	return bytes.Replace(page, found[1], []byte(usage), 1), nil
}

var (
	synopsis = regexp.MustCompile(`\.SH SYNOPSIS\n\\fB(.*)\\fP`)
	lost     = regexp.MustCompile(`  | \]|\[\]`) // matches a synopsis that lacks its arguments
)

// compress compresses the content with gzip. The gzip header contains no name and no
// time.
func compress(content []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
