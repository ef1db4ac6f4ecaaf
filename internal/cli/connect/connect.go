// Package connect implements the command "farebox connect", which an MCP client starts
// as a server on stdin and stdout.
package connect

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/bridge"
	"github.com/fareboxhq/farebox/internal/bridge/login"
	"github.com/fareboxhq/farebox/internal/bridge/purse"
	"github.com/fareboxhq/farebox/internal/bridge/tokens"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const long = `Connects an MCP client that only starts programs (stdio) with a server that is
reached over HTTP. The client starts this command, as in

	{"mcpServers": {"weather": {
		"command": "farebox", "args": ["connect", "https://mcp.example.com/mcp"],
		"env": {"AGENT_TOKEN": "sk_live_…"}}}}

The token comes from the environment variable AGENT_TOKEN, or from --token-file, and
is never an argument, which other users of the machine could see. It is sent over
https:// and to this machine only, unless there is --insecure. Without a token, a
server with OAuth is asked where to sign in, and a browser opens. The tokens are kept
in the keyring, or in a file that only you can read. "farebox connect login" does the
same at a terminal, and "farebox connect logout" ends it.

Each call that may be charged has an idempotency key of its own. If its answer is
lost, the call is repeated with the same key, so it is not paid twice.

--max-price refuses calls that cost more. --budget refuses calls that would make
the sum of this connection exceed the amount; it starts anew with each start.

Only messages go to standard output. Notes for people go to standard error, where
most clients keep them in a log. The command ends when its client closes its
standard input, and at SIGTERM.`

// Command returns the command. begin is called when the command line was accepted, so
// that later errors are not taken for mistakes in it. json is the value of the flag
// --json, which the commands for sign-ins follow.
func Command(begin func(), json *bool) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "connect <url>", Short: "Connects an MCP client on stdin and stdout with a server", Long: long,
		Args: oneURL,
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := o.read(args[0], os.Getenv("AGENT_TOKEN"))
			if err != nil {
				return err
			}
			options.Notes = cmd.ErrOrStderr()
			if options.Token == "" && login.CheckServer(options.URL) == nil {
				o.addSource(&options)
			}
			b, err := bridge.New(options)
			if err != nil {
				return err
			}
			begin()
			signal.Ignore(syscall.SIGPIPE) // a client that has left must not keep the session from being ended
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return b.Run(ctx, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.tokenFile, "token-file", "", "A file with the token, in place of AGENT_TOKEN; only its owner may read it")
	flags.BoolVar(&o.insecure, "insecure", false, "Send the token without encryption, to http:// addresses of other machines")
	flags.BoolVar(&o.verbose, "verbose", false, "Report on stderr what each paid call cost, what was spent, and what is left")
	flags.StringVar(&o.maxPrice, "max-price", "", "The highest price of one call, as in 0.05")
	o.signInFlags(cmd)
	cmd.AddCommand(loginCommand(begin, json), logoutCommand(begin, json))
	flags.StringVar(&o.budget, "budget", "", "The highest sum of all calls of this connection, as in 5.00")
	return cmd
}

// oneURL requires the URL, and nothing else.
func oneURL(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return fmt.Errorf("the URL of the server is missing: %s https://host/path", cmd.CommandPath())
	case 1:
		return nil
	}
	return fmt.Errorf("there are %d arguments: want the URL of the server alone", len(args)) // which may be a token, so they are not shown
}

// options are the flags of the command.
type options struct {
	tokenFile, maxPrice, budget string
	insecure, verbose           bool

	clientID  string
	noBrowser bool
}

// read returns the options of the bridge. token is that of the environment.
func (o *options) read(address, token string) (bridge.Options, error) {
	out := bridge.Options{Plain: o.insecure, Verbose: o.verbose}
	var err error
	if out.URL, err = readURL(address); err != nil {
		return out, err
	}
	if out.Limits, err = o.limits(); err != nil {
		return out, err
	}
	if o.tokenFile != "" {
		if token, err = readToken(o.tokenFile); err != nil {
			return out, err
		}
	}
	out.Token, err = checkToken(token, cmp.Or(o.tokenFile, "AGENT_TOKEN"))
	return out, err
}

// readURL reads the URL of a server. An error of net/url would repeat a secret in it.
func readURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the URL cannot be read: want https://host/path")
	}
	return u, nil
}

func (o *options) limits() (limits purse.Limits, err error) {
	if limits.MaxPrice, err = amount("--max-price", o.maxPrice); err != nil {
		return limits, err
	}
	limits.Budget, err = amount("--budget", o.budget)
	return limits, err
}

// amount reads the amount of a flag, or nil if the flag is not there.
func amount(flag, text string) (*ledger.Amount, error) {
	if text == "" {
		return nil, nil
	}
	a, err := ledger.ParseAmount(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if a < 0 {
		return nil, fmt.Errorf("%s %s: want an amount of at least 0", flag, text)
	}
	return &a, nil
}

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// readToken reads a token from a file that nobody but its owner can read.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("--token-file: the file cannot be opened: %w", failed.Err) // without its name, which could be a token
	}
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if tokens.Exposed(info.Mode()) {
		return "", fmt.Errorf("--token-file %s: other users can read it (mode %04o): run chmod 600 %s", file, info.Mode().Perm(), quote(file))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("--token-file %s: there is no token in it", file)
	}
	return string(text), nil
}

// quote quotes a name for a POSIX shell.
func quote(name string) string { return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'" }

// checkToken returns the token without the white space around it. Its error names the
// source of the token, and never the token.
func checkToken(token, source string) (string, error) {
	token = strings.TrimSpace(token)
	if len(token) > maxToken {
		return "", fmt.Errorf("the token of %s has more than %d bytes", source, maxToken)
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return "", fmt.Errorf("the token of %s has spaces or other characters that no token has: it must be the token alone, without Bearer", source)
		}
	}
	return token, nil
}
