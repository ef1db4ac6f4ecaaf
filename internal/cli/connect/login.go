package connect

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/bridge"
	"github.com/fareboxhq/farebox/internal/bridge/login"
	"github.com/fareboxhq/farebox/internal/bridge/tokens"
)

// signInFlags adds the flags of a sign-in.
func (o *options) signInFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.clientID, "client-id", "", "The id of an OAuth client that the authorization server knows; otherwise one is registered")
	flags.BoolVar(&o.noBrowser, "no-browser", false, "Print the address of the sign-in, and open no browser")
}

// source returns the tokens of sign-ins at a server.
func (o *options) source(server *url.URL, notes io.Writer, paste io.Reader) (*login.Source, error) {
	dir, err := tokens.Dir()
	if err != nil {
		return nil, err
	}
	options := login.Options{
		Server: server, Store: tokens.New(dir, tokens.System()), ClientID: o.clientID, Paste: paste, Open: login.Browse,
		Say: func(format string, args ...any) {
			_, _ = fmt.Fprintf(notes, "farebox connect: %s\n", fmt.Sprintf(format, args...)) // a lost note changes nothing
		},
	}
	if o.noBrowser {
		options.Open = nil
	}
	return login.New(options), nil
}

// addSource lets a bridge without a token sign in. Without a place for tokens it cannot,
// which matters only if the server requires a token.
func (o *options) addSource(options *bridge.Options) {
	source, err := o.source(options.URL, options.Notes, nil)
	if err != nil {
		_, _ = fmt.Fprintf(options.Notes, "farebox connect: nobody can sign in: %v\n", err) // a lost note changes nothing
		return
	}
	options.Tokens = source
}

// sourceAt returns the tokens of sign-ins at the server with an address that a person has
// written.
func (o *options) sourceAt(address string, notes io.Writer, paste io.Reader) (*login.Source, error) {
	u, err := readURL(address)
	if err != nil {
		return nil, err
	}
	if err := bridge.CheckURL(u, false, false); err != nil {
		return nil, err
	}
	if err := login.CheckServer(u); err != nil {
		return nil, err
	}
	return o.source(u, notes, paste)
}

const loginLong = `Signs in at a server with OAuth, in a browser. "farebox connect" uses the tokens from
then on, and renews them. They are kept in the keyring of the system or, where none
answers, in a file that only you can read.

If the browser is on another machine, it ends at an address that it cannot open:
paste that address here.`

func loginCommand(begin func(), asJSON *bool) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "login <url>", Short: "Signs in at a server in a browser", Long: loginLong, Args: oneURL,
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := o.sourceAt(args[0], cmd.ErrOrStderr(), cmd.InOrStdin())
			if err != nil {
				return err
			}
			begin()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			place, err := source.Start(ctx)
			if err != nil {
				return err
			}
			if place == "" {
				place = "the place that another program has chosen"
			}
			return printEnd(cmd.OutOrStdout(), *asJSON, signInEnd{Place: place}, "Signed in. The tokens are in "+place+".")
		},
	}
	o.signInFlags(cmd)
	return cmd
}

// signInEnd and signOutEnd are the outputs for programs.
type (
	signInEnd struct {
		Place string `json:"place"` // where the tokens are, for people
	}
	signOutEnd struct {
		Deleted bool `json:"deleted"` // there were tokens
	}
)

// printEnd prints an output for programs, or a text for people.
func printEnd(w io.Writer, asJSON bool, output any, text string) error {
	if asJSON {
		return json.NewEncoder(w).Encode(output)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func logoutCommand(begin func(), asJSON *bool) *cobra.Command {
	var o options
	return &cobra.Command{
		Use: "logout <url>", Short: "Revokes and deletes the tokens of a sign-in", Args: oneURL,
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := o.sourceAt(args[0], cmd.ErrOrStderr(), nil)
			if err != nil {
				return err
			}
			begin()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			found, err := source.End(ctx)
			if err != nil {
				return err
			}
			text := "Signed out. The tokens were revoked and deleted."
			if !found {
				text = "There were no tokens for this server."
			}
			return printEnd(cmd.OutOrStdout(), *asJSON, signOutEnd{Deleted: found}, text)
		},
	}
}
