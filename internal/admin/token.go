package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Caddy's admin endpoint is open to every process of the machine. What stands
// below Path also asks for a bearer token, which only those can read who may
// read the server's own files: it lives in a file of mode 0600 in the server's
// data directory, one for each admin address.

// TokenFile returns the path of the token for an admin listener, whose network
// address both sides of a connection agree on.
func TokenFile(dir, address string) string {
	safe := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' {
			return c
		}
		return '_'
	}, strings.ToLower(address))
	return filepath.Join(dir, "admin-"+safe+".token")
}

const tokenBytes = 32

// EnsureToken returns the token in the file, made now if there is none.
func EnsureToken(file string) (string, error) {
	token, err := ReadToken(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("making the directory of the admin token: %w", err)
	}
	var random [tokenBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	token = hex.EncodeToString(random[:])
	// Written aside and linked, so that nobody reads half of it and of two
	// writers one wins.
	temp, err := os.CreateTemp(filepath.Dir(file), ".token-*") // of mode 0600
	if err != nil {
		return "", fmt.Errorf("writing the admin token: %w", err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(token + "\n")
	if err = errors.Join(err, temp.Close()); err != nil {
		return "", fmt.Errorf("writing the admin token: %w", err)
	}
	if err := os.Link(temp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("writing the admin token: %w", err)
	}
	return ReadToken(file)
}

// ReadToken returns the token in the file. A file that others may read, that
// belongs to somebody else, or that is a link is not trusted: what it says
// could be known, or chosen, by others.
func ReadToken(file string) (string, error) {
	named, err := os.Lstat(file)
	if err != nil {
		return "", err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	switch {
	case !named.Mode().IsRegular() || !os.SameFile(named, info) || !ownedByUs(info):
		return "", fmt.Errorf("admin token %s is a link, or belongs to somebody else: remove it, a new one is made at once", file)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("admin token %s may be read by others: remove it, a new one is made at once", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if len(token) != 2*tokenBytes {
		return "", fmt.Errorf("admin token %s is damaged: remove it, a new one is made at once", file)
	}
	return token, nil
}

// RequireToken lets only requests through that carry the token of the file as
// their bearer. The file is made if it is not there, so that a client that was
// refused can read it and come again.
func RequireToken(file string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := EnsureToken(file)
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, Problem{Forbidden, err.Error()})
			return
		}
		given := r.Header.Values("Authorization")
		if len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte("Bearer "+token)) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="farebox admin"`)
			writeJSON(w, http.StatusUnauthorized, Problem{Forbidden, "the admin token is missing or wrong: use the farebox commands as the user that runs the server"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
