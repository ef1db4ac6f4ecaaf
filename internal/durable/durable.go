// Package durable writes small files that survive a crash of the machine. A file
// exists either whole or not at all, and its name is on disk before the call
// returns.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// ReplaceFile writes a file with the given mode. After a crash, the file has either
// its old content or the new one.
func ReplaceFile(file string, content []byte, mode fs.FileMode) error {
	return write(file, content, mode, os.Rename)
}

// CreateFile is like ReplaceFile, but the file must not exist yet. If it does, the
// error is fs.ErrExist and the file stays as it is. If several processes call
// CreateFile for the same file concurrently, exactly one call succeeds. On a file
// system without hard links, several calls can succeed, and the file has the content of
// the last one.
func CreateFile(file string, content []byte, mode fs.FileMode) error {
	return create(file, content, mode, os.Link)
}

func create(file string, content []byte, mode fs.FileMode, link func(temp, file string) error) error {
	return write(file, content, mode, func(temp, file string) error {
		err := link(temp, file) // unlike a rename, a link replaces no existing file
		switch {
		case err == nil:
			return os.Remove(temp)
		case errors.Is(err, fs.ErrExist):
			return err
		}
		return renameToNew(temp, file) // the file system has no hard links
	})
}

// renameToNew renames the temporary file unless there is a file with its final name. If
// that file is created between the check and the rename, it is replaced.
func renameToNew(temp, file string) error {
	switch _, err := os.Lstat(file); {
	case err == nil:
		return &fs.PathError{Op: "create", Path: file, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(temp, file)
}

func write(file string, content []byte, mode fs.FileMode, place func(temp, file string) error) error {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".partial-*") // CreateTemp uses mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = place(temp.Name(), file)
	}
	if err != nil {
		if gone := os.Remove(temp.Name()); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable. On Windows it does nothing,
// because Windows cannot sync directories. Instead, its file system keeps a
// journal of the names.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
