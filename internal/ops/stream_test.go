package ops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"

	"github.com/fareboxhq/farebox/internal/clock"
)

// officeOf returns an office with the existing store at the path. middle wraps the
// handler of the office.
func officeOf(t *testing.T, path string, middle func(http.Handler) http.Handler) *office {
	t.Helper()
	store, err := sqlitestore.Open(context.Background(), sqlitestore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	handler := endpoint(admin.New(store, nil, func() *admin.Settings { return new(admin.Settings) }, clock.Now))
	server := httptest.NewServer(middle(handler))
	t.Cleanup(func() {
		server.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &office{t: t, store: store, Client: &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}}
}

func straight(h http.Handler) http.Handler { return h }

// longBooks creates a store with n charges between two accounts.
func longBooks(t *testing.T, n int64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "f.db")
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"payer", "payee"} {
		if err := store.CreateAccount(t.Context(), ledger.Account{ID: ids.New("acct_"), Name: name, CreditLimit: ledger.Unit}, ledger.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`WITH RECURSIVE i (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?)
		INSERT INTO txn (seq, id, kind, debtor, creditor, amount, test, at, prev_debtor, prev_creditor, key, server, tool)
		SELECT x, randomblob(16), 1, 2, 3, 1, 0, 1, x - 1, x - 1, 'key_1', 's', 't' FROM i;
		UPDATE account SET live = iif(n = 2, -?1, ?1), as_of = ?1, debit_head = iif(n = 2, ?1, 0), credit_head = iif(n = 3, ?1, 0) WHERE n IN (2, 3);
		INSERT INTO spend (subject, day, spent_day, spent_month, free_day, as_of)
			SELECT value, 0, ?1, ?1, 0, ?1 FROM json_each('["key:key_1", "account:2:live", "server:2:live:s"]');
		UPDATE meta SET replay_from = ?1 + 1`, n)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyProgress checks that verifying 200,000 transactions reports progress many
// times before the result.
func TestVerifyProgress(t *testing.T) {
	n := int64(200_000)
	if raceEnabled { // with the race detector, the full number would take a minute
		n = 20_000
	}
	o := officeOf(t, longBooks(t, n), straight)
	var told []int64
	began := clock.Now()
	raw, err := o.Stream(t.Context(), "POST", "ledger/verify", struct{}{}, func(done, total int64) {
		if total != n || len(told) > 0 && done <= told[len(told)-1] {
			t.Errorf("progress %d of %d after %v", done, total, told)
		}
		told = append(told, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d lines of progress in %v", len(told), clock.Since(began))
	if len(told) < 5 || len(told) > 2*progressParts || told[len(told)-1] != n {
		t.Errorf("progress %v", told)
	}
	var v admin.VerificationView
	if err := json.Unmarshal(raw, &v); err != nil || v.Transactions != n || len(v.Differences) != 0 {
		t.Errorf("%s, %v", raw, err)
	}
	// A client that does not accept the stream gets only the result.
	if v := do[admin.VerificationView](o, "POST", "ledger/verify", struct{}{}); v.Transactions != n {
		t.Errorf("%+v", v)
	}
	page := do[admin.JournalView](o, "GET", "journal?limit=1", nil)
	if page.Total != n || len(page.Items) != 1 {
		t.Errorf("first page %+v", page)
	}
	if page = do[admin.JournalView](o, "GET", "journal?limit=1&after="+page.Next, nil); page.Total != 0 || len(page.Items) != 1 {
		t.Errorf("second page %+v", page)
	}
}

// fetch makes a backup. It returns the result, the copy of the store, and the number of
// progress reports.
func (o *office) fetch(ctx context.Context) (head admin.BackupView, content []byte, told int, err error) {
	err = o.Fetch(ctx, "GET", "backup", nil, func(int64, int64) { told++ }, func(result json.RawMessage, r io.Reader) error {
		if err := json.Unmarshal(result, &head); err != nil {
			return err
		}
		content, err = io.ReadAll(r)
		return err
	})
	return head, content, told, err
}

// TestBackupIsStreamed checks that the response has the size and the sum of the copy
// first, then the whole copy, and that the copy is a working store.
func TestBackupIsStreamed(t *testing.T) {
	o := officeOf(t, longBooks(t, 20_000), straight)
	head, content, told, err := o.fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if head.Size != int64(len(content)) || head.Sum != hex.EncodeToString(sum[:]) || head.Transactions != 20_000 || head.Schema < 1 || told < 2 {
		t.Errorf("%d bytes, progress %d times, head %+v", len(content), told, head)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	copied := officeOf(t, path, straight)
	if v := do[admin.VerificationView](copied, "POST", "ledger/verify", struct{}{}); v.Transactions != 20_000 || len(v.Differences) > 0 {
		t.Errorf("the copy: %+v", v)
	}
}

// TestBackupsOneAtATime checks that a second backup is refused with a status while one
// is running. When a client disconnects, its backup is cancelled, so that the next one
// can begin. The store is larger than the buffers of a connection, so that the backup
// cannot end before the client disconnects.
func TestBackupsOneAtATime(t *testing.T) {
	n := int64(120_000)
	if raceEnabled {
		n = 40_000
	}
	o := officeOf(t, longBooks(t, n), straight)
	ctx, leave := context.WithCancel(t.Context())
	err := o.Fetch(ctx, "GET", "backup", nil, nil, func(_ json.RawMessage, content io.Reader) error {
		o.refused(admin.Conflict, "a backup is being made already", "GET", "backup", nil)
		leave() // disconnects while most of the copy is unread
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	deadline := clock.Now().Add(20 * time.Second)
	for {
		_, _, _, err := o.fetch(t.Context())
		if err == nil {
			break
		}
		var refused *admin.Error
		if !errors.As(err, &refused) || refused.Code != admin.Conflict || clock.Now().After(deadline) {
			t.Fatalf("after its client has left: %v", err)
		}
	}
}

// TestStreamEndsBadly checks two bad ends of a stream. If an operation fails after it
// has reported progress, the last line gives the reason. If the connection breaks, the
// client returns an error.
func TestStreamEndsBadly(t *testing.T) {
	var o *office
	broken := -1 // number of bytes after which the response breaks off
	o = officeOf(t, longBooks(t, 6_000), func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken < 0 {
				h.ServeHTTP(&tripwire{w, func() { _ = o.store.Close() }}, r)
				return
			}
			whole := httptest.NewRecorder()
			h.ServeHTTP(whole, r)
			w.Header().Set("Content-Type", whole.Header().Get("Content-Type"))
			_, _ = w.Write(whole.Body.Bytes()[:broken])
		})
	})
	for _, broken = range []int{0, 10, 100} {
		if _, err := o.Stream(t.Context(), "POST", "ledger/verify", struct{}{}, nil); err == nil || !strings.Contains(err.Error(), "broke its answer off") {
			t.Errorf("cut after %d bytes: %v", broken, err)
		}
	}
	broken = -1
	told := 0
	_, err := o.Stream(t.Context(), "POST", "ledger/verify", struct{}{}, func(int64, int64) { told++ })
	var refused *admin.Error
	if !errors.As(err, &refused) || refused.Code != admin.Unavailable || told == 0 {
		t.Errorf("closed after %d lines: %v", told, err)
	}
}

// tripwire is a response writer that calls trip when the first progress line is
// written.
type tripwire struct {
	http.ResponseWriter
	trip func()
}

func (w *tripwire) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *tripwire) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"progress"`)) {
		w.trip()
	}
	return w.ResponseWriter.Write(p)
}
