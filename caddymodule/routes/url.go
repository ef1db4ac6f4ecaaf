package routes

import (
	"net"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// URL returns the address at which clients most likely call the server: a host and a
// path that the routes around farebox match, and the port of the listener. It is ""
// if the listener has no port. A proxy in front of this process may have another
// address.
func (p *Place) URL() string {
	if len(p.server.Listen) == 0 {
		return ""
	}
	listen, err := caddy.ParseNetworkAddress(p.server.Listen[0])
	if err != nil || listen.StartPort == 0 || listen.IsUnixNetwork() {
		return ""
	}
	scheme, usual := "http", uint(80)
	if len(p.server.TLSConnPolicies) > 0 {
		scheme, usual = "https", 443
	}
	host := p.Host()
	if listen.StartPort != usual {
		host = net.JoinHostPort(host, strconv.FormatUint(uint64(listen.StartPort), 10))
	}
	return scheme + "://" + host + p.path()
}

// path returns the path at which clients call the server, by the first pattern that
// names a path. Servers usually answer at /mcp below it.
func (p *Place) path() string {
	for _, pattern := range p.paths {
		path := strings.TrimRight(pattern, "*/")
		switch {
		case strings.ContainsAny(path, "*{") || !strings.HasPrefix(pattern, "/"):
			continue
		case strings.HasSuffix(pattern, "/*") && !strings.HasSuffix(path, "/mcp"):
			return path + "/mcp"
		case path != "":
			return path
		}
	}
	return "/mcp"
}
