package tokens

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// maxFile bounds a file with a grant, in bytes.
const maxFile = 1 << 20

// readPrivate reads a file that nobody but its owner can read. The error is fs.ErrNotExist
// if there is no file. Windows has no such modes.
func readPrivate(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the tokens in %s are not used: it is not a regular file", file)
	}
	if Exposed(info.Mode()) {
		return nil, fmt.Errorf("the tokens in %s are not used: other users can read it (mode %04o). Run farebox connect logout, then sign in again", file, info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// Exposed reports whether the mode of a file lets its group or others in.
func Exposed(mode fs.FileMode) bool {
	return runtime.GOOS != "windows" && mode.Perm()&0o077 != 0
}
