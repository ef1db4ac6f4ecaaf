package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// The exit codes of the commands, which scripts may rely on.
const (
	exitFailed      = 1 // anything else; also books or a receipt that do not verify
	exitUsage       = 2 // the command line is wrong; nothing was asked
	exitRefused     = 3 // the operation was refused
	exitNotFound    = 4 // what it names is not there
	exitUnavailable = 5 // no server answers, or its store is down
)

const exitCodesText = `
Exit codes: 0 done; 1 failed, or what was verified does not hold; 2 the command
line is wrong; 3 refused; 4 not found; 5 no server answers, or its store is
down. With --json an error is {"error": {"code", "message"}} on stderr.`

// failure is an error as --json prints it.
type failure struct {
	Code    admin.Code `json:"code"`
	Message string     `json:"message"`
}

// The codes of failures that no server has answered with.
const (
	codeUsage  admin.Code = "USAGE"
	codeFailed admin.Code = "FAILED"
)

// unreachableError says that no server could be asked.
type unreachableError struct{ message error }

func (e *unreachableError) Error() string { return e.message.Error() }
func (e *unreachableError) Unwrap() error { return e.message }

// classify returns the exit code of an error and its stable code. asked says
// whether the command line was accepted and the operation begun.
func classify(err error, asked bool) (exit int, code admin.Code) {
	var refused *admin.Error
	var unreachable *unreachableError
	switch {
	case errors.As(err, &refused):
		switch refused.Code {
		case admin.NotFound:
			return exitNotFound, refused.Code
		case admin.Unavailable:
			return exitUnavailable, refused.Code
		default:
			return exitRefused, refused.Code
		}
	case errors.As(err, &unreachable), errors.Is(err, sqlitestore.ErrLocked):
		return exitUnavailable, admin.Unavailable
	case !asked:
		return exitUsage, codeUsage
	default:
		return exitFailed, codeFailed
	}
}

// reportErrors has the command and those below it print their errors, as JSON
// with --json, and exit with the code of their kind.
func reportErrors(c *connection, cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		reportErrors(c, below)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.report(cmd, run(cmd, args)) }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return c.report(cmd, check(cmd, args)) }
	}
	flagError := cmd.FlagErrorFunc()
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return c.report(cmd, flagError(cmd, err)) })
}

// report prints an error and returns one that carries its exit code.
func (c *connection) report(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	exit, code := classify(err, c.asked)
	out := cmd.ErrOrStderr()
	// A flag that is wrong ends the reading of those that follow it.
	if c.json || slices.Contains(os.Args, "--json") {
		printFailure(out, failure{code, err.Error()})
	} else {
		fmt.Fprintln(out, "Error:", err)
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if exit == exitFailed {
		return err
	}
	// Only Caddy's wrapper makes errors that its main turns into other codes.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return exit, nil })(cmd, nil)
}

func printFailure(out io.Writer, f failure) {
	_ = printJSON(out, struct {
		Error failure `json:"error"`
	}{f}) // there is nowhere else to say it
}
