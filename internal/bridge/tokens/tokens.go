// Package tokens keeps the tokens that people have granted to a bridge: in the system's
// keyring, or, where no keyring answers, in files that only their owner can read.
//
// Several programs of one user may use the tokens of a server at the same time. A change
// therefore happens under a lock, and after the tokens were read again: a refresh token
// that is used twice would end the grant for all of them.
package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/gofrs/flock"

	"github.com/fareboxhq/farebox/internal/durable"
)

// Grant is one sign-in at one server: its tokens, and all that is needed to renew and to
// revoke them.
type Grant struct {
	Server   string `json:"server"`   // the URL of the MCP endpoint; the tokens go nowhere else
	ID       string `json:"id"`       // made by the sign-in, and the same after each refresh
	Resource string `json:"resource"` // the resource for which the tokens were issued (RFC 8707)
	Issuer   string `json:"issuer"`

	TokenEndpoint      string `json:"token_endpoint"`
	RevocationEndpoint string `json:"revocation_endpoint,omitempty"`

	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"`
	ClientAuth   string `json:"client_auth,omitempty"` // token_endpoint_auth_method (RFC 7591)

	Scopes       []string  `json:"scopes,omitempty"` // the granted scopes
	AccessToken  string    `json:"access_token"`
	Expires      time.Time `json:"expires,omitzero"` // the end of the access token; zero if unknown
	Renew        time.Time `json:"renew,omitzero"`   // the time at which to renew it, shortly before its end
	RefreshToken string    `json:"refresh_token,omitempty"`
}

// Keyring is a keyring of the operating system.
type Keyring interface {
	// Get returns a secret, or ErrNotFound.
	Get(name string) (string, error)
	Set(name, secret string) error
	Delete(name string) error
}

// ErrNotFound means that a keyring works and has no secret with the name.
var ErrNotFound = errors.New("there is no such secret")

// Store keeps one grant for each server. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir     string
	keyring Keyring
}

// New returns a store with its locks and files in a directory, which need not exist.
// keyring is nil on a system without one.
func New(dir string, keyring Keyring) *Store { return &Store{dir: dir, keyring: keyring} }

// Dir returns the directory for the tokens of this user.
func Dir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find a place for tokens: %w", err)
	}
	return filepath.Join(dir, "farebox", "connect"), nil
}

// Load returns the grant for a server, or nil without a sign-in. A keyring that does not
// answer counts as empty. An error means that there is a file, and that it must not or
// cannot be used.
func (s *Store) Load(server string) (*Grant, error) {
	// A file comes first: where there is one, the keyring has failed before, and may have
	// an older grant.
	text, err := readPrivate(s.file(server))
	if errors.Is(err, fs.ErrNotExist) {
		return s.loadFromKeyring(server), nil
	}
	if err != nil {
		return nil, err
	}
	g, err := decode(text, server)
	if err != nil {
		return nil, fmt.Errorf("the file %s cannot be read: %w; delete it, then sign in again", s.file(server), err)
	}
	return g, nil
}

func (s *Store) loadFromKeyring(server string) *Grant {
	if s.keyring == nil {
		return nil
	}
	text, err := s.keyring.Get(name(server))
	if err != nil {
		return nil
	}
	g, err := decode([]byte(text), server)
	if err != nil { // not written by this program; the next sign-in replaces it
		return nil
	}
	return g
}

// decode reads a grant. It must be one for the server.
func decode(text []byte, server string) (*Grant, error) {
	var g Grant
	if err := json.Unmarshal(text, &g); err != nil {
		return nil, errors.New("it is not the JSON of a grant") // the error of json could show a part of a token
	}
	if g.Server != server || g.AccessToken == "" {
		return nil, errors.New("it has no token for this server")
	}
	return &g, nil
}

// Save keeps a grant in place of the server's earlier one, and returns its place for
// people. A grant that is in a file stays in a file until it is deleted.
func (s *Store) Save(g *Grant) (place string, err error) {
	text, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	file := s.file(g.Server)
	_, err = os.Lstat(file)
	if s.keyring != nil && errors.Is(err, fs.ErrNotExist) && s.keyring.Set(name(g.Server), string(text)) == nil {
		return "the keyring", nil
	}
	if err := s.makeDir(); err != nil {
		return "", err
	}
	if err := durable.ReplaceFile(file, append(text, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("keep the tokens in a file: %w", err)
	}
	if s.keyring != nil {
		_ = s.keyring.Delete(name(g.Server)) // the file counts in any case
	}
	return "the file " + file, nil
}

// Delete forgets the grant for a server. It is no error if nothing is kept.
func (s *Store) Delete(server string) error {
	var failed error
	if s.keyring != nil {
		if err := s.keyring.Delete(name(server)); err != nil && !errors.Is(err, ErrNotFound) && s.loadFromKeyring(server) != nil {
			failed = fmt.Errorf("delete the tokens from the keyring: %w", err)
		}
	}
	err := os.Remove(s.file(server))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, failed)
}

// lockEvery is the time between two attempts to get a lock that another process has.
const lockEvery = 50 * time.Millisecond

// Lock waits until no other process changes the grant for the server. The system
// releases the lock of a process that dies. If it has to wait, it calls wait once.
func (s *Store) Lock(ctx context.Context, server string, wait func()) (unlock func(), err error) {
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(s.dir, name(server)+".lock"), flock.SetPermissions(0o600))
	free, err := lock.TryLock()
	if err == nil && !free {
		wait()
		_, err = lock.TryLockContext(ctx, lockEvery)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the tokens for other programs: %w", err)
	}
	return func() { _ = lock.Close() }, nil // closing releases it
}

func (s *Store) makeDir() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for tokens: %w", err)
	}
	return nil
}

func (s *Store) file(server string) string { return filepath.Join(s.dir, name(server)+".json") }

var (
	hostOf     = regexp.MustCompile(`^https?://([^/?#]*)`)
	notInNames = regexp.MustCompile(`[^a-z0-9.]+`)
)

// name returns a file name for a server. It begins with the host, for people.
func name(server string) string {
	hash := sha256.Sum256([]byte(server))
	host := hostOf.FindStringSubmatch(server)
	readable := ""
	if host != nil {
		readable = notInNames.ReplaceAllString(host[1], "-")
	}
	return fmt.Sprintf("%.60s-%s", readable, hex.EncodeToString(hash[:8]))
}
