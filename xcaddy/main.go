// Command xcaddy is Caddy with its standard modules and Farebox: the build
// that is released. For other plugins, build Caddy with the tool of the same name
// from github.com/fareboxhq/farebox/caddymodule.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	_ "time/tzdata" // for systems without time zones

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
		// Show Caddy's warnings about the config, and not how it found the file.
		*caddy.Log() = *caddy.Log().WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	caddycmd.Main()
}

// whole inserts the command "farebox" before Farebox's own commands, so that a
// binary of that name accepts "farebox account create". Help and shell completion
// put their own command first.
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
