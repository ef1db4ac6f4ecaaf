package authserver

import (
	"sync/atomic"

	"github.com/fareboxhq/farebox/internal/oauth/server"
)

// Link connects the authorization server of a config with the console of the config, so
// that a person with a session at the console needs no key at the consent page. It is safe
// for concurrent use.
type Link struct {
	console atomic.Pointer[string] // address of the console; nil without a console
	server  atomic.Pointer[server.Server]
}

// SetConsole sets the address of the console. Call it while the config is provisioned.
func (l *Link) SetConsole(address string) { l.console.Store(&address) }

// Server returns the authorization server, or nil if the config has none or its store is
// not open yet.
func (l *Link) Server() *server.Server { return l.server.Load() }

// consent returns the address of the console's page for decisions, "" without a console.
func (l *Link) consent() string {
	if address := l.console.Load(); address != nil {
		return *address + "/connect"
	}
	return ""
}
