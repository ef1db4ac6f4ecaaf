package alert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// rows is a Store in memory that also implements Books. It has one account, with a low
// balance. A failed change is not rolled back. The store suite tests the real stores.
type rows struct {
	Tx
	cursor  Cursor
	states  map[string]State
	raised  []Alert
	puts    int // number of states that the present transaction has written
	largest int // the greatest number of states that a transaction has written
	pruned  int
	fails   Kind // the kind with states that cannot be read; "" if all can be read

	moved   ledger.Moved
	broken  error // the error of Books.Moved
	limits  []int // the limit given to each call of Books.Moved
	history int   // the number of tools that each lineage paid for before today
}

var errRows = errors.New("the database is slow")

func (r *rows) View(ctx context.Context, do func(Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return do(r)
}

func (r *rows) Change(ctx context.Context, do func(Tx) error) error {
	r.puts = 0
	err := r.View(ctx, do)
	r.largest = max(r.largest, r.puts)
	return err
}

func (r *rows) Settings([]string) (map[string]Settings, error) {
	return map[string]Settings{"acct_1": {Balance: ledger.Unit, Tools: true, Networks: true}}, nil
}
func (r *rows) WithBalance(string, int) ([]string, error) { return []string{"acct_1"}, nil }
func (r *rows) WithNetworks() ([]string, error)           { return []string{"acct_1"}, nil }
func (r *rows) Cursor() (Cursor, error)                   { return r.cursor, nil }

func (r *rows) MoveCursor(from, to Cursor) (bool, error) {
	if r.cursor != from {
		return false, nil
	}
	r.cursor = to
	return true, nil
}

func (r *rows) States(kind Kind, subjects []string) (map[string]State, error) {
	if kind == r.fails {
		return nil, errRows
	}
	found := make(map[string]State)
	for _, sub := range subjects {
		if s, ok := r.states[string(kind)+sub]; ok {
			found[sub] = s
		}
	}
	return found, nil
}

func (r *rows) PutState(s State) error {
	r.puts++
	r.states[string(s.Kind)+s.Subject] = s
	return nil
}

func (r *rows) CountStates(kind Kind, prefix string, limit int64) (n int64, err error) {
	for sub := range r.states {
		if n < limit && strings.HasPrefix(sub, string(kind)+prefix) {
			n++
		}
	}
	return n, nil
}

func (r *rows) Insert(a *Alert) error { r.raised = append(r.raised, *a); return nil }

func (r *rows) Sent(string, time.Time, int) (map[Kind]int64, error) { return map[Kind]int64{}, nil }

func (r *rows) Subjects(Kind, string, int) ([]string, error) { return nil, nil }

func (r *rows) DeleteBefore(time.Time, time.Time, int) (int64, error) { r.pruned++; return 0, nil }

func (r *rows) Moved(_ context.Context, after int64, limit int) (ledger.Moved, error) {
	r.limits = append(r.limits, limit)
	if r.broken != nil || after >= r.moved.Last {
		return ledger.Moved{Last: after}, r.broken
	}
	return r.moved, nil
}

func (r *rows) LiveBalances(context.Context, []string) (map[string]ledger.Balance, error) {
	return map[string]ledger.Balance{"acct_1": {}}, nil
}

func (r *rows) KeysByID(_ context.Context, ids []string) (found []keys.Key, err error) {
	for _, id := range ids {
		found = append(found, keys.Key{ID: id, Lineage: id, Account: "acct_1", Environment: keys.Live})
	}
	return found, nil
}

func (r *rows) LiveSpent(_ context.Context, l []ledger.Lineage) ([]ledger.Spent, int32, error) {
	return make([]ledger.Spent, len(l)), 0, nil
}

func (r *rows) UsageReport(_ context.Context, q ledger.UsageQuery) (report ledger.UsageReport, err error) {
	for i := range r.history {
		report.Rows = append(report.Rows, ledger.UsageRow{Server: "s", Tool: fmt.Sprint("old", i)})
	}
	return report, nil
}

// service returns a Service on the store.
func (r *rows) service() *Service {
	r.states = make(map[string]State)
	return New(r, Options{Now: clock.Now, NewID: func(p string) string { return p }, Accounts: nobody{}, Books: r})
}

// kinds returns the number of raised alerts by kind.
func (r *rows) kinds() map[Kind]int {
	all := make(map[Kind]int)
	for i := range r.raised {
		all[r.raised[i].Kind]++
	}
	return all
}

// TestNetworksFailAlone checks that alerts about money are raised even if new networks
// cannot be written. The networks stay in memory, up to a bound. They are written
// later, a few in each transaction.
func TestNetworksFailAlone(t *testing.T) {
	store := &rows{fails: Network}
	s := store.service()
	s.networks.wanted.Store(&map[string]struct{}{"acct_1": {}})
	charge := func(lineage string) {
		for i := range maxNew {
			s.Networks().Charged(&keys.Key{Account: "acct_1", Lineage: lineage + fmt.Sprint(i/32)}, netip.AddrFrom4([4]byte{10, byte(i / 32), byte(i), 1}))
		}
	}
	charge("a")
	for range 2 {
		if _, err := s.Evaluate(t.Context()); err != nil || store.kinds()[Balance] != 1 {
			t.Fatalf("%v, raised %v", err, store.kinds())
		}
		charge("b")
		if n := len(s.networks.waiting); n != maxNew {
			t.Fatalf("%d networks wait", n)
		}
	}
	left := s.networks.take()
	charge("b")
	if s.networks.give(left); len(s.networks.waiting) != maxNew {
		t.Fatalf("%d networks wait after a failure", len(s.networks.waiting))
	}
	store.fails = ""
	if _, err := s.Evaluate(t.Context()); err != nil || len(s.networks.waiting) != 0 {
		t.Fatalf("%v, %d networks wait", err, len(s.networks.waiting))
	}
	if n := store.kinds()[Network]; n != maxNew-maxNew/32 || store.largest > networksMost {
		t.Errorf("raised %d networks, with %d states in a transaction", n, store.largest)
	}
}

// manyKeys returns transactions with more new lineages than two steps learn. Each
// lineage has paid for one tool.
func manyKeys() ledger.Moved {
	moved := ledger.Moved{Last: 7, Accounts: []string{"acct_1"}, Keys: make(map[ledger.Lineage]string)}
	for i := range 2*learnMost + 1 {
		l := ledger.Lineage{Account: "acct_1", Lineage: fmt.Sprint("key_", i)}
		moved.Keys[l] = l.Lineage
		moved.Tools = append(moved.Tools, ledger.MovedTool{Lineage: l, Server: "s", Tool: "new"})
	}
	return moved
}

// TestLearningIsBounded checks that the tools of many lineages with long histories are
// learned in several steps and in small transactions, up to a bound for each lineage.
// The first step already raises the alerts about money, and the last step raises those
// about tools.
func TestLearningIsBounded(t *testing.T) {
	store := &rows{moved: manyKeys(), history: maxTools - 1}
	s := store.service()
	for i := range 3 {
		more, err := s.Evaluate(t.Context())
		if last := i == 2; err != nil || more == last || (store.cursor.Seq == 7) != last || store.kinds()[Balance] != 1 {
			t.Fatalf("step %d: %v, %v, cursor %+v, raised %v", i, more, err, store.cursor, store.kinds())
		}
	}
	if n := store.kinds()[Tool]; n != len(store.moved.Tools) || store.largest > writeMost {
		t.Errorf("raised %d tools, with %d states in a transaction", n, store.largest)
	}
	store = &rows{moved: manyKeys(), history: 2 * maxTools}
	s = store.service()
	for range 3 {
		if _, err := s.Evaluate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := store.CountStates(Tool, subject("key_1", ""), 10*maxTools); n != maxTools || store.kinds()[Tool] != 0 {
		t.Errorf("%d tools of a key are remembered, raised %v", n, store.kinds())
	}
}

// TestToolsFailAlone checks that alerts about money are raised even if tools cannot be
// judged, and that a later step judges the tools.
func TestToolsFailAlone(t *testing.T) {
	store := &rows{moved: manyKeys(), fails: Tool}
	s := store.service()
	if _, err := s.Evaluate(t.Context()); !errors.Is(err, errRows) || store.kinds()[Balance] != 1 || store.cursor.Seq != 0 {
		t.Fatalf("%v, cursor %+v, raised %v", err, store.cursor, store.kinds())
	}
	store.fails = ""
	for more := true; more; {
		var err error
		if more, err = s.Evaluate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if store.kinds()[Tool] != len(store.moved.Tools) || store.kinds()[Balance] != 1 {
		t.Errorf("raised %v", store.kinds())
	}
}

// TestFailedStepsReadLess checks that the steps after a failed step read fewer
// transactions, and that the number grows again after steps that succeed.
func TestFailedStepsReadLess(t *testing.T) {
	store := &rows{broken: errRows}
	s := store.service()
	for range 20 {
		if _, err := s.Evaluate(t.Context()); !errors.Is(err, errRows) {
			t.Fatal(err)
		}
	}
	if store.limits[0] != readMost || store.limits[1] != readMost/2 || store.limits[19] != readLeast {
		t.Errorf("read %v", store.limits)
	}
	store.broken = nil
	for range 20 {
		if _, err := s.Evaluate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if store.limits[39] != readMost {
		t.Errorf("read %v", store.limits)
	}
}

// TestPruneOfABusyJournal checks that old rows are deleted once an hour, even if each
// evaluation finds new transactions.
func TestPruneOfABusyJournal(t *testing.T) {
	store := new(rows)
	s := store.service()
	now := clock.Now()
	s.o.Now = func() time.Time { return now }
	for i := range int64(240) {
		store.moved = ledger.Moved{Last: i + 1, Accounts: []string{"acct_1"}}
		if more, err := s.Evaluate(t.Context()); err != nil || more {
			t.Fatal(more, err)
		}
		now = now.Add(30 * time.Second)
	}
	if store.pruned != 2 {
		t.Errorf("pruned %d times in two hours", store.pruned)
	}
}
