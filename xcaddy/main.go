// Command xcaddy is Caddy with its standard modules and Farebox: the build
// that is released. An operator who needs other plugins builds their own with
// the tool of the same name, from github.com/fareboxhq/farebox/caddymodule.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	_ "time/tzdata" // where the system has no time zones

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/caddymodule"
)

func main() {
	os.Args = whole(os.Args)
	if len(os.Args) == 2 && (os.Args[1] == "version" || os.Args[1] == "--version") {
		fmt.Printf("Farebox %s\nCaddy ", version()) // and Caddy's own command goes on with its version
		os.Args[1] = "version"
	}
	if len(os.Args) > 1 && os.Args[1] == "validate" {
		// How Caddy came to the config is no part of the answer. What it warns of is.
		*caddy.Log() = *caddy.Log().WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	caddycmd.Main()
}

// whole returns a command line with the word "farebox" before Farebox's own
// commands, where people and completion leave it out: the binary has that name.
func whole(args []string) []string {
	at := 1
	if len(args) > 2 && (args[1] == cobra.ShellCompRequestCmd || args[1] == cobra.ShellCompNoDescRequestCmd || args[1] == "help") {
		at = 2
	}
	if len(args) <= at || !slices.Contains(caddymodule.Commands(), args[at]) {
		return args
	}
	return slices.Insert(slices.Clone(args), at, "farebox")
}

// version returns the version of this module and the commit that it was built
// from, as far as the build knows them.
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
