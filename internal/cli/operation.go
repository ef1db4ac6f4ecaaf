package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// operation is a command derived from an entry of the table of operations. Its
// arguments and flags set the fields of the operation's input.
type operation struct {
	*ops.Operation
	c         *connection
	cmd       *cobra.Command
	in        reflect.Value // the input; its type is Operation.In
	members   []member
	arguments []member
	set       []func() error // each parses the text of a flag and stores the value in the input
	limit     int            // the value of the flag --limit, which listings have
	print     printer
	note      func(raw []byte) error // prints notes about the last page of a listing; may be nil
}

// newOperation returns the command of an operation. It panics if the operation's
// Command does not match its path and input, which is a mistake in the table.
func newOperation(c *connection, o *ops.Operation) *operation {
	words, arguments := splitCommand(o.Command)
	style := styles[o.ID]
	x := &operation{Operation: o, c: c, in: reflect.New(o.In).Elem(), members: membersOf(o.In), print: style.print}
	if x.print == nil {
		x.print = printValueOf(x.shown())
	}
	x.cmd = &cobra.Command{
		Use:   strings.Join(append(words[len(words)-1:], arguments...), " "),
		Short: o.Summary, Args: exactly(arguments...),
		RunE: func(_ *cobra.Command, args []string) error { return x.run(args) },
	}
	switch {
	case style.short != "":
		x.cmd.Short = style.short
	case o.Description != "":
		x.cmd.Long = o.Summary + ".\n\n" + o.Description
	}
	if onRunningServer(o) {
		x.cmd.PreRunE = c.needsServer
	}
	x.bindArguments(arguments)
	for _, m := range x.members {
		x.bindFlag(m, style.flags[m.name])
	}
	if x.listed() != nil {
		x.cmd.Flags().IntVar(&x.limit, "limit", 1000, "How many to list at most; 0 lists all")
	}
	if style.adapt != nil {
		style.adapt(x)
	}
	return x
}

// splitCommand splits an operation's Command into its words, and its arguments and
// required flags. The words of "key show <key-id>" are "key" and "show".
func splitCommand(command string) (words, arguments []string) {
	words = strings.Fields(command)
	if i := slices.IndexFunc(words, func(w string) bool {
		return strings.HasPrefix(w, "<") || strings.HasPrefix(w, "[") || strings.HasPrefix(w, "-")
	}); i >= 0 {
		words, arguments = words[:i:i], words[i:]
	}
	return words, arguments
}

// onRunningServer reports whether an operation concerns the running config. Such an
// operation cannot be performed with --offline.
func onRunningServer(o *ops.Operation) bool {
	return o.ID == ops.ListNodes.ID || slices.ContainsFunc(ops.OnServers(), func(s ops.Op[ops.Servers]) bool { return s.ID == o.ID })
}

var pathParameter = regexp.MustCompile(`\{([^}]+)\}`)

// pathOf returns an operation's path, with its parameters replaced by the escaped
// values, in order.
func pathOf(o *ops.Operation, values ...string) string {
	return pathParameter.ReplaceAllStringFunc(o.Path, func(string) string {
		value := values[0]
		values = values[1:]
		return url.PathEscape(value)
	})
}

// checks are the checks of arguments that could be a secret instead of an id. A secret
// must not be sent, because paths are logged.
var checks = map[string]func(string) error{
	"<key-id>":        checkKeyID,
	"<grant-id>":      checkPrefix("grant_", "a grant", "grant list"),
	"<invitation-id>": checkPrefix("inv_", "an invitation", "invitation list"),
	"<session-id>":    checkPrefix("ses_", "a session", "session list <person>"),
}

// bindArguments finds the member that each argument sets. The first arguments set
// the parameters of the path, in order. Each other argument sets the member with the
// argument's name.
func (x *operation) bindArguments(arguments []string) {
	parameters := pathParameter.FindAllStringSubmatch(x.Path, -1)
	if len(parameters) > len(arguments) {
		panic(fmt.Sprintf("operation %s: the command %q lacks arguments for the path %s", x.ID, x.Command, x.Path))
	}
	for i, argument := range arguments {
		name, want := strings.ReplaceAll(strings.Trim(argument, "<>"), "-", "_"), func(p place) bool { return p != inPath }
		if i < len(parameters) {
			name, want = parameters[i][1], func(p place) bool { return p == inPath }
		}
		check := checks[argument]
		if check == nil {
			check = func(string) error { return nil }
		}
		at := slices.IndexFunc(x.members, func(m member) bool { return m.name == name && want(m.place) })
		if at < 0 {
			panic(fmt.Sprintf("operation %s: no member of its input is named %s, for the argument %s", x.ID, name, argument))
		}
		x.members[at].check = check
		x.arguments = append(x.arguments, x.members[at])
		x.members = slices.Delete(x.members, at, at+1)
	}
}

// run performs the operation with the given arguments and flags.
func (x *operation) run(args []string) error {
	for i, m := range x.arguments {
		if err := m.check(args[i]); err != nil {
			return err
		}
		if err := parseInto(x.in.FieldByIndex(m.index), args[i]); err != nil {
			return err
		}
	}
	for _, set := range x.set {
		if err := set(); err != nil {
			return err
		}
	}
	if x.listed() != nil {
		return x.list()
	}
	if err := x.changesNothing(); err != nil {
		return err
	}
	raw, err := x.call()
	if err != nil {
		return err
	}
	if x.c.json {
		return printJSON(x.cmd.OutOrStdout(), raw)
	}
	return x.print(x.cmd.OutOrStdout(), raw)
}

// changesNothing returns an error if the operation is a PATCH and no flag gives a
// change.
func (x *operation) changesNothing() error {
	if x.Method != http.MethodPatch {
		return nil
	}
	var names []string
	for _, m := range x.members {
		if m.place == inBody && x.cmd.Flags().Changed(m.flag) {
			return nil
		}
		names = append(names, "--"+m.flag)
	}
	if len(names) > 1 {
		names[len(names)-2] += " or " + names[len(names)-1]
		names = names[:len(names)-1]
	}
	return errors.New("nothing to change: give " + strings.Join(names, ", "))
}

// path returns the path of the request, with its query.
func (x *operation) path() string {
	var values []string
	for _, p := range pathParameter.FindAllStringSubmatch(x.Path, -1) {
		for _, m := range x.arguments {
			if m.place == inPath && m.name == p[1] {
				values = append(values, fmt.Sprint(x.in.FieldByIndex(m.index)))
			}
		}
	}
	query := url.Values{}
	for _, m := range slices.Concat(x.arguments, x.members) {
		if v := x.in.FieldByIndex(m.index); m.place == inQuery && !v.IsZero() {
			query.Set(m.name, fmt.Sprint(reflect.Indirect(v)))
		}
	}
	path := pathOf(x.Operation, values...)
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// body returns the body of the request, or nil if the operation has no body.
func (x *operation) body() any {
	if body := x.in.FieldByName("Body"); body.IsValid() {
		return body.Interface()
	}
	return nil
}

// call sends the request, and shows the progress of a long operation.
func (x *operation) call() (raw json.RawMessage, err error) {
	if x.Content != ops.StreamType {
		return x.c.Call(x.cmd.Context(), x.Method, x.path(), x.body())
	}
	bar := x.c.bar(x.cmd, "")
	defer bar.End()
	err = x.c.Reach(x.cmd.Context(), x.Method, func(ctx context.Context, client *ops.Client) error {
		raw, err = client.Stream(ctx, x.Method, x.path(), x.body(), bar.Part(x.ID))
		return err
	})
	return raw, err
}

// listed returns the type of a listing's items, or nil if the operation is not a
// listing.
func (x *operation) listed() reflect.Type {
	if x.Out.Kind() != reflect.Struct {
		return nil
	}
	items, ok := x.Out.FieldByName("Items")
	if !ok || items.Type.Kind() != reflect.Slice || x.Method != http.MethodGet {
		return nil
	}
	return items.Type.Elem()
}

// shown returns the type of the value to print: a slice of the items for a listing,
// and the output type for other operations.
func (x *operation) shown() reflect.Type {
	if item := x.listed(); item != nil {
		return reflect.SliceOf(item)
	}
	return x.Out
}

// list prints a listing's items up to the limit, reading several pages if necessary.
func (x *operation) list() error {
	if x.limit < 0 {
		return errors.New("--limit cannot be below zero; 0 lists all")
	}
	items, more, err := x.collect()
	if err != nil {
		return err
	}
	if more {
		fmt.Fprintf(x.cmd.ErrOrStderr(), "There are more than these %d: list all with --limit 0.\n", x.limit)
	}
	if x.c.json {
		return printJSON(x.cmd.OutOrStdout(), items)
	}
	raw, err := json.Marshal(items)
	if err != nil {
		return err
	}
	return x.print(x.cmd.OutOrStdout(), raw)
}

// collect reads pages until it has as many items as the limit, or all items if the
// limit is 0. The second result reports whether the listing has further items.
func (x *operation) collect() (items []json.RawMessage, more bool, err error) {
	items = []json.RawMessage{}
	path, query, _ := strings.Cut(x.path(), "?")
	for after := ""; ; {
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, false, err
		}
		if x.paged() {
			size := ledger.MaxPage
			if x.limit > 0 {
				size = min(size, x.limit-len(items))
			}
			values.Set("limit", strconv.Itoa(size))
			if after != "" {
				values.Set("after", after)
			}
		}
		raw, err := x.c.Call(x.cmd.Context(), x.Method, path+"?"+values.Encode(), nil)
		if err != nil {
			return nil, false, err
		}
		page, err := decode[admin.List[json.RawMessage]](raw)
		if err != nil {
			return nil, false, err
		}
		items = append(items, page.Items...)
		noteArchived(x.cmd, page.Archived)
		if x.note != nil && page.Next == "" {
			if err := x.note(raw); err != nil {
				return nil, false, err
			}
		}
		if page.Next == "" || x.limit > 0 && len(items) >= x.limit {
			return items, page.Next != "", nil
		}
		after = page.Next
	}
}

// paged reports whether the operation takes the parameters "after" and "limit". Short
// listings do not.
func (x *operation) paged() bool {
	_, ok := x.in.Type().FieldByName("After")
	return ok
}
