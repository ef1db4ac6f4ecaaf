// Command xcaddy is Caddy with its standard modules and Farebox. Releases are built
// from it. To add other plugins, build Caddy with the tool xcaddy and the package
// github.com/fareboxhq/farebox/caddymodule.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
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
	if slices.Equal(os.Args[1:], []string{"completion", "bash"}) {
		if err := bashCompletion(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	offerNames(os.Stdout, os.Args)
	os.Args = whole(os.Args)
	if len(os.Args) == 2 && (os.Args[1] == "version" || os.Args[1] == "--version") {
		fmt.Printf("Farebox %s\nCaddy ", version()) // Caddy's command then prints its own version
		os.Args[1] = "version"
	}
	if len(os.Args) > 1 && os.Args[1] == "validate" {
		// Log only warnings and errors, because Caddy otherwise logs how it found the
		// config file.
		*caddy.Log() = *caddy.Log().WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	caddy.CustomBinaryName, caddy.CustomLongDescription = cli.Name, cli.Overview()
	caddycmd.Main()
}

// whole inserts the word "farebox" before one of Farebox's own commands, so that a
// binary named farebox accepts "farebox account create". In a command line for help or
// for shell completion, Farebox's command is the second word, after "help" or the
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

// bashCompletion writes a script that asks this binary for the words that can follow in
// a command line. Caddy's own script for bash is unsuitable, because it has a fixed
// list of commands, with Farebox's commands only after the word "farebox". Caddy's
// scripts for other shells ask the binary, too.
func bashCompletion(w io.Writer) error {
	return (&cobra.Command{Use: cli.Name}).GenBashCompletionV2(w, true)
}

// offerNames prints those of Farebox's own commands that begin with the first word of a
// command line. It does so only if a shell asks for completions of that word.
// Afterwards, Caddy prints its own commands and the end of the list.
func offerNames(w io.Writer, args []string) {
	if len(args) != 3 || args[1] != cobra.ShellCompRequestCmd && args[1] != cobra.ShellCompNoDescRequestCmd || strings.HasPrefix(args[2], "-") {
		return
	}
	for _, name := range cli.Names() {
		if strings.HasPrefix(name, args[2]) {
			fmt.Fprintln(w, name)
		}
	}
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
