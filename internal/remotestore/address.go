package remotestore

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/fareboxhq/farebox/internal/wire"
)

// Canonical returns the canonical form of a platform's address, or an error that
// says why the address is invalid. The error never repeats a part that may be a
// secret.
func Canonical(address string) (string, error) {
	base, err := baseOf(address)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(base.String(), wire.Base), nil
}

// baseOf returns the base URL of the platform's API at the address.
func baseOf(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("the platform's address is no URL: want one such as https://platform.example.com")
	case u.User != nil:
		return nil, errors.New("the platform's address has a user or password in it: the gateway key stands after it, on its own")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the platform's address has a query or a fragment: want one such as https://platform.example.com")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch {
	case u.Scheme == "https":
		u.Host = strings.TrimSuffix(u.Host, ":443")
	case u.Scheme != "http":
		return nil, fmt.Errorf("the platform's address begins with %q: want https", u.Scheme)
	case !loopback(u.Hostname()):
		return nil, fmt.Errorf("the platform at %s must be reached by https: over http anybody on the way could read the gateway key, and answer in its place; http is for loopback hosts only", u.Host)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	u.Path = strings.TrimSuffix(u.Path, wire.Base) + wire.Base
	return u, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// maxKey bounds the length of a gateway key, in bytes. The platform has the same
// bound.
const maxKey = 500

func checkKey(key string) error {
	if key == "" {
		return errors.New("the platform needs to know which gateway asks: give the secret of a gateway key")
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return errors.New("the gateway key has a character that no key has: is there a space or a line's end in it?")
		}
	}
	if len(key) > maxKey {
		return fmt.Errorf("the gateway key is longer than the %d characters that a key may have", maxKey)
	}
	return nil
}
