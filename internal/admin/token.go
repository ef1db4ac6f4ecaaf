package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/fareboxhq/farebox/internal/identity"
)

// Every process on the machine can connect to an admin endpoint on a TCP port. Our
// operations therefore also need a bearer token. Each admin address has its own
// token. The token is in a file with mode 0600 in the server's data directory, so
// only users with access to the server's files can read the token.

// TokenFile returns the path of the token file for an admin listener. The client and
// the server derive the same path, because both see the same network address.
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

// EnsureToken returns the token in the file. If the file does not exist, it is
// created with a new token.
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
	// Write a temporary file and link it, so that no process reads half a token, and
	// only one of several concurrent writers wins.
	temp, err := os.CreateTemp(filepath.Dir(file), ".token-*") // CreateTemp uses mode 0600
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

// ReadToken returns the token in the file. It refuses a link, a file of another
// user, and a file that other users may read. Other users might know the content of
// such a file, or might have chosen it.
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

// Local authenticates requests to the admin endpoint. On a unix socket, the
// permissions of the socket control access. On a TCP port, the request needs the
// token in the listener's file. The file is created if necessary, so that a client
// that was refused can read the token and try again.
type Local struct {
	Dir  func() string // the data directory of the server
	Name string        // subject of the principal, for the audit log
}

// Authenticate returns a principal with the rights of an operator.
func (l Local) Authenticate(r *http.Request, _ netip.Addr) (p identity.Principal, err error) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return identity.Principal{}, errors.New("the address of the admin listener is unknown")
	}
	p = identity.Principal{Subject: l.Name, Rights: identity.Operator, Remote: r.RemoteAddr}
	if local.Network() == "unix" {
		if p.Remote == "@" { // the remote address "@" stands for a client on a unix socket, which has no address
			p.Remote = ""
		}
		return p, nil
	}
	token, err := EnsureToken(TokenFile(l.Dir(), local.String()))
	if err != nil {
		return identity.Principal{}, refuse(Forbidden, "%v", err)
	}
	given := r.Header.Values("Authorization")
	switch {
	case len(given) == 0:
		return identity.Principal{}, identity.ErrMissing
	case len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte("Bearer "+token)) != 1:
		return identity.Principal{}, identity.ErrInvalid
	}
	return p, nil
}
