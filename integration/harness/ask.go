package harness

import (
	"net/http"
	"path/filepath"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

// AdminClient returns a client of the gateway's admin endpoint, for tests that
// ask more often than there is time for commands. It is for one goroutine.
func (g *Gateway) AdminClient() *ops.Client {
	return &ops.Client{HTTP: http.DefaultClient, Host: g.Admin, Token: func() (string, error) {
		return admin.ReadToken(admin.TokenFile(filepath.Join(g.Dir, "xdg-data", "caddy", "farebox"), g.Admin))
	}}
}
