package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// These are the exit codes of the commands. Scripts may rely on them.
const (
	exitFailed      = 1 // any other error, including books or a receipt that do not verify
	exitUsage       = 2 // wrong command line; no request was sent
	exitRefused     = 3 // the server refused the operation
	exitNotFound    = 4 // no such account, key, charge or server
	exitUnavailable = 5 // no server answers, its store is down, or it is not ready
)

const exitCodesText = `
Exit codes: 0 done; 1 failed, or what was verified does not hold; 2 the command
line is wrong; 3 refused; 4 not found; 5 no server answers, its store is down,
or it is not ready. With --json an error is {"error": {"code", "message"}} on stderr.`

// failure is an error in the JSON output.
type failure struct {
	Code    admin.Code `json:"code"`
	Message string     `json:"message"`
}

// These are the codes of errors that do not come from the server.
const (
	codeUsage  admin.Code = "USAGE"
	codeFailed admin.Code = "FAILED"
)

// classify returns the exit code and the stable code of err. An error before the
// command line was accepted (begun is false) is a usage error, unless a server or a
// store has returned it.
func classify(err error, begun bool) (exit int, code admin.Code) {
	var refused *admin.Error
	var unreachable *reach.UnreachableError
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
	case !begun:
		return exitUsage, codeUsage
	default:
		return exitFailed, codeFailed
	}
}

// reportErrors makes cmd and its subcommands print their own errors and exit with
// the matching exit code. With --json they print errors as JSON.
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

// report prints err and returns an error that carries its exit code.
func (c *connection) report(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	exit, code := classify(err, c.Begun)
	out := cmd.ErrOrStderr()
	// pflag stops parsing at the first invalid flag, so c.json does not reflect a
	// --json that follows it.
	if c.json || slices.Contains(os.Args, "--json") {
		printFailure(out, failure{code, short(err.Error())})
	} else {
		fmt.Fprintln(out, "Error:", short(err.Error()))
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if exit == exitFailed {
		return err
	}
	return c.Host.ExitError(exit)
}

func printFailure(out io.Writer, f failure) {
	_ = printJSON(out, struct {
		Error failure `json:"error"`
	}{f}) // a failed write cannot be reported anywhere
}
