package upstream

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/hop"
)

// hopHeaders are the headers that are for one hop only (RFC 9110, 7.6.1). The list is
// the same as in Caddy's reverse_proxy.
var hopHeaders = []string{
	"Alt-Svc", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// ownHeaders are the headers that are not copied from the request. For each, writeHead
// writes its own value or leaves the header out.
var ownHeaders = names(append([]string{
	"Host", "User-Agent", "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
}, hopHeaders...))

func names(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, name := range list {
		set[name] = true
	}
	return set
}

// Errors of requests that cannot be written as HTTP/1.1.
var (
	errMethod = errors.New("the method is not a token")
	errTarget = errors.New("the URL has a byte that no request line may have")
	errValue  = errors.New("a header has a control character")
)

// checkRequest returns the target for the request line (RFC 9112, 3.2). It returns an
// error if the server could take the request line or a header for something else.
// Requests from the network cannot be like that, but handlers may change requests.
func checkRequest(r *http.Request) (target string, err error) {
	isControl := func(c rune) bool { return c < ' ' || c == 0x7f }
	switch target = r.URL.RequestURI(); {
	case r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return c < 'A' || c > 'Z' }):
		return "", errMethod
	case strings.ContainsFunc(target, func(c rune) bool { return c == ' ' || isControl(c) }):
		return "", errTarget
	}
	for _, values := range r.Header {
		for _, value := range values {
			if strings.ContainsFunc(value, func(c rune) bool { return c != '\t' && isControl(c) }) {
				return "", errValue
			}
		}
	}
	return target, nil
}

// writeHead writes the head of a request with the given target and the given length of
// the body. The length is -1 for a request without a body. The caller gets write errors
// from out.Flush.
func (c *Client) writeHead(out *bufio.Writer, r *http.Request, target string, length int) {
	line := func(parts ...string) {
		for _, part := range parts {
			_, _ = out.WriteString(part)
		}
		_, _ = out.WriteString("\r\n")
	}
	line(r.Method, " ", target, " HTTP/1.1")
	line("Host: ", c.o.Host)
	early := r.TLS != nil && !r.TLS.HandshakeComplete
	_ = r.Header.WriteSubset(out, without(r.Header, early))
	if agent := r.Header["User-Agent"]; len(agent) > 0 && agent[0] != "" {
		line("User-Agent: ", agent[0])
	}
	c.writeForwarded(line, r)
	line("Via: ", via(r.ProtoMajor, r.ProtoMinor))
	if early { // a proxy must mark a request that it received as TLS early data (RFC 8470, 5.2)
		line("Early-Data: 1")
	}
	if length >= 0 {
		line("Content-Length: ", strconv.Itoa(length))
	}
	line()
}

// without returns the headers that are not copied from a request: ownHeaders, the
// headers that the Connection header names, and Early-Data if the gateway sets it.
func without(h http.Header, early bool) map[string]bool {
	named := hop.Names(h)
	if len(named) == 0 && !early {
		return ownHeaders
	}
	set := maps.Clone(ownHeaders)
	set["Early-Data"] = early
	for _, name := range named {
		set[name] = true
	}
	return set
}

// via returns this hop's part of a Via header, as Caddy writes it.
func via(major, minor int) string {
	if major == 1 && minor == 1 {
		return "1.1 Caddy"
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor) + " Caddy"
}

// writeForwarded writes the X-Forwarded headers, as Caddy's reverse_proxy does: it
// keeps those of a trusted proxy, and replaces those of any other client.
func (c *Client) writeForwarded(line func(...string), r *http.Request) {
	trusted := c.o.Trusted(r)
	client, err := clientOf(r.RemoteAddr)
	if err != nil && (!trusted || r.RemoteAddr != unnamed) {
		return
	}
	prior := strings.Join(r.Header["X-Forwarded-For"], ", ")
	switch {
	case trusted && prior != "" && client != "":
		line("X-Forwarded-For: ", clean(prior), ", ", client)
	case trusted && prior != "":
		line("X-Forwarded-For: ", clean(prior))
	case client != "":
		line("X-Forwarded-For: ", client)
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	line("X-Forwarded-Proto: ", clean(lastOr(trusted, r.Header["X-Forwarded-Proto"], proto)))
	line("X-Forwarded-Host: ", clean(lastOr(trusted, r.Header["X-Forwarded-Host"], r.Host)))
}

// unnamed is the address of a client of a Unix socket.
const unnamed = "@"

// clientOf returns the host in a RemoteAddr, without the zone of an IPv6 address.
func clientOf(remote string) (string, error) {
	host, _, err := net.SplitHostPort(remote)
	host, _, _ = strings.Cut(host, "%")
	return host, err
}

// lastOr returns the last value, if the values are trusted and the last value is not
// empty. Otherwise it returns own.
func lastOr(trusted bool, values []string, own string) string {
	if n := len(values); trusted && n > 0 && values[n-1] != "" {
		return values[n-1]
	}
	return own
}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// clean replaces line breaks in a header's value with spaces, as http.Header.Write
// does.
func clean(value string) string { return lineBreaks.Replace(value) }
