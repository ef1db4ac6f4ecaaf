package adding

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/offer"
)

// serve serves the site from a scratch directory, on a unix socket, and returns the offer
// that a client with a key gets. Nothing in the directory outlives the call.
func serve(ctx context.Context, host reach.Host, s *Site) (*offer.Offer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "farebox-add-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "site")
	trial := *s
	trial.Address, trial.bind, trial.unpriced = "http://localhost", "unix/"+socket, "free"
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tlog {\n\t\toutput discard\n\t}\n\tfarebox {\n\t\tstore sqlite %s\n\t}\n}\n%s", quote(filepath.Join(dir, "farebox.db")), trial.String())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	secret, err := key(ctx, &reach.Connection{Host: host, Offline: true, Config: file, Adapter: "caddyfile"})
	if err != nil {
		return nil, err
	}
	config, err := host.ReadConfig(file, "caddyfile")
	if err != nil {
		return nil, err
	}
	stop, err := host.Serve(config)
	if err != nil {
		return nil, err
	}
	defer stop()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	return offer.Ask(ctx, transport, "localhost", []string{"/mcp"}, http.Header{"Authorization": {"Bearer " + secret}})
}

// key makes an account and a key for it, and returns the key's secret.
func key(ctx context.Context, c *reach.Connection) (string, error) {
	if _, err := c.Call(ctx, http.MethodPost, "/accounts", map[string]string{"name": "trial"}); err != nil {
		return "", err
	}
	raw, err := c.Call(ctx, http.MethodPost, "/keys", map[string]string{"account": "trial", "kind": "agent"})
	if err != nil {
		return "", err
	}
	var made struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return "", err
	}
	return made.Secret, nil
}
