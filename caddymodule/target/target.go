// Package target compiles the subdirective upstream of the directive farebox: the MCP
// server to which the handler itself sends requests. With this subdirective, the
// handler needs no reverse_proxy behind it.
package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/fareboxhq/farebox/internal/upstream"
)

// Config is a reverse_proxy in JSON.
type Config = json.RawMessage

// Finalizer completes a reverse_proxy that was read from a Caddyfile; see
// reverseproxy.Handler.FinalizeUnmarshalCaddyfile.
type Finalizer func(*reverseproxy.Handler) error

// hostport is the placeholder for the server's address.
const hostport = "{http.reverse_proxy.upstream.hostport}"

// Parse reads the subdirective from a Caddyfile:
//
//	upstream <address>... {
//	    <any subdirective of reverse_proxy>
//	}
//
// The Host header of requests is the server's address, unless the block sets another
// one. A server on the loopback interface may refuse any other name (CVE-2025-66414).
func Parse(d *caddyfile.Dispenser, finalize Finalizer) (Config, error) {
	segment := d.NextSegment()
	name := segment[0]
	name.Text = "reverse_proxy"
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(caddyfile.NewDispenser(append(caddyfile.Segment{name}, segment[1:]...))); err != nil {
		return nil, err
	}
	if err := finalize(proxy); err != nil {
		return nil, err
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		return nil, d.Err("upstream: want the address of the MCP server, as in: upstream localhost:3001")
	}
	for _, u := range proxy.Upstreams {
		if !isSocket(u) && strings.Contains(u.Dial, "/") {
			return nil, d.Errf("upstream: an address has no path, unlike %q; the server gets the path that the client asks for, and rewrite can change it", written(u.Dial, segment))
		}
	}
	setHost(proxy)
	return caddyconfig.JSON(proxy, nil), nil
}

// setHost sets the Host header to the server's address, unless the config has an
// operation on it.
func setHost(proxy *reverseproxy.Handler) {
	if proxy.Headers == nil {
		proxy.Headers = new(headers.Handler)
	}
	if proxy.Headers.Request == nil {
		proxy.Headers.Request = new(headers.HeaderOps)
	}
	ops := proxy.Headers.Request
	_, replaced := ops.Replace["Host"]
	if replaced || len(ops.Set["Host"])+len(ops.Add["Host"]) > 0 || slices.Contains(ops.Delete, "Host") {
		return
	}
	if ops.Set == nil {
		ops.Set = make(http.Header)
	}
	ops.Set.Set("Host", hostport)
	if len(proxy.Upstreams) > 0 && !slices.ContainsFunc(proxy.Upstreams, func(u *reverseproxy.Upstream) bool { return !isSocket(u) }) {
		ops.Set.Set("Host", "localhost") // a socket's path is not a host name
	}
}

// written returns the address in the form in which the Caddyfile has it. If no argument
// in the Caddyfile has this address, it returns the address itself.
func written(address string, segment caddyfile.Segment) string {
	for _, token := range segment {
		if strings.Contains(token.Text, "/") && strings.HasPrefix(address, token.Text) {
			return token.Text
		}
	}
	return address
}

func isSocket(u *reverseproxy.Upstream) bool { return strings.HasPrefix(u.Dial, "unix") }

// Target is the server of one handler. Exactly one of its fields direct and proxy is
// set.
type Target struct {
	addresses []string
	direct    *upstream.Client      // for a config with one address and no options
	proxy     *reverseproxy.Handler // for all other configs
}

// Load returns the target that the config describes.
func Load(ctx caddy.Context, config Config) (*Target, error) {
	t := &Target{addresses: Addresses(config)}
	options, ok, err := simple(config)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	if ok {
		t.direct = upstream.New(options)
		return t, nil
	}
	module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", withIdleConnections(config))
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	t.proxy = module.(*reverseproxy.Handler)
	return t, nil
}

// idleConnections is Caddy's default transport, with more idle connections. With the
// default, 32 for each server, most of a hundred concurrent agents would have to dial
// for each call.
const idleConnections = `{"protocol":"http","keep_alive":{"probe_interval":"30s","idle_timeout":"2m","max_idle_conns_per_host":1024}}`

// withIdleConnections adds idleConnections to a config without a transport.
func withIdleConnections(config Config) Config {
	var proxy map[string]json.RawMessage
	if json.Unmarshal(config, &proxy) != nil || proxy["transport"] != nil {
		return config // the config has a transport of its own, or is invalid, which Caddy itself reports
	}
	proxy["transport"] = Config(idleConnections)
	return caddyconfig.JSON(proxy, nil)
}

// Addresses returns the addresses in the config. It leaves out addresses that Caddy
// finds out for each request.
func Addresses(config Config) (all []string) {
	var proxy struct {
		Upstreams []struct {
			Dial string `json:"dial"`
		} `json:"upstreams"`
	}
	_ = json.Unmarshal(config, &proxy) // Load reports an invalid config
	for _, u := range proxy.Upstreams {
		all = append(all, u.Dial)
	}
	return all
}

// simple returns the options of an upstream.Client that can replace the reverse_proxy
// in the config. If there is no such client, because the config needs a reverse_proxy,
// ok is false.
func simple(config Config) (o upstream.Options, ok bool, err error) {
	var plain struct {
		Upstreams []struct {
			Dial string `json:"dial"`
		} `json:"upstreams"`
		Headers struct {
			Request struct {
				Set map[string][]string `json:"set"`
			} `json:"request"`
		} `json:"headers"`
	}
	strict := json.NewDecoder(bytes.NewReader(config))
	strict.DisallowUnknownFields()
	host := []string(nil)
	if strict.Decode(&plain) == nil {
		host = plain.Headers.Request.Set["Host"]
	}
	if len(plain.Upstreams) != 1 || len(plain.Headers.Request.Set) != 1 || len(host) != 1 {
		return o, false, nil
	}
	dial, err := caddy.NewReplacer().ReplaceOrErr(plain.Upstreams[0].Dial, true, false)
	if err != nil {
		return o, false, err
	}
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil || address.PortRangeSize() > 1 || address.Network != "tcp" && address.Network != "unix" || strings.Contains(dial, "{") {
		return o, false, nil // a reverse_proxy either knows this form of address or reports the mistake
	}
	o = upstream.Options{Network: address.Network, Address: address.JoinHostPort(0), Host: host[0], Trusted: Trusted}
	if o.Host == hostport {
		o.Host = o.Address
	}
	if strings.ContainsAny(o.Host, "{ \t\r\n/") || proxied(o.Address) {
		return o, false, nil
	}
	return o, true, nil
}

// proxied reports whether the environment names an HTTP proxy for the address. A
// reverse_proxy would use that HTTP proxy.
func proxied(address string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "http", Host: address}})
	return proxy != nil || err != nil
}

// Client returns the client's address as Caddy has determined it with the help of
// its trusted proxies. If the address is unknown, it returns the zero Addr.
func Client(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	client, _ := netip.ParseAddr(text)
	return client
}

// Trusted reports whether the request came from one of Caddy's trusted proxies.
func Trusted(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// Direct returns the client of a server that needs no reverse_proxy, or nil.
func (t *Target) Direct() *upstream.Client { return t.direct }

// Addresses returns the addresses that the config names.
func (t *Target) Addresses() []string { return t.addresses }

// Rewrites reports whether the target changes the paths of requests.
func (t *Target) Rewrites() bool { return t.proxy != nil && t.proxy.Rewrite != nil }

// Close closes idle connections.
func (t *Target) Close() {
	if t.direct != nil {
		t.direct.Close()
	}
}

// ServeHTTP sends a request to the server.
func (t *Target) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	if t.proxy != nil {
		return t.proxy.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(http.StatusBadGateway, errors.New("a handle_response has no handler that answers"))
		}))
	}
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return err
		}
	}
	return t.direct.Send(w, r, body)
}
