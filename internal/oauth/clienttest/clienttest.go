// Package clienttest has the test suite that every store of OAuth clients must pass.
package clienttest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// Run tests a store, which must be empty.
func Run(t *testing.T, s client.Store) {
	t.Run("registrations", func(t *testing.T) { registrations(t, s) })
	t.Run("documents", func(t *testing.T) { documents(t, s) })
	t.Run("assertions", func(t *testing.T) { assertions(t, s) })
}

// start is the time of the first row, in the precision of the stores.
func start() time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// registrations: a registration comes back as it was stored; unfinished ones are counted by
// source; rows are deleted from exactly the times on that the caller names.
func registrations(t *testing.T, s client.Store) {
	ctx, now := t.Context(), start()
	if _, err := s.Registration(ctx, "fbclient_none"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	rows := []client.Registration{
		{ID: "fbclient_a", Name: "Äpfel ⚡", Metadata: []byte(`{"client_name":"Äpfel ⚡","redirect_uris":["http://localhost/"]}`), Source: "2001:db8::/64", CreatedAt: now},
		{ID: "fbclient_b", Metadata: []byte(`{}`), Secret: client.Digest{0, 1, 255}, Source: "192.0.2.1", CreatedAt: now.Add(time.Microsecond)},
		{ID: "fbclient_c", Metadata: []byte(`{}`), Source: "192.0.2.1", CreatedAt: now.Add(2 * time.Microsecond)},
	}
	for i := range rows {
		check(t, s.InsertRegistration(ctx, &rows[i]))
	}
	same := func(want client.Registration) {
		t.Helper()
		got, err := s.Registration(ctx, want.ID)
		check(t, err)
		got.CreatedAt, got.UsedAt = got.CreatedAt.UTC(), got.UsedAt.UTC()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	count := func(source string, wantBySource, wantTotal int64) {
		t.Helper()
		bySource, total, err := s.CountUnfinished(ctx, source)
		if err != nil || bySource != wantBySource || total != wantTotal {
			t.Errorf("%s: %d of %d, %v; want %d of %d", source, bySource, total, err, wantBySource, wantTotal)
		}
	}
	for _, row := range rows {
		same(row)
	}
	count("192.0.2.1", 2, 3)
	count("192.0.2.2", 0, 3)
	rows[2].UsedAt = now.Add(time.Hour)
	check(t, s.TouchRegistration(ctx, rows[2].ID, rows[2].UsedAt))
	check(t, s.TouchRegistration(ctx, "fbclient_none", now))
	same(rows[2])
	count("192.0.2.1", 1, 2)
	for _, step := range []struct {
		unfinished, unused time.Time
		want               int64
	}{
		{now, now.Add(time.Hour), 0},
		{now.Add(time.Microsecond), now.Add(time.Hour), 1},
		{now.Add(time.Microsecond), now.Add(time.Hour + time.Microsecond), 1},
		{now.Add(time.Hour), now.Add(time.Hour), 1},
	} {
		if n, err := s.DeleteRegistrations(ctx, step.unfinished, step.unused); err != nil || n != step.want {
			t.Errorf("%d rows deleted, want %d: %v", n, step.want, err)
		}
	}
	count("192.0.2.1", 0, 0)
}

// documents: a document comes back byte for byte, another one of its URL replaces it, and
// documents are deleted by the time of their fetch.
func documents(t *testing.T, s client.Store) {
	ctx, now := t.Context(), start()
	const url = "https://agent.example/client.json"
	if _, err := s.Document(ctx, url); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("an unknown URL: %v", err)
	}
	d := client.Document{URL: url, Body: []byte("{\"a\": \"é\"}\n"), FetchedAt: now, FreshTo: now.Add(time.Hour)}
	for _, change := range []func(){
		func() {},
		func() { d.FailedAt = now.Add(time.Minute) },
		func() {
			d = client.Document{URL: url, Body: bytes.Repeat([]byte("x"), client.MaxDocument), FetchedAt: now.Add(time.Second), FreshTo: now.Add(2 * time.Hour)}
		},
	} {
		change()
		check(t, s.PutDocument(ctx, &d))
		got, err := s.Document(ctx, url)
		check(t, err)
		if got.URL != d.URL || !bytes.Equal(got.Body, d.Body) || !got.FetchedAt.Equal(d.FetchedAt) || !got.FreshTo.Equal(d.FreshTo) || !got.FailedAt.Equal(d.FailedAt) || got.FailedAt.IsZero() != d.FailedAt.IsZero() {
			t.Errorf("got %.300v, want %.300v", got, d)
		}
		if n, err := s.CountDocuments(ctx); n != 1 || err != nil {
			t.Errorf("%d documents, %v", n, err)
		}
	}
	for after, want := range []int64{0, 1} {
		if n, err := s.DeleteDocuments(ctx, d.FetchedAt.Add(time.Duration(after)*time.Microsecond)); n != want || err != nil {
			t.Errorf("%d documents deleted, want %d: %v", n, want, err)
		}
	}
}

// assertions: a digest can be used by one of any number of callers, until its row
// is deleted after it expired.
func assertions(t *testing.T, s client.Store) {
	ctx, now := t.Context(), start()
	digest, other := client.Digest{1, 2, 3}, client.Digest{1, 2, 4}
	var won atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			switch err := s.UseOnce(ctx, digest, now); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ledger.ErrExists):
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d callers used the digest", n)
	}
	check(t, s.UseOnce(ctx, other, now.Add(time.Hour)))
	for _, step := range []struct {
		at   time.Time
		want string
	}{{now, "0 false false"}, {now.Add(time.Microsecond), "1 true false"}} {
		n, err := s.DeleteUsed(ctx, step.at)
		check(t, err)
		again := func(d client.Digest) bool {
			err := s.UseOnce(ctx, d, now.Add(time.Hour))
			if err != nil && !errors.Is(err, ledger.ErrExists) {
				t.Error(err)
			}
			return err == nil
		}
		if got := fmt.Sprint(n, again(digest), again(other)); got != step.want {
			t.Errorf("at %v: %s, want %s", step.at, got, step.want)
		}
	}
}
