// Command xcaddy is Caddy with its standard modules and Farebox. Releases are built
// from it. To add other plugins, build Caddy with the tool xcaddy and the package
// github.com/fareboxhq/farebox/caddymodule.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	_ "time/tzdata" // for systems without a time zone database

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	_ "github.com/fareboxhq/farebox/caddymodule"
	"github.com/fareboxhq/farebox/internal/cli"
)

func main() {
	os.Args = whole(os.Args)
	if len(os.Args) == 2 && (os.Args[1] == "version" || os.Args[1] == "--version") {
		fmt.Printf("Farebox %s\nCaddy ", version()) // Caddy's command appends its own version
		os.Args[1] = "version"
	}
	if len(os.Args) > 1 && os.Args[1] == "validate" {
		// Log only warnings and errors: Caddy also logs how it found the config
		// file.
		*caddy.Log() = *caddy.Log().WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	caddy.CustomBinaryName, caddy.CustomLongDescription = cli.Name, cli.Overview()
	caddycmd.Main()
}

// whole inserts the word "farebox" before one of Farebox's own commands, so that a
// binary named farebox accepts "farebox account create". In a command line for help
// or shell completion, Farebox's command comes second, after "help" or the
// completion command.
func whole(args []string) []string {
	at := 1
	if len(args) > 2 && (args[1] == cobra.ShellCompRequestCmd || args[1] == cobra.ShellCompNoDescRequestCmd || args[1] == "help") {
		at = 2
	}
	if len(args) <= at || !slices.Contains(cli.Names(), args[at]) {
		return args
	}
	return slices.Insert(slices.Clone(args), at, "farebox")
}

// version returns this module's version and commit, as recorded in the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	if text == "" {
		text = "(devel)"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			text += " " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			text += " with changes"
		}
	}
	return text
}
