package upstream

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// hopHeaders are for one hop only (RFC 9110, 7.6.1). They are the ones that Caddy's
// reverse_proxy removes.
var hopHeaders = []string{
	"Alt-Svc", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// ownHeaders are written by writeHead itself, or left out.
var ownHeaders = names(append([]string{
	"Host", "Content-Length", "Via", "Early-Data", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
}, hopHeaders...))

func names(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, name := range list {
		set[name] = true
	}
	return set
}

var errTarget = errors.New("the URL has a byte that no request line may have")

// writeHead writes the head of a request with a body of that length. A request without
// a body has the length -1.
func (c *Client) writeHead(out *bufio.Writer, r *http.Request, length int) error {
	target := r.URL.RequestURI()
	if strings.ContainsFunc(target, func(b rune) bool { return b <= ' ' || b == 0x7f }) {
		return errTarget
	}
	line := func(parts ...string) {
		for _, part := range parts {
			_, _ = out.WriteString(part) // an error comes back from Flush
		}
		_, _ = out.WriteString("\r\n")
	}
	line(r.Method, " ", target, " HTTP/1.1")
	line("Host: ", c.o.Host)
	if err := r.Header.WriteSubset(out, without(r.Header["Connection"])); err != nil {
		return err
	}
	c.writeForwarded(line, r)
	line("Via: ", clean(strings.Join(append(slices.Clone(r.Header["Via"]), via(r.ProtoMajor, r.ProtoMinor)), ", ")))
	if r.TLS != nil && !r.TLS.HandshakeComplete { // RFC 8470, 5.2
		line("Early-Data: 1")
	}
	if length >= 0 {
		line("Content-Length: ", strconv.Itoa(length))
	}
	line()
	return nil
}

// without returns ownHeaders and the headers that the Connection header names.
func without(connection []string) map[string]bool {
	if len(connection) == 0 {
		return ownHeaders
	}
	set := names(nil)
	for name := range ownHeaders {
		set[name] = true
	}
	for _, name := range hopNames(connection) {
		set[name] = true
	}
	return set
}

// hopNames returns the names in the values of a Connection header.
func hopNames(connection []string) (all []string) {
	for _, value := range connection {
		for name := range strings.SplitSeq(value, ",") {
			all = append(all, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return all
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
	client, ok := clientOf(r.RemoteAddr)
	if !ok && (!trusted || r.RemoteAddr != unnamed) {
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

// clientOf returns the IP address in a RemoteAddr, without a zone.
func clientOf(remote string) (string, bool) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return "", false
	}
	host, _, _ = strings.Cut(host, "%")
	_, err = netip.ParseAddr(host)
	return host, err == nil
}

// lastOr returns the last of the values, if they are trusted and not empty, and
// otherwise the text own.
func lastOr(trusted bool, values []string, own string) string {
	if n := len(values); trusted && n > 0 && values[n-1] != "" {
		return values[n-1]
	}
	return own
}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// clean replaces line breaks, as http.Header.Write does.
func clean(value string) string { return lineBreaks.Replace(value) }
