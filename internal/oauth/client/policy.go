package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KnownRedirectURIs lists the callbacks of known hosts of agents, which any client may
// register. An asterisk at the end stands for one segment of the path. All other web
// addresses must be allowed by the operator: anyone can register, so a free choice would
// let a stranger's page collect codes under a well-known name.
var KnownRedirectURIs = []string{
	"https://claude.ai/api/mcp/auth_callback",
	"https://claude.com/api/mcp/auth_callback",
	"https://chatgpt.com/connector/oauth/*",
	"https://chatgpt.com/connector_platform_oauth_redirect",
	"cursor://anysphere.cursor-mcp/oauth/callback",
	"https://www.cursor.com/agents/mcp/oauth/callback",
	"https://vscode.dev/redirect",
	"https://insiders.vscode.dev/redirect",
	"https://oauth.n8n.cloud/oauth2/callback",
}

// policy says which redirect URIs and hosts clients may have.
type policy struct {
	patterns []string
	private  bool // hosts need not have a name of the public DNS
}

// CheckPattern returns an error unless a text may be an addition of the operator to
// KnownRedirectURIs.
func CheckPattern(pattern string) error {
	uri := strings.TrimSuffix(pattern, "*")
	if uri != pattern && !strings.HasSuffix(uri, "/") || strings.Contains(uri, "*") {
		return fmt.Errorf("redirect URI %q: an asterisk stands for the last segment of the path, as in https://example.com/callback/*", pattern)
	}
	if err := checkURI(uri); err != nil {
		return fmt.Errorf("redirect URI %q: %w", pattern, err)
	}
	switch scheme, _, _ := strings.Cut(uri, "://"); {
	case scheme == "https" && !webHost(uri):
		return fmt.Errorf("redirect URI %q: want the name of a host in lower case", pattern)
	case scheme == "http":
		return fmt.Errorf("redirect URI %q: want https; http is for loopback addresses, which are allowed already", pattern)
	case forbiddenSchemes[scheme]:
		return fmt.Errorf("redirect URI %q: a browser would not open an application by it", pattern)
	}
	return nil
}

// forbiddenSchemes are those that a browser handles by itself.
var forbiddenSchemes = map[string]bool{"javascript": true, "data": true, "vbscript": true, "file": true, "blob": true, "about": true, "ftp": true, "ws": true, "wss": true, "view-source": true, "filesystem": true}

func newPolicy(additions []string, private bool) (policy, error) {
	for _, pattern := range additions {
		if err := CheckPattern(pattern); err != nil {
			return policy{}, err
		}
	}
	return policy{slices.Concat(KnownRedirectURIs, additions), private}, nil
}

// web reports whether a text is an https URI with a host that may be asked for a document
// or get a code.
func (p policy) web(uri string) bool {
	return checkURI(uri) == nil && (webHost(uri) || p.private && strings.HasPrefix(uri, httpsPrefix))
}

// known reports whether a URI is a known callback or an addition of the operator.
func (p policy) known(uri string) bool {
	return slices.ContainsFunc(p.patterns, func(pattern string) bool { return matches(pattern, uri) })
}

// matches reports whether a URI, which checkURI has passed, matches a pattern. The segment
// in place of the asterisk has unreserved characters only.
func matches(pattern, uri string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return pattern == uri
	}
	segment, ok := strings.CutPrefix(uri, prefix)
	if !ok || segment == "" {
		return false
	}
	for _, c := range []byte(segment) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return true
}

// choose divides the URIs in a client's metadata into those that it may use and those
// that are dropped. A published client may use any web address: its document is at an
// address that the user sees, and says so. A registered client may use known ones only.
func (p policy) choose(kind Kind, uris []string) (kept, dropped []string, err error) {
	if len(uris) > maxURIs {
		return nil, nil, fmt.Errorf("more than %d redirect URIs", maxURIs)
	}
	for _, uri := range uris {
		_, onLoopback := parseLoopback(uri)
		ok := checkURI(uri) == nil && (onLoopback || p.known(uri) || kind == Published && p.web(uri))
		switch {
		case !ok:
			dropped = append(dropped, uri)
		case !slices.Contains(kept, uri):
			kept = append(kept, uri)
		}
	}
	return kept, dropped, nil
}

// errNoRedirect means that no redirect URI of a client can be used.
var errNoRedirect = errors.New("none of the redirect_uris is allowed here: want a loopback address, the callback of a known host, or one that the operator has added")
