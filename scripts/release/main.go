// Command release builds all files of a release of Farebox from a source tree:
// archives with the binary for each platform, packages for Debian and for systems
// with RPM, an image for containers, a bill of materials for each binary, and the
// checksums of all of them. It needs Go and git, and no Docker.
//
// The version of a release is the one that the go command records: the tag of the
// commit, or a pseudo-version. All files have the time of the commit. So building the
// same commit with the same version of Go yields identical files.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	out := flag.String("out", "dist", "the `directory` to write to; what an earlier release left there is replaced")
	platforms := flag.String("platforms", allPlatforms, "the `systems` to build for")
	root := flag.String("root", ".", "the `directory` of the source tree")
	flag.Parse()
	if err := run(*root, *out, *platforms); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run builds the release of the tree at root for the platforms, and puts it into the
// output directory.
func run(root, out, platforms string) error {
	targets, err := parsePlatforms(platforms)
	if err != nil {
		return err
	}
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := replaceable(out); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "farebox-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	// Complete the new release before it replaces the old one.
	fresh := out + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	r := release{root: filepath.Join(work, "source"), work: work, out: fresh}
	if err := checkOut(root, r.root); err != nil {
		return err
	}
	if err := r.build(targets); err != nil {
		return err
	}
	if err := r.write(targets); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(out), os.Rename(fresh, out)); err != nil {
		return err
	}
	fmt.Printf("farebox %s, commit %s, is in %s\n", r.version, r.commit, out)
	if r.modified {
		fmt.Println("It is not a release: the tree has changes that are not committed.")
	}
	return nil
}

// replaceable returns an error if the directory contains anything that is not part of a
// release.
func replaceable(out string) error {
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(out, sumsName)); err != nil {
		return fmt.Errorf("%s is not the result of an earlier release, because it has no %s: remove it, or choose another directory with -out", out, sumsName)
	}
	return nil
}

// write writes all files of the release. It writes the checksums last, because they
// cover all other files.
func (r *release) write(targets []platform) error {
	pages, err := r.writePages()
	if err != nil {
		return fmt.Errorf("man pages and completions: %w", err)
	}
	for _, p := range targets {
		if err := r.writeArchive(p, pages); err != nil {
			return fmt.Errorf("archive for %s: %w", p, err)
		}
		if err := r.writeBOM(p); err != nil {
			return fmt.Errorf("bill of materials for %s: %w", p, err)
		}
		if p.os != "linux" {
			continue
		}
		for _, format := range []string{"deb", "rpm"} {
			if err := r.writePackage(p, format, pages); err != nil {
				return fmt.Errorf("%s for %s: %w", format, p, err)
			}
		}
	}
	if err := r.writeImage(targets); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return writeSums(r.out)
}

// asset returns the path of a file of the release, with a name like those of Caddy's
// own releases: farebox_0.1.0_mac_arm64.tar.gz. The suffix begins with a dot or with an
// underscore.
func (r *release) asset(p platform, suffix string) string {
	system := p.os
	if system == "darwin" {
		system = "mac"
	}
	return filepath.Join(r.out, strings.Join([]string{"farebox", r.version, system, p.arch}, "_")+suffix)
}
