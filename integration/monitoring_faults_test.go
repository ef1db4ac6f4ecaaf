package integration

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// faultsOfSQLite causes at the same time all faults that do not disturb each other: a
// config that cannot be loaded, streams up to the limit, keys that expire, a full disk,
// a server that fails, a client that guesses tokens, and many refunds.
func (m *monitored) faultsOfSQLite(t *testing.T) {
	t.Helper()
	g, admin := m.sqlite.Nodes[0], m.sqlite.Nodes[0].AdminClient()
	names := []string{
		"FareboxConfigLoadFailed", "FareboxShareNearlyUsed", "FareboxKeysExpireToday", "FareboxKeysExpireSoon",
		"FareboxUpstreamFailing", "FareboxRefusalsJump", "FareboxHitRatioCollapsed",
	}
	empty := func() {}
	if m.mounted {
		names = append(names, "FareboxDiskLow", "FareboxDiskNearlyFull")
		empty = m.fillDisk(t)
	} else {
		unmade["FareboxDiskLow"], unmade["FareboxDiskNearlyFull"] = "no small disk", "no small disk"
	}
	good := m.sqlite.site(filepath.Join(m.disk, "farebox.db"))
	if status, answer := reload(t, g, strings.Replace(good, "currency USD", "currency EUR", 1)); status == http.StatusOK {
		t.Errorf("a bad config was loaded: %s", answer)
	}
	key := m.sqlite.NewKey(t, admin, map[string]any{"account": "payer", "expires_in": "1h"})
	leave := m.sqlite.holdStreams(t)
	m.sqlite.refund(t, 40)
	m.sqlite.failing.Store(true)
	m.sqlite.flood.Store(true)
	m.fire(t, append(names, "FareboxRefundsJump")...)

	empty()
	leave()
	m.sqlite.failing.Store(false)
	m.sqlite.flood.Store(false)
	harness.Ask(t, admin, http.MethodDelete, "keys/"+key.ID, nil, nil)
	mended := strings.Replace(good, "level WARN", "level ERROR", 1) // a reload of the very same config does nothing
	if status, answer := reload(t, g, mended); status != http.StatusOK {
		t.Errorf("a good config was not loaded: %d %s", status, answer)
	}
	m.stop(t, names...)
}

// exec runs a statement in the database.
func (m *monitored) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, m.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}

// slowPostgres locks the table of accounts again and again, so that calls wait.
func (m *monitored) slowPostgres(t *testing.T) {
	t.Helper()
	names := []string{"FareboxSlow", "FareboxQueueNearlyFull"}
	ctx, unlock := context.WithCancel(t.Context())
	var locking sync.WaitGroup
	locking.Go(func() {
		for ctx.Err() == nil {
			_ = m.exec(ctx, "BEGIN; LOCK TABLE account IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.8); COMMIT") // the statement must fail when the context ends
			_ = clock.Sleep(ctx, 100*time.Millisecond)
		}
	})
	m.fire(t, names...)
	unlock()
	locking.Wait()
	m.stop(t, names...)
}

// wrongBooks changes a balance in the database without a transaction of the ledger.
func (m *monitored) wrongBooks(t *testing.T) {
	t.Helper()
	m.postgres.NewAgent(t, "idle", ledger.Unit)
	if err := m.exec(t.Context(), "UPDATE account SET live = live + 1 WHERE name = 'idle'"); err != nil {
		t.Fatal(err)
	}
	m.fire(t, "FareboxLedgerDiffers")
	if err := m.exec(t.Context(), "UPDATE account SET live = live - 1 WHERE name = 'idle'"); err != nil {
		t.Fatal(err)
	}
	m.stop(t, "FareboxLedgerDiffers")
}

// postgresDown kills PostgreSQL while the MCP server is working on calls, and starts it
// again.
func (m *monitored) postgresDown(t *testing.T) {
	t.Helper()
	names := []string{"FareboxStoreDown", "FareboxCapturesFailing", "FareboxRevocationLagging", "FareboxRefundsOwed"}
	if clock.Shift() == 0 { // a test with a shifted clock cannot use Prometheus, which has the system's clock
		names = append(names, "FareboxLedgerNotVerified")
	} else {
		unmade["FareboxLedgerNotVerified"] = "the gateways have another clock than Prometheus"
	}
	var calls sync.WaitGroup
	for i := range 6 {
		calls.Go(func() { m.postgres.calls("/mcp", "payer", "keep")(t.Context(), m.postgres.Nodes[i%2], i) })
	}
	harness.Eventually(t, "calls at the server behind", func() error {
		if n := m.postgres.keeping.Load(); n < 6 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	m.server.Kill(t)
	close(m.postgres.kept)
	calls.Wait()
	m.fire(t, names[1])
	m.fire(t, names[0], names[2])
	m.fire(t, names[3:]...)
	m.server.Start(t)
	m.stop(t, names...)
}

// lostNodes kills one of the two gateways on PostgreSQL, and the only gateway on SQLite.
func (m *monitored) lostNodes(t *testing.T) {
	t.Helper()
	node, single := m.postgres.Nodes[1], m.sqlite.Nodes[0]
	node.Kill()
	single.Kill()
	m.fire(t, "FareboxNodeLost", "FareboxDown")
	node.Start(t)
	single.Start(t)
	m.stop(t, "FareboxNodeLost", "FareboxDown")
}
