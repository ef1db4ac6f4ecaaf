package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/cli/limits"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

// clientOf returns the name that a client claims, with the host that publishes its
// metadata. Without a name or a host it returns the client_id.
func clientOf(g *ops.GrantView) string {
	name := g.ClientName
	if name == "" {
		return g.Client
	}
	if host := cmp.Or(g.ClientHost, g.RedirectHost); host != "" {
		name += " (" + host + ")"
	}
	return name
}

func printGrant(w io.Writer, g ops.GrantView) {
	by := cmp.Or(g.Key, g.Person, "the config")
	state := g.State
	if g.RevokedAt != nil {
		state += " at " + g.RevokedAt.Format(time.RFC3339)
		if g.Reason != "" {
			state += ": " + g.Reason
		}
	}
	table.Fields(w,
		"grant", g.ID, "client", g.Client, "name", orDash(g.ClientName), "published by", orDash(g.ClientHost), "codes go to", orDash(g.RedirectHost),
		"account", named(g.AccountName, g.Account), "environment", g.Environment, "server", g.Server, "scopes", orDash(strings.Join(g.Scopes, " ")), "caps", limits.CapsText(g.Caps), "rate", orDash(g.Rate),
		"given by", by, "state", state, "created", g.CreatedAt.Format(time.RFC3339), "last used", timeOr(g.LastUsedAt, "never"), "ends", timeOr(g.ExpiresAt, "never"))
}

func printRevokedGrant(w io.Writer, g ops.GrantView) {
	fmt.Fprintf(w, "%s is revoked. No call that begins now is accepted with its tokens.\n", g.ID)
}
