package caddymodule

import (
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/share"
)

func init() { caddy.RegisterModule(Connections{}) }

// Connections limits how many connections without a valid key a listener may have open.
// A connection counts as one until it has brought a request with a valid key. All
// connections without a key together may use three quarters of the limit `connections`,
// and those from one address may use half of that limit. If a new connection exceeds
// one of these two bounds, the oldest connection without a key is closed.
//
// The wrapper belongs first among the `listener_wrappers` of a server, but after
// `proxy_protocol`, which finds the address of the client.
type Connections struct{}

// CaddyModule returns the Caddy module information.
func (Connections) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.farebox", New: func() caddy.Module { return new(Connections) }}
}

// WrapListener returns a listener that counts its connections.
func (*Connections) WrapListener(l net.Listener) net.Listener {
	return share.Listen(l, shares.connections)
}

// UnmarshalCaddyfile accepts the wrapper without options.
func (*Connections) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Errf("the listener wrapper farebox takes no options, not %q: its limit is that of connections in the global option", d.Val())
	}
	return nil
}

// countConnection counts a request's connection towards the holder's share; see
// share.Identify. It reports whether the connection may stay open after the response.
func countConnection(r *http.Request, holder share.Holder) bool {
	conn, _ := r.Context().Value(caddyhttp.ConnCtxKey).(net.Conn)
	return share.Identify(conn, holder)
}

// Interface guards: the compiler checks that Connections implements these interfaces.
var (
	_ caddy.ListenerWrapper = (*Connections)(nil)
	_ caddyfile.Unmarshaler = (*Connections)(nil)
)
