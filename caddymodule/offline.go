package caddymodule

import (
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
	"slices"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// reachStore lets use work on the store itself, through the same handler as a
// server would. Only what changes something makes a store that is not there.
func (c *connection) reachStore(ctx context.Context, method string, use func(*ops.Client) error) (err error) {
	app, err := c.configured()
	if err != nil {
		return err
	}
	if app.source.migrate == nil {
		return errNoOwnStore
	}
	if err := app.source.connect(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if file := app.source.file; file != "" {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && method == http.MethodGet {
			return noStore(file)
		}
		if err := makeDir(filepath.Dir(file)); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	store, err := app.source.open(ctx, log)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return refusedOffline(err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.UseCurrency(ctx, app.Currency); err != nil {
		return err
	}
	managed, ok := store.(admin.Store)
	if !ok {
		return errNoOwnStore
	}
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	service := admin.New(managed, engine.Offline(ctx, store), func() *admin.Settings { return app.settings }, now)
	if signer, err := engine.LoadSigner(app.ReceiptKeyFile); err == nil { // else what needs one says so
		service.WithSigner(signer).WithReceiptKeys(knownKeys(app.ReceiptKeyFile, signer))
	}
	handler := ops.NewAdminEndpoint(identity.As{Subject: "offline", Rights: identity.Operator}, log)
	ops.Register(handler, ops.Always(service), ops.Store())
	return use(&ops.Client{HTTP: &http.Client{Transport: inProcess{handler}}, Host: "offline"})
}

func noStore(path string) error {
	return fmt.Errorf("there is no store at %s yet: is this the right config, in the right directory?", path)
}

var errNoConfig = errors.New("no config names the store: give one with --config")

// configured returns the app of the config: where its store is, and its settings
// of keys.
func (c *connection) configured() (*App, error) {
	config, err := c.adapted()
	if errors.Is(err, fs.ErrNotExist) && c.config == "" {
		return nil, errNoConfig
	}
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
	app.settings.Servers = serversIn(config)
	return app, app.Validate()
}

// serversIn finds the servers of a config that is not run, wherever in its routes
// they are.
func serversIn(config []byte) []string {
	var tree any
	if json.Unmarshal(config, &tree) != nil {
		return nil
	}
	var names []string
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, item := range node {
				walk(item)
			}
		case map[string]any:
			if handler := node["handler"]; handler == "farebox" {
				names = append(names, stringOf(node["server"]))
			} else if handler == "farebox_platform" {
				servers, _ := node["servers"].([]any)
				for _, server := range servers {
					if s, ok := server.(map[string]any); ok {
						names = append(names, stringOf(s["server"]))
					}
				}
			}
			for _, item := range node {
				walk(item)
			}
		}
	}
	walk(tree)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// stringOf returns a value that is a string, else "".
func stringOf(v any) string {
	s, _ := v.(string)
	return s
}

// inProcess is a transport that is served by a handler of this process.
type inProcess struct{ handler http.Handler }

// RoundTrip serves the request while its answer is read. Closing the answer's
// body waits until the handler has ended.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	read, write := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: write, begun: make(chan int, 1)}
	answer := &pipeBody{PipeReader: read, ended: make(chan struct{})}
	go func() {
		defer close(answer.ended)
		p.handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = write.Close() // never fails
	}()
	status := <-w.begun
	return &http.Response{StatusCode: status, Header: w.header, Body: answer, ContentLength: -1, Request: r}, nil
}

// pipeWriter is a response whose body is read while it is written.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan int // gets the status
}

func (w *pipeWriter) Header() http.Header    { return w.header }
func (w *pipeWriter) WriteHeader(status int) { w.once.Do(func() { w.begun <- status }) }
func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// pipeBody is the body that is read.
type pipeBody struct {
	*io.PipeReader
	ended chan struct{}
}

func (b *pipeBody) Close() error {
	_ = b.PipeReader.Close() // never fails; what is written now goes nowhere
	<-b.ended
	return nil
}

// knownKeys are the public keys of receipts: those that a server has published,
// and that of the signer.
func knownKeys(file string, signer *ledger.Signer) ledger.ReceiptKeys {
	keys, err := readReceiptKeys(engine.ReceiptKeysFile(file))
	if err != nil || !keys.Has(signer.Public()) {
		keys = append(keys, signer.Public())
	}
	return keys
}
