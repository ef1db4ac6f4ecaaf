package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// callStore carries one operation out on the store itself, through the same
// handler as a server would.
func (c *connection) callStore(ctx context.Context, method, path string, body any) (_ json.RawMessage, err error) {
	app, err := c.configured()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(app.identity); errors.Is(err, fs.ErrNotExist) && method == http.MethodGet {
		return nil, fmt.Errorf("there is no store at %s yet: is this the right config, in the right directory?", app.identity)
	}
	if err := makeDir(filepath.Dir(app.identity)); err != nil {
		return nil, err
	}
	store, err := sqlitestore.Open(ctx, sqlitestore.Options{Path: app.identity})
	if errors.Is(err, sqlitestore.ErrLocked) {
		return nil, refusedOffline(err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	now := func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	handler := admin.NewHandler(admin.New(store, nil, func() *keys.Format { return app.secrets }, now), "offline", slog.Default())
	client := admin.Client{HTTP: &http.Client{Transport: inProcess{handler}}, Host: "offline"}
	return client.Do(ctx, method, path, body)
}

var errNoConfig = errors.New("no config names the store: give one with --config")

// configured returns the app of the config: where its store is, and the form of
// its secrets.
func (c *connection) configured() (*App, error) {
	config, _, _, err := caddycmd.LoadConfig(c.config, c.adapter)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Apps struct {
			Farebox App `json:"farebox"`
		} `json:"apps"`
	}
	if len(config) == 0 {
		return nil, errNoConfig
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, fmt.Errorf("the config cannot be read: %w", err)
	}
	app := &parsed.Apps.Farebox
	if err := app.fill(); err != nil {
		return nil, err
	}
	return app, app.Validate()
}

// inProcess is a transport that is served by a handler of this process.
type inProcess struct{ handler http.Handler }

// RoundTrip serves the request.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	answer := &memoryWriter{header: make(http.Header), status: http.StatusOK}
	p.handler.ServeHTTP(answer, r)
	return &http.Response{
		StatusCode: answer.status, Header: answer.header, Body: io.NopCloser(&answer.body),
		ContentLength: int64(answer.body.Len()), Request: r,
	}, nil
}

// memoryWriter keeps a response in memory.
type memoryWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header         { return w.header }
func (w *memoryWriter) WriteHeader(status int)      { w.status = status }
func (w *memoryWriter) Write(p []byte) (int, error) { return w.body.Write(p) }
