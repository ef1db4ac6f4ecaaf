package client

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds of redirect URIs.
const (
	maxURI  = 2048 // bytes
	maxURIs = 32   // per client
)

const httpsPrefix = "https://"

// loopback is a redirect URI to a program on the user's own machine (RFC 8252, 7.3).
type loopback struct {
	host string // 127.0.0.1, [::1] or localhost
	rest string // path and query
}

// parseLoopback splits a loopback URI. It does not use a URL parser, so that no two
// parsers can disagree: the host has one of three spellings, and all that follows the
// port is compared as it is.
func parseLoopback(uri string) (loopback, bool) {
	rest, ok := strings.CutPrefix(uri, "http://")
	if !ok {
		return loopback{}, false
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
		after, ok := strings.CutPrefix(rest, host)
		if !ok {
			continue
		}
		end := strings.IndexAny(after, "/?")
		if end < 0 {
			end = len(after)
		}
		if !isPort(after[:end]) {
			return loopback{}, false
		}
		path := after[end:]
		if !strings.HasPrefix(path, "/") {
			path = "/" + path // an empty path is the root (RFC 3986, 6.2.3)
		}
		return loopback{host, path}, true
	}
	return loopback{}, false
}

// isPort reports whether a text is empty, or a colon and the number of a port.
func isPort(text string) bool {
	if text == "" {
		return true
	}
	digits, ok := strings.CutPrefix(text, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	return ok && err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

// Redirect returns the redirect URI of an authorization request, or an *Error. A URI is
// compared as a string with those of the client. Only the port of a loopback URI is free,
// because the program takes any port that is open (RFC 8252, 7.3). Without a requested
// URI, a client's only one is used. An *Error of Redirect must be shown to the user: the
// browser must not be sent anywhere.
func (c *Client) Redirect(requested string) (string, error) {
	if requested == "" {
		if len(c.RedirectURIs) != 1 {
			return "", refuse(InvalidRequest, "redirect_uri is missing, and the client has not exactly one")
		}
		return c.RedirectURIs[0], nil
	}
	if checkURI(requested) != nil {
		return "", refuse(InvalidRequest, "redirect_uri is malformed")
	}
	if slices.Contains(c.RedirectURIs, requested) {
		return requested, nil
	}
	if wanted, ok := parseLoopback(requested); ok {
		for _, uri := range c.RedirectURIs {
			if l, ok := parseLoopback(uri); ok && l == wanted {
				return requested, nil
			}
		}
	}
	return "", refuse(InvalidRequest, "redirect_uri is not one of the client's")
}

// checkURI returns an error unless a text is an absolute URI that may be a redirect URI of
// some client: printable ASCII, with an authority, and without a fragment, user
// information, dot segments or parameters of the response.
func checkURI(uri string) error {
	if len(uri) > maxURI {
		return fmt.Errorf("it has more than %d bytes", maxURI)
	}
	for _, c := range []byte(uri) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			return errors.New("it has a fragment, or characters that a URI cannot have")
		}
	}
	u, err := url.Parse(uri)
	if err != nil {
		return errors.New("it is not a URI")
	}
	scheme, after, ok := strings.Cut(uri, "://")
	switch {
	case !ok || u.Host == "" || u.Scheme != scheme: // a parser lower-cases the scheme
		return errors.New("want a URI such as https://example.com/callback, with its scheme in lower case")
	case u.User != nil || strings.Contains(authority(after), "@"):
		return errors.New("it has user information")
	case hasDotSegment(u):
		return errors.New("its path has . or .. segments")
	case hasResponseParameter(u):
		return errors.New("its query has a parameter of the authorization response")
	}
	return nil
}

// hasResponseParameter reports whether a query already has a parameter that the server
// appends. The receiver could take the first one, which the registration chose.
func hasResponseParameter(u *url.URL) bool {
	query, err := url.ParseQuery(u.RawQuery)
	return err != nil || query.Has("code") || query.Has("state") || query.Has("iss") || query.Has("error")
}

// authority returns the part of a URI between the scheme and the path or query.
func authority(after string) string {
	if end := strings.IndexAny(after, "/?"); end >= 0 {
		return after[:end]
	}
	return after
}

// hasDotSegment reports whether a path has a segment . or .., plain or encoded.
func hasDotSegment(u *url.URL) bool {
	return slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." })
}

// webHost reports whether the host of an https URI is a DNS name with at least one dot, in
// lower case and without a dot at its end. The port is free.
func webHost(uri string) bool {
	after, ok := strings.CutPrefix(uri, httpsPrefix)
	if !ok {
		return false
	}
	host := authority(after)
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		if !isPort(host[colon:]) || host[colon:] == ":" {
			return false
		}
		host = host[:colon]
	}
	labels := strings.Split(host, ".")
	if len(host) > 253 || len(labels) < 2 || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return false // the last label of an IPv4 address is a number
	}
	return !slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) })
}

// isLabel reports whether a text is a label of a DNS name, in lower case.
func isLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
