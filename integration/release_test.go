package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	fareboxPath = "github.com/fareboxhq/farebox"
	caddyPath   = "github.com/caddyserver/caddy/v2"

	// releasePatience is the time limit for a build of all of Caddy with an empty
	// cache.
	releasePatience = 8 * time.Minute
)

// TestRelease publishes this tree as a version of the module, and builds Caddy with
// that version by the pinned xcaddy, as an operator would. The build has all modules,
// has the same version of each dependency as the binary of the other tests, and accepts
// the Caddyfile in the root of the tree.
func TestRelease(t *testing.T) { // not parallel: the build needs every core
	dir := t.TempDir()
	release := filepath.Join(dir, "caddy")
	version, caddyVersion := releaseVersion(t), pinned(t, caddyPath)
	proxy := publish(t, version)
	buildRelease(t, dir, proxy, caddyVersion, version, release)

	t.Run("has all modules", func(t *testing.T) {
		got, want := modulesOf(t, release), modulesOf(t, binaries.Farebox)
		for _, id := range []string{"farebox", "http.handlers.farebox", "admin.api.farebox"} {
			if !slices.Contains(got, id) {
				t.Errorf("module %s is not there", id)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("modules %q\nwant those of the tested binary: %q", got, want)
		}
	})
	t.Run("is made of the pinned versions", func(t *testing.T) {
		got, want := dependenciesOf(t, release), dependenciesOf(t, binaries.Farebox)
		if got[fareboxPath] != version || got[caddyPath] != caddyVersion {
			t.Errorf("farebox %s and caddy %s; want %s and %s", got[fareboxPath], got[caddyPath], version, caddyVersion)
		}
		delete(got, fareboxPath) // not a dependency but the main module of the tested binary
		for _, path := range slices.Sorted(maps.Keys(got)) {
			if tested, ok := want[path]; !ok || tested != got[path] {
				t.Errorf("%s %s; the tested binary has %q", path, got[path], tested)
			}
		}
	})
	t.Run("accepts the Caddyfile of the root", func(t *testing.T) {
		output := runRelease(t, release, "validate", "--adapter", "caddyfile", "--config", filepath.Join(binaries.Root, "Caddyfile"))
		if !strings.Contains(output, "Valid configuration") {
			t.Errorf("its output:\n%s", output)
		}
	})
	t.Run("has the commands", func(t *testing.T) {
		if output := runRelease(t, release, "farebox", "--help"); !strings.Contains(output, "Manages the accounts, keys and charges") {
			t.Errorf("its output:\n%s", output)
		}
	})
}

// releaseVersion returns a version that no other run uses, because the go
// command never looks again at a version that it has seen. The version is in
// lower case, because module caches escape capitals.
func releaseVersion(t *testing.T) string {
	version := "v0.0.1-test." + strings.ToLower(rand.Text())
	cache := goEnv(t, "GOMODCACHE")
	t.Cleanup(func() { forget(t, cache, version) })
	return version
}

// forget removes the version and its read-only files from the module cache.
func forget(t *testing.T, cache, version string) {
	downloads, err := filepath.Glob(filepath.Join(cache, "cache", "download", fareboxPath, "@v", version+".*"))
	if err != nil {
		t.Error(err)
	}
	source := filepath.Join(cache, fareboxPath+"@"+version)
	err = filepath.WalkDir(source, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	for _, path := range append(downloads, source) {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	}
}

// pinned returns the version of the module that go.mod requires.
func pinned(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, require := range file.Require {
		if require.Mod.Path == path {
			return require.Mod.Version
		}
	}
	t.Fatalf("go.mod does not require %s", path)
	return ""
}

// publish writes this tree as a version of the module into a directory with the
// layout of a module proxy (Go Modules Reference, "GOPROXY protocol"). It
// returns the URL of the directory. The version holds the files that git tracks
// or would track.
func publish(t *testing.T, version string) (proxy string) {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, fareboxPath, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := modzip.Create(&archive, module.Version{Path: fareboxPath, Version: version}, trackedFiles(t)); err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": clock.Now().UTC().Truncate(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(binaries.Root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"list": []byte(version + "\n"), version + ".info": info, version + ".mod": mod, version + ".zip": archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + filepath.ToSlash(dir)
}

// treeFile is a file of the tree for modzip.Create, which leaves out the files of
// nested modules.
type treeFile struct{ root, path string }

func (f treeFile) Path() string                 { return f.path }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.path)) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.path)) }

// trackedFiles returns the files that git tracks or would track.
func trackedFiles(t *testing.T) []modzip.File {
	t.Helper()
	// By default, git refuses a tree that belongs to another user than the one that
	// runs the tests. The setting safe.directory allows it.
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
	cmd.Dir = binaries.Root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v\n%s", err, stderr.Bytes())
	}
	var files []modzip.File
	for path := range strings.SplitSeq(strings.Trim(string(list), "\x00"), "\x00") {
		file := treeFile{binaries.Root, path}
		if _, err := file.Lstat(); err == nil { // a tracked file may have been removed without git
			files = append(files, file)
		}
	}
	return files
}

// buildRelease runs xcaddy as users do, except that this module comes from the module
// proxy at the given URL.
func buildRelease(t *testing.T, dir, proxy, caddyVersion, version, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), releasePatience)
	defer cancel()
	run := func(in, name string, args ...string) {
		t.Helper()
		began := clock.Now()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY="+proxy+","+goEnv(t, "GOPROXY"), "GONOSUMDB=github.com/fareboxhq/*")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
		}
		t.Logf("%s took %s", filepath.Base(name), clock.Since(began).Round(100*time.Millisecond))
	}
	tool := filepath.Join(dir, "xcaddy")
	run(filepath.Join(binaries.Root, "integration", "xcaddytool"), "go", "build", "-o", tool, "github.com/caddyserver/xcaddy/cmd/xcaddy")
	run(dir, tool, "build", caddyVersion, "--with", fareboxPath+"/caddymodule@"+version, "--output", output)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(value))
}

// runRelease runs the binary in a writable directory, and returns the output of the
// binary.
func runRelease(t *testing.T, binary string, args ...string) string {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(binary, args...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "GORACE=atexit_sleep_ms=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("caddy %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

var moduleID = regexp.MustCompile(`(?m)^[a-z0-9_]+(\.[a-z0-9_]+)*$`)

// modulesOf lists the modules of a binary, sorted.
func modulesOf(t *testing.T, binary string) []string {
	t.Helper()
	ids := moduleID.FindAllString(runRelease(t, binary, "list-modules"), -1)
	if len(ids) < 100 {
		t.Errorf("%s lists only %d modules", binary, len(ids))
	}
	slices.Sort(ids)
	return ids
}

// dependenciesOf returns the version of each module that is in the binary.
func dependenciesOf(t *testing.T, binary string) map[string]string {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, dependency := range info.Deps {
		version := dependency.Version
		if r := dependency.Replace; r != nil {
			version = fmt.Sprintf("replaced by %s %s", r.Path, r.Version)
		}
		versions[dependency.Path] = version
	}
	return versions
}
