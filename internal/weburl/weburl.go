// Package weburl has the rules for URLs to which requests go.
package weburl

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// IsLoopback reports whether a URL's host, without a port, is this machine: localhost, a
// name below it (RFC 6761, section 6.3), or a loopback address.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// Cause returns the error that a *url.Error wraps, and other errors unchanged. A
// *url.Error repeats the whole URL, which may have a secret in its query.
func Cause(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}
