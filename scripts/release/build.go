package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// allPlatforms are the platforms of a full release.
const allPlatforms = "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64"

// platform is an operating system and an architecture, with the names that the go
// command uses.
type platform struct{ os, arch string }

// String returns the platform as os/arch.
func (p platform) String() string { return p.os + "/" + p.arch }

// parsePlatforms reads a list of platforms, separated by spaces or commas. Each must be
// a platform of a full release. An empty list means all platforms of a full release.
func parsePlatforms(list string) (targets []platform, err error) {
	known := strings.Fields(allPlatforms)
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })
	if len(words) == 0 {
		words = known
	}
	for _, word := range words {
		if !slices.Contains(known, word) {
			return nil, fmt.Errorf("unknown platform %q, want some of: %s", word, allPlatforms)
		}
		system, arch, _ := strings.Cut(word, "/")
		if p := (platform{system, arch}); !slices.Contains(targets, p) {
			targets = append(targets, p)
		}
	}
	return targets, nil
}

// release is a release that is being built.
type release struct {
	root string // the root of a clone of the source tree
	work string // a directory for intermediate files
	out  string // the directory of the finished files

	version  string    // the version without the "v" of the tag
	commit   string    // the full hash of the commit
	modified bool      // true if the tree has changes that are not committed
	at       time.Time // the time at which the commit was made
}

// binary returns the path of the binary for the platform.
func (r *release) binary(p platform) string {
	name := "farebox"
	if p.os == "windows" {
		name += ".exe"
	}
	return filepath.Join(r.work, p.os+"_"+p.arch, name)
}

// host is the platform on which this program runs. The binary for this platform writes
// the man pages and completions of the release.
var host = platform{runtime.GOOS, runtime.GOARCH}

// build builds the binaries, and reads the version from one of them.
func (r *release) build(targets []platform) error {
	if !slices.Contains(targets, host) {
		targets = append(slices.Clone(targets), host)
	}
	for _, p := range targets {
		fmt.Println("building for", p)
		if err := r.compile(p); err != nil {
			return fmt.Errorf("building for %s: %w", p, err)
		}
	}
	return r.readVersion(r.binary(host))
}

// compile builds one binary. The binary is static, and contains no paths of this
// machine. It has the build tags of Caddy's own releases, which leave out databases
// that only Caddy's certificate authority can use.
func (r *release) compile(p platform) error {
	cmd := exec.Command("go", "build", "-trimpath", "-mod=readonly", "-buildvcs=true",
		"-tags", "nobadger,nomysql,nopgx", "-ldflags", "-s -w", "-o", r.binary(p), "./xcaddy")
	cmd.Dir = r.root
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(append(os.Environ(), trusting...),
		"CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	return cmd.Run()
}

// readVersion reads the version, the commit and the time of the commit, which the go
// command has recorded in the binary.
func (r *release) readVersion(binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	var tagged bool
	r.version, tagged = strings.CutPrefix(info.Main.Version, "v")
	r.commit, r.modified = settings["vcs.revision"], settings["vcs.modified"] == "true"
	if !tagged || r.commit == "" {
		return fmt.Errorf("the go command recorded the version %q and the commit %q", info.Main.Version, r.commit)
	}
	r.at, err = time.Parse(time.RFC3339, settings["vcs.time"])
	return err
}
