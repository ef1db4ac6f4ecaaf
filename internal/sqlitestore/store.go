package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// maxReaders bounds the reading connections.
const maxReaders = 4

// Options configure Open.
type Options struct {
	// Path is the path of the file. The directory must exist. A missing file is
	// created, readable by its owner only.
	Path string
	// Now is the clock for expiry and for recorded times. Nil means clock.Now.
	Now func() time.Time
	// Logger logs when the store becomes unavailable and comes back. If it is nil,
	// nothing is logged.
	Logger *slog.Logger
	// NearCap, if not nil, is called once per period, when 80 % of a cap are spent. It
	// must be fast, because the store waits for it.
	NearCap func(ledger.Cap)
	// Committed, if not nil, is called for each transaction that was committed or has
	// failed, with the number of captures and changes in it. It must be fast, because
	// the store waits for it.
	Committed func(rows int, took time.Duration, err error)
	// Audited, if not nil, is called with each audit row after its commit, before the
	// method that wrote the row returns.
	Audited func(ledger.Audit)
	// MaxResponseBytes bounds how many bytes all stored responses of calls with an
	// idempotency key take together. 0 means DefaultResponseBytes.
	MaxResponseBytes int64

	connect connect // opens connectors to the file; nil means sqlite.NewConnector
}

// Store is an open store. All its methods are safe for concurrent use. Failures of
// the store itself wrap ledger.ErrUnavailable. Methods also return the errors that
// packages ledger and keys define. Any other error means bad input.
type Store struct {
	path    string
	now     func() time.Time
	lock    *fileLock
	books   *books
	writer  *writer
	readers *sql.DB
	reads   reads

	connect   connect
	audited   func(ledger.Audit)
	verifying chan struct{} // full while a verification or an archiving runs
	backups   *backups
	voids     voidBatcher

	usageSweep rollup.Sweep

	closing sync.Once
	closed  error
}

// reads are the prepared statements of the connections that only read.
type reads struct{ keyByDigest, charge, bySeq, response, charges, journal, chain, earned *sql.Stmt }

// Open opens or creates the store at o.Path, takes the lock beside it, migrates its
// schema and rebuilds memory. It fails with ErrLocked while another process or
// another Store has the file open. It refuses a damaged file, a file of another
// program, and a file with a newer schema. ctx applies to Open alone, not to the
// store. The caller must Close the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = clock.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.NearCap == nil {
		o.NearCap = func(ledger.Cap) {}
	}
	if o.Committed == nil {
		o.Committed = func(int, time.Duration, error) {}
	}
	if o.Audited == nil {
		o.Audited = func(ledger.Audit) {}
	}
	if o.MaxResponseBytes == 0 {
		o.MaxResponseBytes = DefaultResponseBytes
	}
	if o.connect == nil {
		o.connect = plainConnect
	}
	path, err := canonical(o.Path)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(removeLeftovers(path), oneName(path)); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	s := &Store{verifying: make(chan struct{}, 1), path: path, now: o.Now, lock: lock, books: newBooks(), connect: o.connect, audited: o.Audited, backups: newBackups()}
	if err := s.open(ctx, &o); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, o *Options) error {
	db, err := openWriter(ctx, s.path, o.connect)
	if err != nil {
		return err
	}
	w := &writer{
		path: s.path, connect: o.connect, now: s.now, log: o.Logger, books: s.books,
		nearCap: o.NearCap, report: o.Committed, maxResponseBytes: o.MaxResponseBytes, settlers: settlers{},
		opened: clock.Now(), queue: make(chan job, maxQueue), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := migrate(ctx, db, s.path, o.Logger); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := w.attach(db); err != nil {
		return errors.Join(err, db.Close())
	}
	err = w.checkpoint()
	if err == nil {
		err = (&tx{w: w}).load()
	}
	if err == nil {
		err = s.openReaders(ctx, o.connect)
	}
	if err != nil {
		w.disconnect()
		return fmt.Errorf("reading store %s: %w", s.path, err)
	}
	w.file, _ = os.Stat(s.path) // if the file cannot be examined, w.file is nil, and checkPlace does not check the file
	s.writer = w
	go w.run()
	return nil
}

func (s *Store) openReaders(ctx context.Context, c connect) error {
	connector, err := c(readerDSN(s.path))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(maxReaders)
	db.SetMaxIdleConns(maxReaders)
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.reads.keyByDigest, selectKey + `WHERE digest = ?`},
		{&s.reads.charge, selectRow + `WHERE id = ?`},
		{&s.reads.bySeq, selectRow + `WHERE seq = ?`},
		{&s.reads.response, selectResponse},
		{&s.reads.journal, selectJournal},
		{&s.reads.charges, selectRow + `WHERE seq < ? ORDER BY seq DESC LIMIT ?`},
		{&s.reads.chain, selectChain},
		{&s.reads.earned, selectEarned},
	} {
		if *p.stmt, err = db.PrepareContext(ctx, p.query); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	s.readers = db
	return nil
}

// Close finishes the queued jobs, writes the snapshots and releases the file and
// its lock. Calls of other methods then fail with ledger.ErrUnavailable. Further
// calls of Close return the first result.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.backups.close()
		s.writer.close()
		readers := s.readers.Close()
		s.writer.disconnect() // closing the last connection that can write empties the log
		s.closed = errors.Join(s.writer.err, readers, s.lock.release())
	})
	return s.closed
}

// Healthy returns nil, or an error that wraps ledger.ErrUnavailable and says why
// the store cannot write now.
func (s *Store) Healthy() error {
	if d := s.writer.down.Load(); d != nil {
		return d
	}
	return nil
}

// Queue returns the number of writes that wait, and the number at which further
// callers wait for room.
func (s *Store) Queue() (length, limit int) { return len(s.writer.queue), maxQueue }

// do runs a change in its own transaction and returns as soon as the change is
// durable. ctx can cancel the change only until the writer receives it.
func (s *Store) do(ctx context.Context, change func(*tx) error) error {
	var rows []ledger.Audit
	err := s.run(ctx, &changeJob{do: func(t *tx) error {
		err := change(t)
		rows = t.audits
		return err
	}})
	if err != nil {
		return err
	}
	for _, row := range rows {
		s.audited(row)
	}
	return nil
}

// inspect runs look(t) in the writer's goroutine, so that the store writes nothing else
// meanwhile.
func (s *Store) inspect(ctx context.Context, look func(*tx) error) error {
	return s.run(ctx, &changeJob{do: look, bare: true})
}

func (s *Store) run(ctx context.Context, c *changeJob) error {
	c.done = make(chan error, 1)
	if err := s.writer.submit(ctx, job{change: c}); err != nil {
		return err
	}
	return <-c.done
}

// background returns the context for statements. With a cancellable context, each
// statement would start a goroutine.
func background() context.Context { return context.Background() }

// readError returns ledger.ErrNotFound for an absent row, and wraps failures of
// the database.
func readError(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(err)
}
