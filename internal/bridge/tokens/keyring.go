package tokens

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/zalando/go-keyring"
)

// service is the name under which a keyring shows the tokens to people.
const service = "farebox connect"

// answerTime bounds a request to a keyring. A locked one asks its user for a password,
// and there may be nobody to answer.
const answerTime = 20 * time.Second

// System returns the keyring of the operating system, or nil without one: the
// Keychain of macOS, the Credential Manager of Windows, or the Secret Service of a Unix
// desktop.
func System() Keyring {
	if !hasKeyring(runtime.GOOS, os.Getenv, exists) {
		return nil
	}
	return &bounded{keyring: osKeyring{}, most: answerTime}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// hasKeyring reports whether a keyring can be asked. Without a session bus, the Secret
// Service's library would start a bus, which nobody would end.
func hasKeyring(system string, environment func(string) string, exists func(string) bool) bool {
	if system == "darwin" || system == "windows" || environment("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	run := environment("XDG_RUNTIME_DIR")
	if run == "" {
		run = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	}
	return exists(filepath.Join(run, "bus"))
}

// osKeyring is the keyring of the operating system.
type osKeyring struct{}

func (osKeyring) Get(name string) (string, error) {
	secret, err := keyring.Get(service, name)
	return secret, known(err)
}

func (osKeyring) Set(name, secret string) error { return known(keyring.Set(service, name, secret)) }

func (osKeyring) Delete(name string) error { return known(keyring.Delete(service, name)) }

func known(err error) error {
	if errors.Is(err, keyring.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// bounded is a keyring that is not asked again once it has not answered in time.
type bounded struct {
	keyring Keyring
	most    time.Duration
	silent  atomic.Bool
}

var errSilent = errors.New("the keyring does not answer")

func (b *bounded) do(f func() error) error {
	if b.silent.Load() {
		return errSilent
	}
	done := make(chan error, 1)
	go func() { done <- f() }() // the library has no way to end it
	timer := time.NewTimer(b.most)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		b.silent.Store(true)
		return fmt.Errorf("%w within %v", errSilent, b.most)
	}
}

func (b *bounded) Get(name string) (string, error) {
	answer := make(chan string, 1)
	err := b.do(func() error {
		secret, err := b.keyring.Get(name)
		answer <- secret
		return err
	})
	if err != nil {
		return "", err
	}
	return <-answer, nil
}

func (b *bounded) Set(name, secret string) error {
	return b.do(func() error { return b.keyring.Set(name, secret) })
}

func (b *bounded) Delete(name string) error {
	return b.do(func() error { return b.keyring.Delete(name) })
}
