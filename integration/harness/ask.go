package harness

import (
	"net/http"
	"path/filepath"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

// AdminClient returns a client of the gateway's admin endpoint, for tests that make
// too many requests to run a command for each. The client must be used by one
// goroutine only.
func (g *Gateway) AdminClient() *ops.Client {
	return &ops.Client{HTTP: http.DefaultClient, Host: g.Admin, Token: func() (string, error) {
		return admin.ReadToken(admin.TokenFile(filepath.Join(g.Dir, "xdg-data", "caddy", "farebox"), g.Admin))
	}}
}
