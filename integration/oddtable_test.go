package integration

import (
	"fmt"
	"slices"
	"strings"
)

const oddIntro = `# Servers that are odd, and what clients make of them

This page is written by ` + "`TestCompatibilityTable`" + `: do not edit it. [Compatibility](compatibility.md) tells what stands behind it.

Each line is a way in which a server behaves. Four clients have met it, each directly and through Farebox, for a tool that is free and for one that is paid, in 2025-11-25 (sessions) and in 2026-07-28 (stateless): one that speaks plain HTTP and shows all that comes (raw), the Go SDK, the TypeScript SDK and mcp-remote. **Directly** is what the caller of a client gets; where clients differ they are named, with the protocol version if it matters. **Through Farebox** is *the same* if each client gets the very same, to the last byte of a result's content and the last word of an error, and if the server was asked as often; else it says what is different, and the last column why. **Charged** is what becomes of a paid call, for those clients that can read how it went.

The words: *result*, *tool error* (a result with ` + "`isError`" + `), *list*, *error* with its JSON-RPC code, *HTTP* with a status that the client makes an error of, *fails* (the client has an error of its own), *hangs* (nothing within 12 seconds), *no answer* and *unreadable* (in what the raw client shows), *session lost* (the same client cannot go on). ` + "`UPSTREAM_FAILED`" + ` and its like are the codes of [Farebox's own refusals](scopes.md#what-a-refusal-looks-like).
`

func (b *oddBench) render() string {
	var out strings.Builder
	out.WriteString(oddIntro)
	group := ""
	for _, row := range b.rows {
		if row.group != group {
			group = row.group
			fmt.Fprintf(&out, "\n## %s\n\n| the server sends | as | directly | through Farebox | charged | |\n| --- | --- | --- | --- | --- | --- |\n", group)
		}
		out.WriteString(row.line() + "\n")
	}
	return out.String()
}

func (row *oddRow) form() string {
	if row.events {
		return "events"
	}
	return "JSON"
}

func (row *oddRow) title() string { return oddTitle(row.group, row.oddity.name, row.form()) }

// line returns the row's line in the table.
func (row *oddRow) line() string {
	why := ""
	through := row.through()
	if through != "the same" {
		why = string(row.oddity.why)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", row.oddity.name, row.form(), row.directly(), through, row.charged(), why)
}

func (row *oddRow) directly() string {
	var said []remark
	for _, c := range row.cells {
		if c.way == wayDirect {
			said = append(said, remark{c, c.outcome.label()})
		}
	}
	return summary(said)
}

// through returns the text for the column "through Farebox". It compares the
// outcomes of free and paid calls through Farebox with those of direct calls.
func (row *oddRow) through() string {
	said := map[way][]remark{}
	var straight *oddCell
	for _, c := range row.cells {
		switch {
		case c.way == wayDirect:
			straight = c
		case c.same(straight):
			said[c.way] = append(said[c.way], remark{c, "the same"})
		case c.outcome.label() == straight.outcome.label() && c.ran != straight.ran:
			said[c.way] = append(said[c.way], remark{c, fmt.Sprintf("%s, asked %s", c.outcome.label(), times(c.ran))})
		case c.outcome.label() == straight.outcome.label():
			said[c.way] = append(said[c.way], remark{c, c.outcome.label() + ", in other words"})
		default:
			said[c.way] = append(said[c.way], remark{c, c.outcome.label()})
		}
	}
	a, b := summary(said[wayFree]), summary(said[wayPaid])
	if a == b || len(said[wayPaid]) == 0 {
		return a
	}
	return "free: " + a + "; paid: " + b
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprint(n, " times")
}

// charged returns the text for the column "charged". It counts only paid calls with
// an outcome that the client could determine. A client that could not determine the
// outcome may have left before or after its answer came, so its charge proves
// nothing.
func (row *oddRow) charged() string {
	var said []remark
	for _, c := range row.cells {
		switch {
		case c.way != wayPaid || c.outcome.code == "" && slices.Contains([]string{"fails", "hangs", "no answer", "unreadable"}, c.outcome.kind):
		case c.charged > 0:
			said = append(said, remark{c, "yes"})
		case c.charges > 0:
			said = append(said, remark{c, "given back"})
		default:
			said = append(said, remark{c, "no"})
		}
	}
	if len(said) == 0 {
		return "–"
	}
	return summary(said)
}

// label returns the outcome as the table shows it.
func (o outcome) label() string {
	label := o.kind
	if o.code != "" {
		label += " `" + o.code + "`"
	}
	if o.lost {
		label += ", session lost"
	}
	return label
}

// remark is a text about a cell of the compatibility table.
type remark struct {
	cell *oddCell
	text string
}

// summary joins the remarks. It names the clients unless all remarks agree.
func summary(remarks []remark) string {
	var texts []string
	for _, r := range remarks {
		if !slices.Contains(texts, r.text) {
			texts = append(texts, r.text)
		}
	}
	if len(texts) == 1 {
		return texts[0]
	}
	for i, text := range texts {
		texts[i] = text + ": " + strings.Join(whoGot(remarks, text), ", ")
	}
	return strings.Join(texts, "; ")
}

// whoGot names the clients with this remark. It adds the protocol version if the
// remark does not hold for every version of a client.
func whoGot(remarks []remark, text string) (names []string) {
	for _, client := range oddClientNames {
		var versions []string
		of := 0
		for _, r := range remarks {
			if r.cell.client != client {
				continue
			}
			of++
			if r.text == text {
				versions = append(versions, place{stateless: r.cell.stateless}.version())
			}
		}
		switch {
		case len(versions) == 0:
		case len(versions) == of:
			names = append(names, client)
		default:
			names = append(names, client+" "+strings.Join(versions, " "))
		}
	}
	return names
}
