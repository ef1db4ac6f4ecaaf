package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/caddymodule/console"
	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/internal/cli"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/people"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name: cli.Name, Usage: cli.Usage, Short: cli.Short, Long: cli.Long,
		CobraFunc: func(root *cobra.Command) {
			cli.AddTo(root, reach.Host{
				ReadConfig: readConfig, InstalledConfig: "/etc/farebox/Caddyfile", Installation: installation, AdminAddress: adminAddress, SplitAddress: splitAddress,
				DataDir: dataDir, Serve: serve, ExitError: exitError,
			})
		},
	})
}

// serve serves a config until stop is called.
func serve(config []byte) (stop func(), err error) {
	*caddy.Log() = *caddy.Log().WithOptions(zap.IncreaseLevel(zap.ErrorLevel)) // Caddy logs where its log goes
	return func() { _ = caddy.Stop() }, caddy.Load(config, true)
}

// readConfig returns a config file as JSON. It does not use caddycmd.LoadConfig,
// which logs to standard error. The file "-" is standard input.
func readConfig(file, adapter string) ([]byte, error) {
	file = cmp.Or(file, "Caddyfile")
	read := os.ReadFile
	if file == "-" {
		read = func(string) ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	text, err := read(file)
	if err != nil {
		return nil, err
	}
	if adapter == "" && (strings.HasPrefix(filepath.Base(file), "Caddyfile") || strings.HasSuffix(file, ".caddyfile") || strings.HasSuffix(file, ".Caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return text, nil
	}
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("unknown config adapter %q", adapter)
	}
	config, _, err := a.Adapt(text, map[string]any{"filename": file})
	return config, err
}

// adminAddress returns the admin address that a config names, or Caddy's default.
func adminAddress(config []byte) (string, error) {
	var parsed struct {
		Admin struct {
			Listen string `json:"listen"`
		} `json:"admin"`
	}
	if config != nil {
		if err := json.Unmarshal(config, &parsed); err != nil {
			return "", fmt.Errorf("the config cannot be read: %w", err)
		}
	}
	if parsed.Admin.Listen == "" {
		return caddy.DefaultAdminListen, nil
	}
	return caddy.NewReplacer().ReplaceKnown(parsed.Admin.Listen, ""), nil
}

// splitAddress returns the network and the address to dial for an admin address, and
// the host of requests to it.
func splitAddress(address string) (network, target, host string, err error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 || !strings.HasPrefix(parsed.Network, "tcp") && !parsed.IsUnixNetwork() {
		return "", "", "", fmt.Errorf("admin address %q cannot be used: want host:port or unix//path", address)
	}
	if parsed.IsUnixNetwork() {
		path, _, _ := strings.Cut(parsed.Host, "|") // the part after the "|" is the socket's mode
		return parsed.Network, path, "127.0.0.1", nil
	}
	return parsed.Network, parsed.JoinHostPort(0), parsed.JoinHostPort(0), nil
}

// exitError returns an error that makes Caddy exit with the code. The error comes from
// Caddy's own wrapper, because Caddy takes exit codes from no other errors.
func exitError(code int) error {
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(new(cobra.Command), nil)
}

// installation returns the installation that a config describes. It is for commands
// that work without a server.
func installation(config []byte) (*reach.Installation, error) {
	app, err := configuredApp(config)
	if err != nil {
		return nil, err
	}
	settings, err := peopleIn(config)
	if err != nil {
		return nil, err
	}
	return &reach.Installation{
		Currency: app.Currency, Settings: app.settings, People: settings, ReceiptKeyFile: app.ReceiptKeyFile,
		StoreName: app.source.Name, StoreFile: app.source.File, RestoreTo: app.storeFile,
		Connect: func() error {
			if app.source.Migrate == nil {
				return stores.ErrNoOwnStore
			}
			if err := app.source.Connect(); err != nil {
				return fmt.Errorf("store: %w", err)
			}
			return nil
		},
		Open: func(ctx context.Context, log *slog.Logger) (reach.Store, error) {
			store, err := app.source.Open(ctx, log, stores.Events{NearCap: nearCap(log)})
			if err != nil {
				return nil, err
			}
			managed, ok := store.(reach.Store)
			if !ok {
				return nil, errors.Join(stores.ErrNoOwnStore, store.Close())
			}
			return managed, nil
		},
		Migrate: app.source.Migrate,
	}, nil
}

// configuredApp returns the app of a config that is not running.
func configuredApp(config []byte) (*App, error) {
	var parsed struct {
		Apps struct {
			Farebox App `json:"farebox"`
		} `json:"apps"`
	}
	if len(config) == 0 {
		return nil, reach.ErrNoConfig
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

// serversIn returns the sorted names of all servers in the routes of a config that
// is not running.
func serversIn(config []byte) []string {
	var names []string
	eachHandler(config, func(name string, handler map[string]any) {
		switch name {
		case "farebox":
			names = append(names, stringOf(handler["server"]))
		case "farebox_platform":
			servers, _ := handler["servers"].([]any)
			for _, server := range servers {
				if s, ok := server.(map[string]any); ok {
					names = append(names, stringOf(s["server"]))
				}
			}
		}
	})
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// peopleIn returns the settings for people, the users of the console, from the
// console's part of a config that is not running. It returns nil if the config has no
// console.
func peopleIn(config []byte) (settings *people.Settings, err error) {
	eachHandler(config, func(name string, handler map[string]any) {
		if name == "farebox_console" && settings == nil && err == nil {
			settings, err = console.Settings([]byte(textOf(handler)))
		}
	})
	return settings, err
}

// eachHandler calls do(name, handler) with the name and the decoded JSON of each
// handler in the routes of a config.
func eachHandler(config []byte, do func(name string, handler map[string]any)) {
	var tree any
	if json.Unmarshal(config, &tree) != nil {
		return
	}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, item := range node {
				walk(item)
			}
		case map[string]any:
			do(stringOf(node["handler"]), node)
			for _, item := range node {
				walk(item)
			}
		}
	}
	walk(tree)
}

// stringOf returns v if it is a string, otherwise the empty string.
func stringOf(v any) string {
	s, _ := v.(string)
	return s
}
