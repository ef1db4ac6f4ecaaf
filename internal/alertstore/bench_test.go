package alertstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// BenchmarkEvaluate measures an evaluation of a journal in which each of 100,000 keys
// has paid once. Half of the keys have caps. It also measures an evaluation of the same
// store without new transactions.
func BenchmarkEvaluate(b *testing.B) {
	const accounts, each = 10_000, 10
	store, err := sqlitestore.Open(b.Context(), sqlitestore.Options{Path: filepath.Join(b.TempDir(), "farebox.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	payee := newAccount(b, store, "payee")
	var made sync.WaitGroup
	places := make(chan struct{}, 64)
	for i := range accounts {
		places <- struct{}{}
		made.Go(func() {
			defer func() { <-places }()
			payer := newAccount(b, store, fmt.Sprint("payer", i))
			for j := range each {
				payOnce(b, store, payer, payee, j%2 == 0)
			}
		})
	}
	made.Wait()
	now := func() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
	service := admin.New(store, nil, func() *admin.Settings { return &admin.Settings{} }, now)
	rows := New(store.Rows())
	alerts := alert.New(rows, alert.Options{Now: now, NewID: id.New, Accounts: service, Books: store})
	evaluate := func() {
		for more := true; more; {
			if more, err = alerts.Evaluate(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("moved", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			err := rows.Change(b.Context(), func(tx alert.Tx) error {
				c, err := tx.Cursor()
				if err == nil {
					_, err = tx.MoveCursor(c, alert.Cursor{})
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			evaluate()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/accounts/each, "ns/key")
	})
	b.Run("idle", func(b *testing.B) {
		for b.Loop() {
			evaluate()
		}
	})
}

func newAccount(b *testing.B, store *sqlitestore.Store, name string) string {
	b.Helper()
	account := id.New("acct_")
	if err := store.CreateAccount(b.Context(), ledger.Account{ID: account, Name: name}, ledger.Audit{}); err != nil {
		b.Error(err)
	}
	_, _, err := store.PostTransaction(b.Context(), ledger.Transaction{ID: id.New("txn_"), Kind: ledger.KindCredit, Creditor: account, Amount: 100 * ledger.Unit, Reason: "top-up"}, ledger.Audit{})
	if err != nil {
		b.Error(err)
	}
	return account
}

// payOnce makes a key and pays for one call with it. If capped is true, the key has
// caps.
func payOnce(b *testing.B, store *sqlitestore.Store, payer, payee string, capped bool) {
	b.Helper()
	k := keys.Key{ID: id.New("key_"), Account: payer, Kind: keys.Agent, Environment: keys.Live, Digest: keys.DigestOf(keys.Mint(keys.Agent, keys.Live))}
	k.Lineage = k.ID
	if capped {
		k.Limits = &keys.Limits{Day: 100 * int64(ledger.Unit)}
	}
	if err := store.CreateKey(b.Context(), k, ledger.Audit{}); err != nil {
		b.Error(err)
	}
	charge := id.New("chg_")
	o := ledger.Order{Account: payer, Provider: payee, Key: k.ID, Lineage: k.Lineage, Server: "weather", Tool: "get_forecast", Amount: ledger.Unit / 100}
	if _, err := store.Reserve(b.Context(), charge, o, ledger.Terms{}); err != nil {
		b.Error(err)
	}
	if _, _, err := store.Capture(b.Context(), charge, nil); err != nil {
		b.Error(err)
	}
}
