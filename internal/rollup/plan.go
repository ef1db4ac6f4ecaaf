package rollup

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// plan describes how a report is read from the sums: the projection, the subjects, and
// the order of the lines.
type plan struct {
	of *projection
	// bySubject is true if the lines are sorted by the subject of the projection first
	// and by the period second. In this case, the report is grouped by the subject.
	// Otherwise the lines are sorted by the period first and by the dimensions in group
	// second.
	bySubject bool
	group     []dim
	subjects  []int64 // the subjects to read, where 0 means that the projection has no subject; nil if bySubject is true
}

// choose returns the plan of the report. For almost all reports, there is a projection
// with the order of the report's lines. A page of such a report reads only the rows
// that it shows. There may be no such projection for a report with several filters.
// Each page of that report reads all rows of the subject within the report's time.
func (p *report) choose() plan {
	f := &p.filter
	unfiltered := *f == place{} && p.by != hours
	group := groupDims[p.q.Group]
	switch {
	case len(p.keys) > 0 && (p.q.Group == ledger.GroupKey || p.q.Group == ledger.GroupAccount):
		return plan{of: keyTools, bySubject: true}
	case len(p.keys) > 0:
		numbers := make([]int64, len(p.keys))
		for i, k := range p.keys {
			numbers[i] = k.N
		}
		return plan{of: keyTools, subjects: numbers, group: group}
	case p.q.Group == ledger.GroupKey && unfiltered:
		return plan{of: keys, subjects: []int64{0}, group: group}
	case p.q.Group == ledger.GroupKey:
		return plan{of: keyTools, bySubject: true}
	case p.q.Group == ledger.GroupAccount && unfiltered:
		return plan{of: accounts, subjects: []int64{0}, group: group}
	case p.q.Group == ledger.GroupAccount:
		return plan{of: accountTools, bySubject: true}
	case f.account != 0 && *f == place{account: f.account} && p.q.Group == ledger.GroupNone:
		return plan{of: oneAccount, subjects: []int64{f.account}, group: group}
	case f.account != 0:
		return plan{of: accountTools, subjects: []int64{f.account}, group: group}
	case p.by == hours && (f.tool != 0 || p.q.Group == ledger.GroupTool):
		return plan{of: tools, subjects: []int64{0}, group: group}
	case f.tool != 0:
		return plan{of: toolServers, subjects: []int64{f.tool}, group: group}
	case f.provider != 0 && p.q.Group != ledger.GroupTool:
		return plan{of: oneProvider, subjects: []int64{f.provider}, group: group}
	case f.provider != 0:
		return plan{of: providerTools, subjects: []int64{f.provider}, group: group}
	case f.server != 0 && p.q.Group != ledger.GroupTool:
		return plan{of: oneServer, subjects: []int64{f.server}, group: group}
	case f.server != 0:
		return plan{of: serverTools, subjects: []int64{f.server}, group: group}
	case p.q.Group == ledger.GroupTool:
		return plan{of: tools, subjects: []int64{0}, group: group}
	case p.q.Group == ledger.GroupServer:
		return plan{of: servers, subjects: []int64{0}, group: group}
	default:
		return plan{of: totals, subjects: []int64{0}, group: group}
	}
}

// groupDims maps the group in a query to the dimensions that a line of the report
// shows.
var groupDims = map[ledger.UsageGroup][]dim{
	ledger.GroupAccount: {account},
	ledger.GroupKey:     {key},
	ledger.GroupServer:  {server},
	ledger.GroupTool:    {server, tool},
}

// position returns the position of the line to which a transaction belongs. The
// transaction's period has the number bucket.
func (l *plan) position(t *placed, bucket int64) Position {
	if l.bySubject {
		return Position{t.of(l.of.subject), bucket}
	}
	at := Position{bucket}
	for i, d := range l.group {
		at[1+i] = t.of(d)
	}
	return at
}

// columnNames are the names of key columns of the table usage_sum, in the order of
// projection.dims.
var columnNames = [...]string{"subject", "x", "y", "z"}

// column returns the name of the column of usage_sum that holds the dimension.
func (l *plan) column(d dim) string {
	dims := l.of.dims()
	return columnNames[slices.Index(dims[:], d)]
}

// order returns the columns by which lines are sorted.
func (l *plan) order() []string {
	if l.bySubject {
		return []string{"subject", "bucket"}
	}
	names := []string{"bucket"}
	for _, d := range l.group {
		names = append(names, l.column(d))
	}
	return names
}

// selection returns the query for the stored lines of the given subjects, or of the
// subjects in the plan if subjects is nil.
func (l *plan) selection(p *report, subjects []int64, limit int) *Select {
	if subjects == nil {
		subjects = l.subjects
	}
	s := &Select{
		view: viewOf(l.of, p.by, p.q.Test), subjects: subjects, from: p.from(), until: p.until(), order: l.order(), after: p.after, limit: limit,
	}
	for _, d := range [...]dim{account, provider, server, tool} {
		n := p.filter.of(d)
		if dims := l.of.dims(); n != 0 && d != l.of.subject && slices.Contains(dims[:], d) {
			s.equal = append(s.equal, condition{l.column(d), n})
		}
	}
	if !l.bySubject && p.after[0] > s.from { // this lower bound lets the database find the first line faster
		s.from = p.after[0]
	}
	return s
}

// Select is a query for stored lines of a report. It reads the table usage_sum, which
// all kinds of stores have:
//
//	usage_sum (view, subject, bucket, x, y, z, sums...), with all columns before the sums as its primary key
type Select struct {
	view        int64
	subjects    []int64
	from, until int64
	equal       []condition
	order       []string
	after       Position
	limit       int
}

type condition struct {
	column string
	value  int64
}

// SQL returns the text of the query and its arguments. A row of the result consists of
// the three numbers of a Position, followed by the given columns with sums. The
// dialect of the database determines the other parameters: place(n) is the
// placeholder of the n-th argument, and in(n) is the condition that the column
// "subject" has one of the values in the list that is the n-th argument. Arguments are
// counted from 1.
func (s *Select) SQL(sums string, place, in func(n int) string) (text string, args []any) {
	var where []string
	add := func(format string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(format, place(len(args))))
	}
	add("view = %s", s.view)
	if len(s.subjects) == 1 {
		add("subject = %s", s.subjects[0])
	} else {
		args = append(args, s.subjects)
		where = append(where, in(len(args)))
	}
	if s.from != math.MinInt64 {
		add("bucket >= %s", s.from)
	}
	if s.until != math.MaxInt64 {
		add("bucket < %s", s.until)
	}
	for _, c := range s.equal {
		add(c.column+" = %s", c.value)
	}
	if s.after[0] != math.MinInt64 {
		values := make([]string, len(s.order))
		for i := range s.order {
			args = append(args, s.after[i])
			values[i] = place(len(args))
		}
		where = append(where, "("+strings.Join(s.order, ", ")+") > ("+strings.Join(values, ", ")+")")
	}
	columns := slices.Clone(s.order)
	for len(columns) < len(Position{}) {
		columns = append(columns, "0")
	}
	args = append(args, s.limit)
	order := strings.Join(s.order, ", ")
	return "SELECT " + strings.Join(columns, ", ") + ", " + sums + " FROM usage_sum WHERE " + strings.Join(where, " AND ") +
		" GROUP BY " + order + " ORDER BY " + order + " LIMIT " + place(len(args)), args
}

// finish converts the lines to rows of the report, and appends the rows to p.out.
func (p *report) finish(ctx context.Context, lines []Line) error {
	group := p.plan.group
	if p.plan.bySubject {
		group = []dim{p.plan.of.subject}
	}
	texts, err := p.texts(ctx, lines, group)
	if err != nil {
		return err
	}
	for i := range lines {
		l := &lines[i]
		bucket, values := l.Position[0], l.Position[1:]
		if p.plan.bySubject {
			bucket, values = l.Position[1], l.Position[:1]
		}
		row := ledger.UsageRow{At: p.by.begin(bucket), UsageSums: l.UsageSums}
		for j, d := range group {
			texts.show(&row, d, values[j])
		}
		if p.q.Group == ledger.GroupAccount {
			row.Key = ""
		}
		p.out.Rows = append(p.out.Rows, row)
	}
	return nil
}

// texts has the names for numbers in the lines of a report. The names are lineages of
// keys, servers, tools, and ids of accounts.
type texts struct {
	keys            map[int64]KeyName
	names, accounts map[int64]string
}

// show sets those fields of the row that show the dimension d, in which the row has the
// number n.
func (t *texts) show(row *ledger.UsageRow, d dim, n int64) {
	switch d {
	case account:
		row.Account = t.accounts[n]
	case key:
		row.Key, row.Account = t.keys[n].Lineage, t.accounts[t.keys[n].Account]
	case server:
		row.Server = t.names[n]
	case tool:
		row.Tool = t.names[n]
	}
}

// texts looks up the names for all numbers in the lines.
func (p *report) texts(ctx context.Context, lines []Line, group []dim) (*texts, error) {
	t := &texts{keys: p.keyed, names: map[int64]string{}, accounts: map[int64]string{}}
	for _, n := range p.numbers.NewNames {
		t.names[n.N] = n.Name
	}
	wanted := map[dim][]int64{}
	for i := range lines {
		values := lines[i].Position[1:]
		if p.plan.bySubject {
			values = lines[i].Position[:1]
		}
		for j, d := range group {
			wanted[d] = append(wanted[d], values[j])
		}
	}
	keys, err := p.r.Keys(ctx, distinct(wanted[key]))
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		t.keys[k.N] = k.Name
	}
	for _, n := range wanted[key] {
		wanted[account] = append(wanted[account], t.keys[n].Account)
	}
	names, err := p.r.Names(ctx, distinct(append(wanted[server], wanted[tool]...)))
	if err != nil {
		return nil, err
	}
	ids, err := p.r.Accounts(ctx, distinct(wanted[account]))
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		t.names[n.N] = n.Name
	}
	for _, a := range ids {
		t.accounts[a.N] = a.Name
	}
	return t, nil
}

func distinct(numbers []int64) []int64 {
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// microTime converts microseconds since 1970 to a time.
func microTime(n int64) time.Time { return time.UnixMicro(n).UTC() }
