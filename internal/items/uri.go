package items

import (
	"net/netip"
	"strconv"
	"strings"
)

// defaultPorts maps the special schemes of the WHATWG URL standard to their default
// ports.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "file": ""}

// IsNormalURI reports whether a URI is in normal form (RFC 3986, 6.2.2; WHATWG URL).
// Widely used servers normalize a URI before they look it up, so two spellings may reach
// the same resource. A URI with a fragment is not in normal form, because a server
// ignores the fragment when it looks the resource up (RFC 3986, 3.5).
func IsNormalURI(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !isNormalScheme(scheme) || !hasNormalCharacters(rest) {
		return false
	}
	path, _, _ := strings.Cut(rest, "?")
	if port, special := defaultPorts[scheme]; special {
		host, ok := strings.CutPrefix(path, "//")
		if !ok {
			return false
		}
		slash := strings.IndexByte(host, '/')
		if slash < 0 || !isNormalHost(scheme, host[:slash], port) {
			return false
		}
		path = host[slash:]
	} else if authority, ok := strings.CutPrefix(path, "//"); ok {
		authority, _, _ = strings.Cut(authority, "/")
		if !isPlainAuthority(authority) {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func isNormalScheme(scheme string) bool {
	for i := range len(scheme) {
		switch c := scheme[i]; {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return scheme != ""
}

// hasNormalCharacters reports whether a text has only characters that are allowed in
// URIs, and no needless or lower-case percent-encoding.
func hasNormalCharacters(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c <= ' ' || c > '~' || strings.IndexByte("\"#<>\\^`{|}", c) >= 0 {
			return false
		}
		if c != '%' {
			continue
		}
		if i+2 >= len(text) {
			return false
		}
		high, low := strings.IndexByte(upperHex, text[i+1]), strings.IndexByte(upperHex, text[i+2])
		if high < 0 || low < 0 || isUnreserved(byte(high<<4|low)) {
			return false
		}
		i += 2
	}
	return true
}

const upperHex = "0123456789ABCDEF"

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// isPlainAuthority reports whether the authority of a URI with a non-special scheme is in
// normal form (WHATWG URL, section 4.5). It must not have an empty user or password, an
// empty port, a port with leading zeros, or an IPv6 address in another notation than the
// canonical one.
func isPlainAuthority(authority string) bool {
	host := authority
	if user, rest, ok := strings.Cut(authority, "@"); ok {
		if user == "" || user[0] == ':' || user[len(user)-1] == ':' || strings.Contains(rest, "@") {
			return false
		}
		host = rest
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if !isNormalPort(host[i+1:]) {
			return false
		}
		host = host[:i]
	}
	if strings.HasPrefix(host, "[") {
		address, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return err == nil && host == "["+address.String()+"]"
	}
	return !strings.ContainsAny(host, "[]:")
}

// isNormalPort reports whether the text is a port without leading zeros.
func isNormalPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(port, 10) == text
}

// isNormalHost reports whether the authority of a URI with a special scheme is in normal
// form. The host must be in lower case, an address must be in canonical notation, and
// there must be no user and no default port.
func isNormalHost(scheme, authority, defaultPort string) bool {
	if scheme == "file" {
		return authority == ""
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
		if !isNormalPort(port) || port == defaultPort {
			return false
		}
	}
	switch {
	case host == "" || host != strings.ToLower(host) || strings.ContainsAny(authority, "@%"):
		return false
	case host[0] == '[':
		address, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return err == nil && host == "["+address.String()+"]"
	case strings.ContainsAny(host, "[]:"):
		return false
	}
	// If the last label of a host begins with a digit, the host is an IPv4 address.
	last := host[strings.LastIndexByte(strings.TrimSuffix(host, "."), '.')+1:]
	if last != "" && '0' <= last[0] && last[0] <= '9' {
		address, err := netip.ParseAddr(host)
		return err == nil && address.String() == host
	}
	return true
}

// fillings are the texts that MayBeNormal puts in place of the wildcards of a pattern.
// It tries one text after the other, each for all wildcards. If the pattern can match a
// URI in normal form, at least one of the texts usually gives such a URI. Most of the
// texts contain a slash, so that the rest of the pattern is in the path.
var fillings = []string{"x", "", "1", "/", "/x", "/x/x", "//x/x", "x/x", ".x/x", "1/x", "::1", "::1]/x", "a:b"}

// MayBeNormal reports whether a resource pattern can match a URI in normal form. It also
// returns true for a pattern without wildcards, and if it cannot decide.
func MayBeNormal(pattern string) bool {
	pieces, err := splitURIPattern(pattern)
	if err != nil || len(pieces) == 1 || !strings.Contains(pieces[0], ":") {
		return true
	}
	for _, filling := range fillings {
		if IsNormalURI(strings.Join(pieces, filling)) {
			return true
		}
	}
	return false
}
