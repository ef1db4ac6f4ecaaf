package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

// checkPrefix returns a check that an argument is an id with the prefix. Its error does
// not repeat the argument, which may be a secret.
func checkPrefix(prefix, thing, command string) func(string) error {
	return func(id string) error {
		if !strings.HasPrefix(id, prefix) {
			return fmt.Errorf("this is not the id of %s, which begins with %s: find it with %s", thing, prefix, command)
		}
		return nil
	}
}

// inviteCommand makes an invitation and prints its link.
func inviteCommand(c *connection) *cobra.Command {
	var n ops.NewInvitation
	cmd := &cobra.Command{
		Use: "invite [<account>]", Short: "Makes a link that lets one person in, once",
		Long: "Makes a link that lets one person in, once. The person becomes a member of the\n" +
			"account, or with --operator an operator. With --person the link is for somebody\n" +
			"who lost the password or the passkey: it replaces all of them.\n\n" +
			"Give the link to that person only: whoever opens it first is that person.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("name one account")
			}
			if (len(args) == 1) == (n.Operator || n.Person != "") || n.Operator && n.Person != "" {
				return errors.New("invite to what? Name an account, or give --operator, or --person <person>")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				n.Account = args[0]
			}
			return do(c, cmd, &ops.CreateInvitation.Operation, n, printInvitation)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&n.Operator, "operator", false, "Invite an operator, who has all rights")
	f.StringVar(&n.Role, "role", "", "owner, who manages the keys of the account, or viewer (default: viewer)")
	f.StringVar(&n.Person, "person", "", "A person who lost the credentials, by id or e-mail address")
	f.StringVar(&n.Email, "email", "", "The only e-mail address that may accept the invitation")
	f.StringVar(&n.Life, "life", "", "How long the link is valid, such as 12h or 7d (default: as the config says, or 30m)")
	return cmd
}

func printInvitation(w io.Writer, i ops.InvitationView) {
	fmt.Fprintf(w, "%s\n\n", i.Link)
	table.Fields(w, "invitation", i.ID, "for", invitedTo(&i), "e-mail", orDash(i.Email), "valid until", i.ExpiresAt.Format(time.RFC3339))
	fmt.Fprintln(w, "\nThe link is not shown again. Whoever opens it first is that person.")
}

// invitedTo returns the purpose of an invitation in words.
func invitedTo(i *ops.InvitationView) string {
	switch {
	case i.Person != "":
		return "new credentials of " + i.Person
	case i.Operator:
		return "an operator"
	case i.Registers:
		return "a registration"
	}
	return i.Role + " of " + i.Account
}

// rightsOf returns the rights of a person in words.
func rightsOf(p *ops.PersonView) string {
	var all []string
	if p.Operator {
		all = append(all, "operator")
	}
	for _, m := range p.Accounts {
		all = append(all, m.Role+" of "+cmp.Or(m.AccountName, m.Account))
	}
	return orDash(strings.Join(all, ", "))
}

func printPerson(w io.Writer, p ops.PersonView) {
	table.Fields(w,
		"person", p.ID, "e-mail", p.Email, "name", orDash(p.Name), "state", p.State, "rights", rightsOf(&p),
		"signs in by", orDash(strings.Join(p.SignsInBy, " ")), "created", p.CreatedAt.Format(time.RFC3339), "last sign-in", timeOr(p.LastSignIn, "never"))
	for _, k := range p.Passkeys {
		fmt.Fprintf(w, "passkey %s: %s, last used %s\n", k.ID, k.Name, timeOr(k.UsedAt, "never"))
	}
}

func personIs(state string) printer {
	return object(func(w io.Writer, p ops.PersonView) { fmt.Fprintf(w, "%s (%s) is %s\n", p.ID, p.Email, state) })
}

// memberships is the value of the repeatable flag --account. Each use gives an account
// and a role, such as acme=owner. An empty text adds no membership, so that --account
// "" alone means no memberships.
type memberships []ops.MembershipChange

// Set adds a membership.
func (m *memberships) Set(text string) error {
	if *m == nil {
		*m = memberships{}
	}
	if text == "" {
		return nil
	}
	i := strings.LastIndexByte(text, '=')
	if i < 1 || text[i+1:] != "owner" && text[i+1:] != "viewer" {
		return fmt.Errorf("%q is not an account and a role, such as acme=owner or acme=viewer", text)
	}
	*m = append(*m, ops.MembershipChange{Account: text[:i], Role: text[i+1:]})
	return nil
}

// String returns the memberships as JSON, or "" if the flag was not given.
func (m *memberships) String() string {
	if *m == nil {
		return ""
	}
	text, err := json.Marshal([]ops.MembershipChange(*m))
	if err != nil {
		return ""
	}
	return string(text)
}

// Type returns the name that the help shows for the flag's value.
func (m *memberships) Type() string { return "account=role" }
