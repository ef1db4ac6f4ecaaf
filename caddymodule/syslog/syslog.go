// Package syslog lets Caddy's logs be written to a syslog server, in the format of RFC
// 5424.
package syslog

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/syslog"
)

func init() { caddy.RegisterModule(Writer{}) }

// Writer sends each line of a log to a syslog server as a message of RFC 5424. It
// connects when the first line is written, and again after a failure. A slow server
// does not delay the program: up to 4096 lines wait while the server cannot be reached,
// and further lines are lost. Messages on standard error say that the server cannot be
// reached, and how many lines were lost.
type Writer struct {
	// The server: `udp/host:port`, `tcp/host:port`, `unixgram//path` or `unix//path`.
	// Streams are framed by octet counting (RFC 6587). Default of the port: 514.
	Address string `json:"address,omitempty"`

	// The facility of all messages, by its name in RFC 5424, such as `auth`, `audit`
	// or `local0`. Default: `daemon`.
	Facility string `json:"facility,omitempty"`

	// The severity of all messages, such as `notice`. Default: `info`.
	Severity string `json:"severity,omitempty"`

	// The APP-NAME of all messages. Default: `farebox`.
	AppName string `json:"app_name,omitempty"`

	options syslog.Options
}

// CaddyModule returns the Caddy module information.
func (Writer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.farebox_syslog", New: func() caddy.Module { return new(Writer) }}
}

// Provision checks the config. It connects to nothing, because `caddy validate` also
// calls Provision.
func (w *Writer) Provision(caddy.Context) error {
	address, err := caddy.NewReplacer().ReplaceOrErr(w.Address, true, true)
	if err == nil {
		err = w.complete(address)
	}
	if err != nil {
		return fmt.Errorf("farebox_syslog: %w", err)
	}
	return nil
}

// networks lists the kinds of networks over which a syslog server can be reached.
var networks = []string{"udp", "udp4", "udp6", "tcp", "tcp4", "tcp6", "unixgram", "unix"}

const defaultPort = 514

// parseAddress returns the network and the address of a server.
func parseAddress(text string) (network, address string, err error) {
	parsed, err := caddy.ParseNetworkAddressWithDefaults(text, "", defaultPort)
	if err != nil || !slices.Contains(networks, parsed.Network) || parsed.PortRangeSize() > 1 || parsed.Host == "" {
		return "", "", fmt.Errorf("address %q: want udp/host:port, tcp/host:port, unixgram//path or unix//path", text)
	}
	if parsed.IsUnixNetwork() {
		return parsed.Network, parsed.Host, nil
	}
	return parsed.Network, parsed.JoinHostPort(0), nil
}

// complete checks the config and fills w.options.
func (w *Writer) complete(address string) error {
	priority, err := syslog.NewPriority(cmp.Or(w.Facility, "daemon"), cmp.Or(w.Severity, "info"))
	if err != nil {
		return err
	}
	name := cmp.Or(w.AppName, "farebox")
	if err := syslog.CheckAppName(name); err != nil {
		return err
	}
	network, at, err := parseAddress(address)
	w.options = syslog.Options{Network: network, Address: at, Priority: priority, AppName: name, Report: report}
	return err
}

// report writes to standard error, because Caddy's logs may lead to this writer.
func report(sentence string) { fmt.Fprintln(os.Stderr, "farebox_syslog: "+sentence) }

// String names the server.
func (w *Writer) String() string { return w.options.Network + "/" + w.options.Address }

// WriterKey identifies the config. Logs with the same key share a writer, which stays
// open when a reload keeps the key.
func (w *Writer) WriterKey() string {
	return fmt.Sprintf("farebox_syslog:%s:%d:%s", w, w.options.Priority, w.options.AppName)
}

// OpenWriter returns a writer, which is not connected yet.
func (w *Writer) OpenWriter() (io.WriteCloser, error) { return syslog.New(w.options), nil }

// UnmarshalCaddyfile sets the writer up from the output of a log:
//
//	output farebox_syslog <address> {
//	    facility <name>
//	    severity <name>
//	    app_name <name>
//	}
func (w *Writer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the writer's name
	if err := grammar.Arg(d, &w.Address); err != nil {
		return err
	}
	if !strings.Contains(w.Address, "{") { // Provision checks an address with placeholders
		if _, _, err := parseAddress(w.Address); err != nil {
			return d.WrapErr(fmt.Errorf("farebox_syslog: %w", err))
		}
	}
	return grammar.Block(d, "farebox_syslog", grammar.Subdirectives{
		"facility": grammar.Checked(&w.Facility, func(name string) error {
			_, err := syslog.NewPriority(name, "info")
			return err
		}),
		"severity": grammar.Checked(&w.Severity, func(name string) error {
			_, err := syslog.NewPriority("daemon", name)
			return err
		}),
		"app_name": grammar.Checked(&w.AppName, syslog.CheckAppName),
	})
}

// Interface guards: the compiler checks that Writer implements these interfaces.
var (
	_ caddy.Provisioner     = (*Writer)(nil)
	_ caddy.WriterOpener    = (*Writer)(nil)
	_ caddyfile.Unmarshaler = (*Writer)(nil)
)
