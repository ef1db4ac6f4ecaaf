//go:build unix

package console

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/pgstore"
	"github.com/fareboxhq/farebox/internal/pgtest"
	"github.com/fareboxhq/farebox/internal/storetest"
)

var growth = flag.Int("growth", 0, "how many charges TestPagesOfLargeStores makes; 0 for a few")

// pageTime bounds the server's time for a page of a store with a million charges and
// 100,000 keys.
const pageTime = 100 * time.Millisecond

// TestPagesOfLargeStores measures the pages of an operator and an owner on both stores,
// over a year with many charges. With -growth 1000000, the median time of each page
// must be at most pageTime. Without this flag, the test requests the same pages over a
// short history.
func TestPagesOfLargeStores(t *testing.T) {
	for name, open := range map[string]func(*world) (testStore, error){"SQLite": openSQLite, "PostgreSQL": openPostgres} {
		t.Run(name, func(t *testing.T) {
			charges, limit := *growth, pageTime
			if charges == 0 {
				charges, limit = 2000, 0
			}
			newLargeWorld(t, open, charges).measure(limit)
		})
	}
}

// openPostgres opens an empty store with the clock of a world, on a server of its own.
func openPostgres(w *world) (testStore, error) {
	prepare := func(ctx context.Context, dsn string) error {
		_, _, err := pgstore.Migrate(ctx, pgstore.Options{DSN: dsn}, nil)
		return err
	}
	shift := func() time.Duration { return clock.Shift() + time.Duration(w.ahead.Load()) }
	return pgstore.Open(w.Context(), pgstore.Options{DSN: pgtest.New(w.T).Database(w, prepare), Shift: shift})
}

// largeWorld is a console on a store with a year of charges.
type largeWorld struct {
	*world
	history  storetest.UsageHistory
	provider ledger.Account
	accounts []ledger.Account
	keys     []keys.Key // by their numbers in the history
	charge   string     // id of the last charge
}

func newLargeWorld(t *testing.T, open func(*world) (testStore, error), charges int) *largeWorld {
	t.Helper()
	w := &largeWorld{world: newWorldOn(t, open), history: storetest.UsageYear(charges, clock.Now())}
	w.history.Accounts, w.history.Keys = max(w.history.Accounts, 2), max(w.history.Keys, 120) // more than a page of keys
	began := clock.Now()
	w.ahead.Store(int64(-365 * 24 * time.Hour))
	var err error
	if w.provider, err = w.admin.EnsureAccount(t.Context(), admin.Actor{Name: "offline"}, "acme"); err != nil {
		t.Fatal(err)
	}
	w.accounts = make([]ledger.Account, w.history.Accounts)
	w.keys = make([]keys.Key, w.history.Keys)
	w.concurrently(len(w.accounts), func(ctx context.Context, i int) (err error) {
		w.accounts[i], err = w.admin.CreateAccount(ctx, admin.Actor{Name: "offline"}, admin.NewAccount{Name: fmt.Sprint("account-", i)})
		if err == nil {
			_, err = w.admin.Credit(ctx, admin.Actor{Name: "offline"}, admin.Credit{Account: w.accounts[i].ID, Amount: 1 << 40, Reason: "test"})
		}
		return err
	})
	w.concurrently(len(w.keys), func(ctx context.Context, i int) (err error) {
		w.keys[i], _, err = w.admin.CreateKey(ctx, admin.Actor{Name: "offline"}, admin.NewKey{Account: w.accounts[w.history.Account(i)].ID, Name: fmt.Sprint("key ", i)})
		return err
	})
	steps := min(charges/100, 365) // few for a short history, because each step waits for the disk
	for step := range steps {
		w.ahead.Store(int64(step-steps+1) * int64(365*24*time.Hour) / int64(steps))
		first := charges * step / steps
		w.concurrently(charges*(step+1)/steps-first, func(ctx context.Context, i int) error { return w.pay(ctx, first+i) })
	}
	for more := true; more; {
		p, err := w.store.SumUsage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		more = p.More
	}
	t.Logf("%d accounts, %d keys and %d charges made in %v", len(w.accounts), len(w.keys), charges, clock.Since(began).Round(time.Second))
	return w
}

// pay makes charge i. Every key is used again and again over the year.
func (w *largeWorld) pay(ctx context.Context, i int) error {
	n := w.history.Key(i)
	k, charge := &w.keys[n], id.New("chg_")
	_, _, err := w.store.Charge(ctx, charge, ledger.Order{
		Account: k.Account, Provider: w.provider.ID, Key: k.ID, Lineage: k.Lineage, Amount: 1000,
		Server: w.history.Server(i), Tool: w.history.Tool(i),
	}, ledger.Terms{}, nil)
	if n == 0 {
		w.charge = charge
	}
	return err
}

// concurrently calls do(ctx, i) for each i in [0, n). It makes many of these calls at
// the same time, so that the store can write in batches.
func (w *largeWorld) concurrently(n int, do func(ctx context.Context, i int) error) {
	w.Helper()
	var workers sync.WaitGroup
	next, failures := make(chan int), make(chan error, 64)
	for range cap(failures) {
		workers.Go(func() {
			var failed error
			for i := range next {
				failed = errors.Join(failed, do(w.Context(), i))
			}
			failures <- failed
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	for range cap(failures) {
		if err := <-failures; err != nil {
			w.Fatal(err)
		}
	}
}

// rowsOfTables matches each row of the tables of a page, head rows included.
var rowsOfTables = regexp.MustCompile(`<tr[ >]`)

// measure requests each page several times and logs the median of the durations. If
// limit is not 0, a median above limit is an error.
func (w *largeWorld) measure(limit time.Duration) {
	operator := w.person("op@example.com", people.NewInvitation{Operator: true})
	owner := w.person("owner@example.com", people.NewInvitation{Account: w.accounts[0].ID, Role: people.Owner})
	account, key := "/accounts/"+w.accounts[0].ID, w.keys[0].ID
	year := "since=" + w.now().AddDate(-1, 0, 1).Format(time.DateOnly)
	for _, p := range []struct {
		by   *browser
		path string
		list bool // a full page of 50 rows
	}{
		{operator, "/", false}, {operator, "/accounts", len(w.accounts) > 50}, {operator, account, false},
		{operator, "/keys", true}, {operator, "/keys?kind=agent", true}, {operator, account + "/keys", true}, {operator, "/keys/" + key, false},
		{operator, "/charges", true}, {operator, "/charges?server=server-1", true}, {operator, "/charges?tool=tool_number_3", true},
		{operator, "/charges?account=account-0", true}, {operator, "/charges?provider=acme", true}, {operator, "/charges?key=" + key, false},
		{operator, "/charges?key=" + key + "&server=server-9", false}, {operator, "/charges?account=account-0&tool=tool_number_3", false},
		{operator, "/charges?since=300d&until=299d", false}, {operator, "/charges/" + w.charge, false}, {operator, account + "/charges", true},
		{operator, "/usage", false}, {operator, "/usage?by=day&" + year, false}, {operator, "/usage?by=month&group=tool&" + year, false},
		{operator, "/usage?by=month&group=server&" + year, false}, {operator, "/usage?by=day&tool=tool_number_3&" + year, false},
		{operator, "/usage?by=day&key=" + key + "&" + year, false}, {operator, "/usage?by=month&group=account&" + year, len(w.accounts) > 50},
		{operator, "/usage?by=month&group=key&" + year, true}, {operator, account + "/usage?by=day&" + year, false},
		{operator, account + "/statement", false}, {operator, "/audit", true}, {operator, "/ledger", false}, {operator, "/people", false},
		{owner, account, false}, {owner, account + "/keys", true}, {owner, account + "/charges", true}, {owner, account + "/usage?by=day&" + year, false},
	} {
		took, body := w.median(p.by, p.path, limit > 0)
		n := len(rowsOfTables.FindAllString(body, -1))
		w.Logf("%6s %4d rows %s", took.Round(100*time.Microsecond), n, p.path)
		if limit > 0 && took > limit {
			w.Errorf("%s takes %v, at most %v are allowed", p.path, took, limit)
		}
		if p.list && n < 51 {
			w.Errorf("%s has %d rows, want a head and 50", p.path, n)
		}
	}
}

// median returns the median duration of some requests for a page, and the page. If
// measured is false, it requests the page only once.
func (w *largeWorld) median(b *browser, path string, measured bool) (time.Duration, string) {
	w.Helper()
	var all []time.Duration
	var page string
	times := 1
	if measured {
		times = 5
	}
	for range times {
		began := clock.Now()
		resp, body := b.get(path)
		all = append(all, clock.Since(began))
		// The overview has no metrics in this test, and says so.
		if page = body; resp.StatusCode != http.StatusOK || path != "/" && strings.Contains(body, "unavailable") {
			w.Errorf("%s: %s, %d bytes", path, resp.Status, len(body))
		}
	}
	slices.Sort(all)
	return all[len(all)/2], page
}
