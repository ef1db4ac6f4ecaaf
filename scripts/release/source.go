package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// checkOut clones the tree at root. Then it copies uncommitted files from the tree to
// the clone. The release is built from the clone, because the go command finds no
// version in a worktree of git. If the clone has a file that is not committed, the go
// command marks the version as modified.
func checkOut(root, clone string) error {
	if _, err := git("clone", "--quiet", "--shared", root, clone); err != nil {
		return err
	}
	// With "-z", git does not quote paths. With "--no-renames", each entry has one
	// path.
	status, err := git("-C", root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
	if err != nil {
		return err
	}
	top, err := git("-C", root, "rev-parse", "--show-cdup")
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(top)) != "" {
		return fmt.Errorf("%s is not the root of a git checkout", root)
	}
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(status), "\x00"), "\x00") {
		if len(entry) < 4 { // an entry has two letters, a space and the path
			continue
		}
		path := filepath.FromSlash(entry[3:])
		if err := replace(filepath.Join(root, path), filepath.Join(clone, path)); err != nil {
			return err
		}
	}
	return nil
}

// replace copies a file over another file. If the first file does not exist, replace
// removes the second one.
func replace(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}

// trusting has the environment variables with which git works in a tree that belongs to
// another user, which it refuses by default. They also keep git from changing the
// index of the tree.
var trusting = []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_OPTIONAL_LOCKS=0"}

// git runs git and returns its standard output.
func git(args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Env = append(os.Environ(), trusting...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}
