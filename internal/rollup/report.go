package rollup

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of one page of a report.
const (
	maxTail     = 20_000 // maximum number of transactions after the cursor that a report reads
	subjectStep = 500    // maximum number of accounts or keys in one query
	subjectMost = 2000   // maximum number of accounts or keys for one page
)

// State describes the sums of a store: up to which transaction the sums reach, and
// which numbers are assigned to names.
type State struct {
	Cursor    int64 // the number of the last transaction in the sums; 0 if the sums are empty
	CursorAt  int64 // the time of that transaction, in microseconds since 1970
	LastKey   int64 // the greatest number that is assigned to a lineage of keys
	LastName  int64 // the greatest number that is assigned to a server or tool
	HoursFrom int64 // the time before which hourly sums were deleted, in microseconds since 1970; 0 if no sums were deleted
	Archived  int64 // the time of the latest archived transaction, in microseconds since 1970; 0 if there is no archive
	Skipped   int64 // the time of the latest transaction that was archived before it was in the sums, in microseconds since 1970; 0 if there is no such transaction
}

// Subjects says whether Reader.Subjects lists accounts or keys.
type Subjects uint8

// The kinds of subjects.
const (
	OfAccounts Subjects = iota
	OfKeys
)

// Reader reads the sums and the journal of a store. All methods read the same snapshot.
// Methods that look up several names or numbers leave out unknown ones.
type Reader interface {
	// State returns the state of the sums.
	State(ctx context.Context) (State, error)
	// Journal returns the transactions that follow the one with the given number, in
	// order and at most limit of them.
	Journal(ctx context.Context, after int64, limit int) ([]Transaction, error)
	// KeyNumbers and NameNumbers look up the numbers that are assigned to names.
	KeyNumbers(ctx context.Context, names []KeyName) ([]Numbered[KeyName], error)
	NameNumbers(ctx context.Context, names []string) ([]Numbered[string], error)
	// KeysOf returns the numbers that are assigned to lineages. A lineage has one
	// number for each account that has called with its keys.
	KeysOf(ctx context.Context, lineages []string) ([]Numbered[KeyName], error)
	// Keys, Names and Accounts look up names by their numbers. The name of an account
	// is its id.
	Keys(ctx context.Context, numbers []int64) ([]Numbered[KeyName], error)
	Names(ctx context.Context, numbers []int64) ([]Numbered[string], error)
	Accounts(ctx context.Context, numbers []int64) ([]Numbered[string], error)
	// Account returns the number of the account with the id, or ledger.ErrNotFound.
	Account(ctx context.Context, id string) (int64, error)
	// Subjects returns the numbers of accounts or of keys, in ascending order. It
	// leaves out numbers less than the given one, and returns at most limit numbers. If
	// account is not 0, it returns only keys of that account.
	Subjects(ctx context.Context, of Subjects, account, from int64, limit int) ([]int64, error)
	// Sums runs the query and returns the selected lines.
	Sums(ctx context.Context, s *Select) ([]Line, error)
}

// Position identifies a line of a report by the numbers of its period and its group.
// The lines of a report are sorted by Position.
type Position [3]int64

func (p Position) compare(o Position) int { return slices.Compare(p[:], o[:]) }

// Line is a line of a report. It has numbers instead of names.
type Line struct {
	Position
	ledger.UsageSums
}

// report is the state of one call of the function Report.
type report struct {
	r       Reader
	q       ledger.UsageQuery
	by      period
	state   State
	numbers *Numbers
	filter  place
	keys    []Numbered[KeyName] // the numbers that are assigned to the lineage in the query's filter
	after   Position
	plan    plan
	keyed   map[int64]KeyName // the lineages in the filter and in the transactions after the cursor, by number
	out     ledger.UsageReport
}

// Report returns the page of a report that the query asks for. For an invalid query,
// the error is ledger.ErrInvalid. If the query's filter names an account that does not
// exist, the error is ledger.ErrNotFound. Errors of the reader are returned, too.
func Report(ctx context.Context, r Reader, q ledger.UsageQuery) (ledger.UsageReport, error) {
	q, err := q.Check()
	if err != nil {
		return ledger.UsageReport{}, err
	}
	p := report{r: r, q: q, by: periodOf(q.By), keyed: map[int64]KeyName{}}
	if p.after, err = parseCursor(q.After); err != nil {
		return ledger.UsageReport{}, err
	}
	if p.state, err = r.State(ctx); err != nil {
		return ledger.UsageReport{}, err
	}
	tail, err := p.tail(ctx)
	if err != nil {
		return ledger.UsageReport{}, err
	}
	found, err := p.resolve(ctx, tail)
	if err != nil || !found {
		return p.out, err
	}
	p.plan = p.choose()
	stored, end, exhausted, err := p.stored(ctx)
	if err != nil {
		return ledger.UsageReport{}, err
	}
	return p.out, p.finish(ctx, p.merge(stored, p.lines(tail), end, exhausted))
}

// parseCursor returns the position of the last line of the previous page.
func parseCursor(text string) (after Position, err error) {
	if text == "" {
		return Position{math.MinInt64, math.MinInt64, math.MinInt64}, nil
	}
	parts := strings.Split(text, ".")
	if len(parts) != len(after) {
		return after, fmt.Errorf("%w: the cursor does not come from a report of usage", ledger.ErrInvalid)
	}
	for i, part := range parts {
		if after[i], err = strconv.ParseInt(part, 10, 64); err != nil {
			return after, fmt.Errorf("%w: the cursor does not come from a report of usage", ledger.ErrInvalid)
		}
	}
	return after, nil
}

func (p Position) cursor() string { return fmt.Sprintf("%d.%d.%d", p[0], p[1], p[2]) }

// placed is a transaction after the cursor, with the numbers of its account, provider,
// lineage, server and tool.
type placed struct {
	*Transaction
	place
}

// tail reads the transactions after the cursor. New names in these transactions get the
// numbers that they will later have in the sums. If there are more than maxTail
// transactions, tail returns none of them, and the report lacks them.
func (p *report) tail(ctx context.Context) ([]placed, error) {
	list, err := p.r.Journal(ctx, p.state.Cursor, maxTail+1)
	if err != nil {
		return nil, err
	}
	p.out.Complete = len(list) <= maxTail
	if !p.out.Complete {
		list = nil
	}
	p.numbers = NewNumbers(p.state.LastKey, p.state.LastName)
	if err := Load(ctx, p.r, p.numbers, list); err != nil {
		return nil, err
	}
	at := p.state.CursorAt
	var tail []placed
	for i := range list {
		t := &list[i]
		at = t.At
		if t.Kind != Other {
			tail = append(tail, placed{t, p.numbers.place(t)})
			p.keyed[tail[len(tail)-1].key] = KeyName{t.Account, t.Lineage}
		}
	}
	if at != 0 {
		p.out.AsOf = microTime(at)
	}
	if p.state.HoursFrom != 0 && p.by == hours {
		p.out.From = microTime(p.state.HoursFrom)
	}
	if p.state.Skipped != 0 {
		p.out.Archived = microTime(p.state.Skipped)
	}
	return tail, nil
}

// Load looks up the numbers that the store has assigned to the names in the
// transactions, and adds them to the Numbers.
func Load(ctx context.Context, r Reader, to *Numbers, list []Transaction) error {
	keys, names := to.Missing(list)
	foundKeys, err := r.KeyNumbers(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range foundKeys {
		to.AddKey(k.Name, k.N)
	}
	foundNames, err := r.NameNumbers(ctx, names)
	if err != nil {
		return err
	}
	for _, n := range foundNames {
		to.AddName(n.Name, n.N)
	}
	return nil
}

// resolve looks up the numbers for the names in the query's filter. It returns false if
// one of the names occurs in no charge, so that no transaction can match.
func (p *report) resolve(ctx context.Context, tail []placed) (found bool, err error) {
	for _, of := range [...]struct {
		id string
		to *int64
	}{{p.q.Account, &p.filter.account}, {p.q.Provider, &p.filter.provider}} {
		if of.id == "" {
			continue
		}
		if *of.to, err = p.r.Account(ctx, of.id); err != nil {
			return false, fmt.Errorf("account %q: %w", of.id, err)
		}
	}
	for _, of := range [...]struct {
		name string
		to   *int64
	}{{p.q.Server, &p.filter.server}, {p.q.Tool, &p.filter.tool}} {
		if of.name == "" {
			continue
		}
		if *of.to = p.numbers.names[of.name]; *of.to != 0 {
			continue
		}
		names, err := p.r.NameNumbers(ctx, []string{of.name})
		if err != nil || len(names) == 0 {
			return false, err
		}
		*of.to = names[0].N
	}
	if p.q.Key == "" {
		return true, nil
	}
	list, err := p.r.KeysOf(ctx, []string{p.q.Key})
	if err != nil {
		return false, err
	}
	for i := range tail {
		if t := &tail[i]; t.Lineage == p.q.Key && t.key > p.state.LastKey {
			list = append(list, Numbered[KeyName]{t.key, KeyName{t.Account, t.Lineage}})
		}
	}
	for _, k := range list {
		if p.filter.account == 0 || k.Name.Account == p.filter.account {
			p.keys = append(p.keys, k)
			p.keyed[k.N] = k.Name
		}
	}
	slices.SortFunc(p.keys, func(a, b Numbered[KeyName]) int { return cmp.Compare(a.N, b.N) })
	p.keys = slices.CompactFunc(p.keys, func(a, b Numbered[KeyName]) bool { return a.N == b.N })
	return len(p.keys) > 0, nil
}

// admits reports whether a transaction after the cursor matches the query.
func (p *report) admits(t *placed) bool {
	f, b := &p.filter, p.by.bucketOf(t.At)
	return t.Test == p.q.Test && (f.account == 0 || t.account == f.account) && (f.provider == 0 || t.provider == f.provider) &&
		(f.server == 0 || t.server == f.server) && (f.tool == 0 || t.tool == f.tool) &&
		(p.q.Key == "" || t.Lineage == p.q.Key) && b >= p.from() && b < p.until()
}

// from returns the number of the first period of the report.
func (p *report) from() int64 {
	first := int64(math.MinInt64)
	if !p.q.Since.IsZero() {
		first = p.by.bucketOf(p.q.Since.UnixMicro())
	}
	if p.by == hours && p.state.HoursFrom != 0 { // do not show hourly sums before this time, because some of them may have been deleted already
		first = max(first, hours.bucketOf(p.state.HoursFrom))
	}
	return first
}

// until returns the number of the first period after the report.
func (p *report) until() int64 {
	if p.q.Until.IsZero() {
		return math.MaxInt64
	}
	return p.by.bucketOf(p.q.Until.UnixMicro()-1) + 1
}

// lines adds up, for each line of the report, the transactions after the cursor that
// match the query.
func (p *report) lines(tail []placed) map[Position]*ledger.UsageSums {
	lines := map[Position]*ledger.UsageSums{}
	for i := range tail {
		t := &tail[i]
		if !p.admits(t) {
			continue
		}
		at := p.plan.position(t, p.by.bucketOf(t.At))
		if lines[at] == nil {
			lines[at] = new(ledger.UsageSums)
		}
		more := t.sums()
		lines[at].Add(&more)
	}
	return lines
}

// stored reads the stored lines for this page. They are all stored lines from the
// beginning of the page up to the returned position. If exhausted is true, the report
// has no stored lines after that position.
func (p *report) stored(ctx context.Context) (lines []Line, end Position, exhausted bool, err error) {
	limit := p.q.Size() + 1
	if !p.plan.bySubject {
		lines, err = p.r.Sums(ctx, p.plan.selection(p, nil, limit))
		return lines, lastOf(lines), len(lines) < limit, err
	}
	subject := p.after[0]
	for done := 0; done < subjectMost; {
		subjects, last, err := p.subjects(ctx, subject)
		if err != nil {
			return nil, end, false, err
		}
		if len(subjects) > 0 {
			more, err := p.r.Sums(ctx, p.plan.selection(p, subjects, limit-len(lines)))
			if err != nil {
				return nil, end, false, err
			}
			if lines = append(lines, more...); len(lines) == limit {
				return lines, lastOf(lines), false, nil
			}
			done += len(subjects)
			subject = subjects[len(subjects)-1]
		}
		if last {
			return lines, lastOf(lines), true, nil
		}
		end = Position{subject, math.MaxInt64, 0}
		subject++
	}
	return lines, end, false, nil
}

func lastOf(lines []Line) Position {
	if len(lines) == 0 {
		return Position{}
	}
	return lines[len(lines)-1].Position
}

// subjects returns the next subjects in ascending order. It leaves out subjects less
// than the given one. The bool is true if no subjects follow.
func (p *report) subjects(ctx context.Context, from int64) (list []int64, last bool, err error) {
	switch {
	case p.q.Key != "":
		for _, k := range p.keys {
			if k.N >= from && k.N <= p.state.LastKey {
				list = append(list, k.N)
			}
		}
		return list, true, nil
	case p.plan.of == keyTools:
		list, err = p.r.Subjects(ctx, OfKeys, p.filter.account, from, subjectStep)
	case p.filter.account != 0:
		return []int64{p.filter.account}, true, nil
	default:
		list, err = p.r.Subjects(ctx, OfAccounts, 0, from, subjectStep)
	}
	return list, len(list) < subjectStep, err
}

// merge adds the lines for the transactions after the cursor to the stored lines. It
// sorts the lines, and returns as many as fit on one page.
func (p *report) merge(stored []Line, tail map[Position]*ledger.UsageSums, end Position, exhausted bool) []Line {
	for i := range stored {
		if more := tail[stored[i].Position]; more != nil {
			stored[i].Add(more)
			delete(tail, stored[i].Position)
		}
	}
	for at, sums := range tail {
		if at.compare(p.after) > 0 && (exhausted || at.compare(end) <= 0) {
			stored = append(stored, Line{at, *sums})
		}
	}
	slices.SortFunc(stored, func(a, b Line) int { return a.compare(b.Position) })
	if size := p.q.Size(); len(stored) > size {
		stored = stored[:size]
		p.out.Next = stored[size-1].cursor()
	} else if !exhausted {
		p.out.Next = end.cursor()
	}
	return stored
}
