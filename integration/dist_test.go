package integration

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// dist is the output of "make release" from this tree for Linux on this machine's
// architecture. The first call of built(t) makes these files.
var dist struct {
	once    sync.Once
	dir     string // the directory with the files of the release
	version string // the version as it is in the names of the files
	err     error
}

// built returns the directory of the release, and the version in the names of its
// files.
func built(t *testing.T) (dir, version string) {
	t.Helper()
	dist.once.Do(func() {
		dist.dir = filepath.Join(filepath.Dir(binaries.Farebox), "dist")
		if dist.err = release(binaries.Root, dist.dir); dist.err != nil {
			return
		}
		packages, err := filepath.Glob(filepath.Join(dist.dir, "farebox_*_linux_"+runtime.GOARCH+".deb"))
		if err != nil || len(packages) != 1 {
			dist.err = fmt.Errorf("packages %q, %w", packages, err)
			return
		}
		dist.version = strings.Split(filepath.Base(packages[0]), "_")[1]
	})
	if dist.err != nil {
		t.Fatal(dist.err)
	}
	return dist.dir, dist.version
}

// release runs the program of "make release" on the tree in the given directory.
func release(root, out string) error {
	program := filepath.Join(filepath.Dir(binaries.Farebox), "release")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = filepath.Join(binaries.Root, "scripts", "release")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building scripts/release: %w\n%s", err, said)
	}
	cmd = exec.Command(program, "-root", root, "-out", out, "-platforms", "linux/"+runtime.GOARCH)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("release: %w\n%s", err, said)
	}
	return nil
}

// asset returns the path of a file of the release by its suffix.
func asset(t *testing.T, suffix string) string {
	t.Helper()
	dir, version := built(t)
	return filepath.Join(dir, "farebox_"+version+"_linux_"+runtime.GOARCH+suffix)
}

// TestReleaseFiles checks that a release has each kind of file, and that the checksums
// match the files. An archive must have a static binary that names its version and
// commit, with its man pages and completions.
func TestReleaseFiles(t *testing.T) {
	t.Parallel()
	dir, version := built(t)
	for _, suffix := range []string{".tar.gz", ".deb", ".rpm", ".sbom", "_image.tar"} {
		if info, err := os.Stat(asset(t, suffix)); err != nil || info.Size() < 10_000 {
			t.Errorf("%s: %v, %v", suffix, info, err)
		}
	}
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, said)
	}
	sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		if err == nil && !entry.IsDir() && name != "SHA256SUMS" && !strings.Contains(string(sums), "  "+name+"\n") {
			t.Errorf("%s has no checksum", name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}

	unpacked := t.TempDir()
	if said, err := exec.Command("tar", "-xzf", asset(t, ".tar.gz"), "-C", unpacked).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, said)
	}
	for _, name := range []string{
		"LICENSE", "README.md", "CHANGELOG.md", "systemd/farebox.service", "systemd/Caddyfile", "systemd/farebox.env",
		"completions/farebox.bash", "completions/_farebox", "completions/farebox.fish", "man/farebox.8.gz", "man/farebox-account-create.8.gz",
	} {
		if _, err := os.Stat(filepath.Join(unpacked, name)); err != nil {
			t.Error(err)
		}
	}
	binary := filepath.Join(unpacked, "farebox")
	checkStatic(t, binary)
	said := runRelease(t, binary, "version")
	if want := "Farebox v" + version + " " + commitOf(t); !strings.HasPrefix(said, want) || !strings.Contains(said, "\nCaddy "+pinned(t, caddyPath)) {
		t.Errorf("farebox version printed %s; want %s", said, want)
	}
	checkManPage(t, filepath.Join(unpacked, "man", "farebox-account-show.8.gz"))
	checkBashCompletion(t, unpacked)
}

// commitOf returns the commit of this tree.
func commitOf(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("git", "-c", "safe.directory=*", "rev-parse", "HEAD")
	cmd.Dir = binaries.Root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git rev-parse: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// checkStatic checks that a binary needs no interpreter and no library.
func checkStatic(t *testing.T, binary string) {
	t.Helper()
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("%s needs libraries %q, %v", binary, libraries, err)
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s has an interpreter", binary)
	}
}

// checkManPage checks that the man page of "account show" has the short name of the
// command, and its argument.
func checkManPage(t *testing.T, file string) {
	t.Helper()
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	reader, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "FAREBOX" "8"`, "farebox account show <account> [flags]", "farebox-account(8)"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("%s lacks %q:\n%s", file, want, page)
		}
	}
}

// bashCompletion defines the functions that the completion script for bash calls.
// Two of them belong to the package bash-completion. The third, compopt, is a
// command of bash that works only while a user types.
const bashCompletion = `_get_comp_words_by_ref() {
	words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
}
__ltrim_colon_completions() { :; }
compopt() { :; }
`

// checkBashCompletion checks that bash completes Farebox's own commands as the first
// and as the second word of a command line.
func checkBashCompletion(t *testing.T, dir string) {
	t.Helper()
	for line, want := range map[string]string{"farebox acc": "account", "farebox account cr": "create", "farebox val": "validate"} {
		words := strings.Fields(line)
		script := bashCompletion + fmt.Sprintf(`PATH=%s:$PATH; . %s/completions/farebox.bash
			COMP_WORDS=(%s) COMP_CWORD=%d COMP_LINE=%q COMP_POINT=%d COMP_TYPE=9; __start_farebox; echo "${COMPREPLY[@]}"`,
			dir, dir, line, len(words)-1, line, len(line))
		cmd := exec.Command("bash", "-c", script)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s<TAB> offers %q, %v; want %s", line, out, err, want)
		}
	}
}

// TestReleaseBOM checks that the bill of materials is for this release, and lists the
// modules of the binary with their versions.
func TestReleaseBOM(t *testing.T) {
	t.Parallel()
	_, version := built(t)
	text, err := os.ReadFile(asset(t, ".sbom"))
	if err != nil {
		t.Fatal(err)
	}
	type component struct{ Name, Version, PURL string }
	var bom struct {
		Format     string `json:"bomFormat"`
		Metadata   struct{ Component component }
		Components []component
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	if main := bom.Metadata.Component; bom.Format != "CycloneDX" || main.Name != fareboxPath || main.Version != "v"+version {
		t.Errorf("%s of %+v", bom.Format, main)
	}
	versions := map[string]string{}
	for _, c := range bom.Components {
		versions[c.Name] = c.Version
	}
	for path, want := range dependenciesOf(t, binaries.Farebox) {
		if got, ok := versions[path]; ok && got != want {
			t.Errorf("%s %s; the binary of the other tests has %s", path, got, want)
		}
	}
	if versions[caddyPath] != pinned(t, caddyPath) || versions["std"] == "" {
		t.Errorf("Caddy %q and the standard library %q", versions[caddyPath], versions["std"])
	}
}

// TestReleaseIsReproducible checks that two builds of the same sources, in different
// directories, give the same bytes.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	first, _ := built(t)
	second, copied := filepath.Join(t.TempDir(), "dist"), filepath.Join(t.TempDir(), "copy")
	if said, err := exec.Command("git", "-c", "safe.directory=*", "clone", "--quiet", "--shared", binaries.Root, copied).CombinedOutput(); err != nil {
		t.Fatalf("git clone: %v\n%s", err, said)
	}
	copyChanges(t, copied)
	if err := release(copied, second); err != nil {
		t.Fatal(err)
	}
	read := func(dir string) string {
		sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(sums)
	}
	if a, b := read(first), read(second); a != b {
		t.Errorf("the first build:\n%s\nthe second:\n%s", a, b)
	}
}

// copyChanges copies the files of this tree that are not committed into a clone of the
// tree, so that both have the same content.
func copyChanges(t *testing.T, clone string) {
	t.Helper()
	keep := map[string]bool{}
	for _, file := range trackedFiles(t) {
		keep[file.Path()] = true
		content, err := os.ReadFile(filepath.Join(binaries.Root, file.Path()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := file.Lstat()
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(clone, file.Path())
		if now, err := os.ReadFile(to); err == nil && bytes.Equal(now, content) {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, info.Mode().Perm())); err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(clone, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if err == nil && !entry.IsDir() && !keep[strings.TrimPrefix(path, clone+"/")] {
			return os.Remove(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRPM checks with the program rpm that the RPM package is intact. Its files must
// have the same owners, modes and marks as the files of the Debian package, which
// TestDebianPackage installs.
func TestRPM(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is missing: \"make tools\" installs it")
	}
	rpm := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("rpm", append(args, "--dbpath", t.TempDir(), asset(t, ".rpm"))...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if said := rpm("--checksig", "--nosignature"); !strings.Contains(said, "digests OK") {
		t.Errorf("rpm --checksig: %s", said)
	}
	files := rpm("-qp", "--queryformat", `[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]`)
	for _, want := range []string{
		"/usr/bin/farebox -rwxr-xr-x root:root ", "/etc/farebox drwxr-xr-x root:root ",
		"/etc/farebox/Caddyfile -rw-r--r-- root:root cn", "/etc/farebox/farebox.env -rw------- root:root cn",
		"/usr/lib/systemd/system/farebox.service -rw-r--r-- root:root ", "/usr/share/man/man8/farebox-key-create.8.gz -rw-r--r-- root:root ",
		"/usr/share/zsh/site-functions/_farebox ",
	} {
		if !strings.Contains("\n"+files, "\n"+want) {
			t.Errorf("%q is not among\n%s", want, files)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(files), "\n") {
		if strings.HasPrefix(line, "/var") || strings.HasPrefix(line, "/run") {
			t.Errorf("the package owns %s, and would remove it", line)
		}
	}
	if scripts := rpm("-qp", "--scripts"); !strings.Contains(scripts, "useradd --system") {
		t.Errorf("its scripts:\n%s", scripts)
	}
}
