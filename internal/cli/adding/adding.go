// Package adding has the command that prints the site of a Caddyfile for a server, so that
// the server can be sold, and tries the site.
package adding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/offer"
)

// askTime bounds how long a server may take to list its tools. A program that npx must
// download first needs most of it.
const askTime = 2 * time.Minute

// Command returns the command. If *asJSON is set when the command runs, it prints JSON.
func Command(host reach.Host, asJSON *bool) *cobra.Command {
	s := new(Site)
	check := true
	cmd := &cobra.Command{
		Use: "add <name> <url> | add <name> -- <command>…", Short: "Prints the site of a Caddyfile that sells a server", Args: cobra.MinimumNArgs(2),
		Long: `Looks at the tools of an MCP server, and prints the site of a Caddyfile that sells
them, with a line for the price of each.

The server is the URL of its MCP endpoint, or a program that speaks MCP on stdin
and stdout. Without a path in the URL, the server is looked for at /mcp, /mcp/
and /.

With --price every tool gets that price. Without it the prices are comments, and
unpriced deny refuses all tools until a price has lost its #.

Then the site is tried: it is loaded with a store of its own, and a client asks
it for its tools, which costs nothing.`,
		Example: "  farebox add weather http://localhost:3001/mcp --price 0.01 >> Caddyfile\n  farebox add files -- npx -y @modelcontextprotocol/server-filesystem /srv/files",
	}
	flags := cmd.Flags()
	flags.StringVar(&s.Address, "site", "mcp.example.com", "The address of the site")
	flags.StringVar(&s.Provider, "provider", "acme", "The account that gets the credits")
	flags.StringVar(&s.Price, "price", "", "The price of each tool")
	flags.BoolVar(&check, "check", true, "Try the site")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := s.take(args, cmd.ArgsLenAtDash()); err != nil {
			return err
		}
		if err := s.look(cmd.Context(), host); err != nil {
			return err
		}
		if *asJSON {
			return addJSON(cmd.Context(), host, s, check, cmd.OutOrStdout())
		}
		return add(cmd.Context(), host, s, check, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// nameForm matches the names of servers.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// take sets the fields that the arguments name. The argument dash is the number of
// arguments before "--", or -1.
func (s *Site) take(args []string, dash int) error {
	s.Server = args[0]
	switch {
	case !nameForm.MatchString(s.Server):
		return fmt.Errorf("the name %q is not one for a server: want up to 64 letters, digits, dots, dashes and underscores", s.Server)
	case dash == 1:
		s.Command = args[1:]
	case dash >= 0 || len(args) > 2:
		return errors.New("want a name and a URL, or a name and a program after --")
	default:
		u, err := url.Parse(args[1])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("%q is not the URL of a server: want http://host:port/path, or a program after --", args[1])
		}
		s.URL = u
	}
	if s.Price != "" {
		amount, err := ledger.ParseAmount(s.Price)
		if err != nil || amount <= 0 {
			return fmt.Errorf("--price %s: want an amount above zero, such as 0.01", s.Price)
		}
		s.Price = amount.String()
	}
	return nil
}

// add prints the site to out, and the outcome of the try to notes.
func add(ctx context.Context, host reach.Host, s *Site, check bool, out, notes io.Writer) error {
	text := "# " + s.summary() + "\n"
	if s.Price == "" {
		text += "# Remove the # before each price that is right. Until then no tool can be called.\n"
	}
	if _, err := io.WriteString(out, text+s.String()); err != nil || !check {
		return err
	}
	reached, err := s.try(ctx, host)
	if err == nil {
		fmt.Fprintf(notes, "The site works: a client with a key gets %d of %d tools through it.\n", len(names(reached)), len(names(s.Offer)))
	}
	return err
}

// addJSON prints the site as a member of a JSON object, with the tools and the outcome of
// the try.
func addJSON(ctx context.Context, host reach.Host, s *Site, check bool, out io.Writer) error {
	view := struct {
		Server  string   `json:"server"`
		Name    string   `json:"name"`
		Version string   `json:"version"`
		Tools   []string `json:"tools"`
		Site    string   `json:"site"`
		Reached []string `json:"reached,omitempty"` // the tools that a client gets through the site
	}{Server: s.Server, Name: s.Offer.Name, Version: s.Offer.Version, Tools: names(s.Offer), Site: s.String()}
	if check {
		reached, err := s.try(ctx, host)
		if err != nil {
			return err
		}
		view.Reached = names(reached)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(view)
}

// look sets the server's offer.
func (s *Site) look(ctx context.Context, host reach.Host) (err error) {
	if s.URL == nil {
		s.Offer = new(offer.Offer)
		s.Offer, err = serve(ctx, host, s) // the gateway runs the program, and asks it
	} else {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		s.Offer, err = askURL(ctx, s.URL)
	}
	if err != nil {
		return fmt.Errorf("the server does not list its tools: %w", err)
	}
	s.Offer.Sort()
	return nil
}

// try serves the site, and returns the offer that a client with a key gets through it.
func (s *Site) try(ctx context.Context, host reach.Host) (*offer.Offer, error) {
	reached, err := serve(ctx, host, s)
	if err != nil {
		return nil, fmt.Errorf("the site does not work: %w", err)
	}
	return reached, nil
}

// askURL asks a server over HTTP.
func askURL(ctx context.Context, u *url.URL) (*offer.Offer, error) {
	paths := []string{u.EscapedPath()}
	if u.Path == "" || u.Path == "/" {
		paths = []string{"/mcp", "/mcp/", "/"}
	}
	return offer.Ask(ctx, &schemed{scheme: u.Scheme, next: http.DefaultTransport}, u.Host, paths, nil)
}

// schemed is an http.RoundTripper that sends requests by the scheme of the server's URL.
type schemed struct {
	scheme string
	next   http.RoundTripper
}

// RoundTrip sends a copy of the request.
func (s *schemed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = s.scheme
	return s.next.RoundTrip(r)
}

// names returns the tools of an offer.
func names(o *offer.Offer) (tools []string) {
	for _, item := range o.Items {
		if item.Kind == offer.Tool {
			tools = append(tools, item.Name)
		}
	}
	slices.Sort(tools)
	return tools
}
