package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxReaders bounds the connections that read.
const maxReaders = 4

// Options say which file to open and how.
type Options struct {
	// Path of the file. Its directory must exist; the file is made, readable
	// by its owner only, if there is none.
	Path string
	// Now tells the time that expiry is judged by and that is recorded;
	// clock.Now if nil.
	Now func() time.Time
	// Logger hears when the store goes down and comes back; silent if nil.
	Logger *slog.Logger
	// NearCap hears of caps of which 80 % are spent, once for each period; nil
	// for nobody. It must be fast: the store waits for it.
	NearCap func(ledger.Cap)
	// MaxAnswers bounds the answers that are kept for callers that call again,
	// in bytes; DefaultAnswers if 0.
	MaxResponseBytes int64

	connect connect // sqlite.NewConnector if nil
}

// Store is an open store. All its methods may be used by many goroutines at
// once. Errors that are none of those of package ledger or keys mean bad
// input; failures of the store wrap ledger.ErrUnavailable.
type Store struct {
	path    string
	now     func() time.Time
	lock    *fileLock
	books   *books
	writer  *writer
	readers *sql.DB
	reads   reads

	connect   connect
	verifying chan struct{} // holds one while a verification runs
	backups   *backups
	voids     voidBatcher

	closing sync.Once
	closed  error
}

// reads are the prepared statements of the readers.
type reads struct{ keyByDigest, charge, bySeq, response, charges, chain, earned *sql.Stmt }

// Open opens or makes the store at o.Path, takes the lock beside it, brings its
// schema up to date and rebuilds memory. It fails with ErrLocked while another
// process has the file open, and refuses a file that is damaged, of another
// program, or of a newer schema. Only what it does before it returns is bound
// to ctx. The caller must Close the store.
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
	s := &Store{verifying: make(chan struct{}, 1), path: path, now: o.Now, lock: lock, books: newBooks(), connect: o.connect, backups: newBackups()}
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
		nearCap: o.NearCap, maxResponseBytes: o.MaxResponseBytes, settlers: settlers{},
		queue: make(chan job, maxQueue), ending: make(chan struct{}), ended: make(chan struct{}),
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

// Close lets what is queued finish, writes the snapshots and gives the file and
// its lock back. Whatever is called afterwards fails with
// ledger.ErrUnavailable. Further calls return what the first did.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.backups.close()
		s.writer.close()
		readers := s.readers.Close()
		s.writer.disconnect() // the last one that may write empties the log
		s.closed = errors.Join(s.writer.err, readers, s.lock.release())
	})
	return s.closed
}

// Healthy returns nil, or why the store cannot write now, which wraps
// ledger.ErrUnavailable.
func (s *Store) Healthy() error {
	if d := s.writer.down.Load(); d != nil {
		return d
	}
	return nil
}

// do runs a change in a transaction of its own and returns when it is durable.
// Once it was handed to the writer, ctx does not cancel it.
func (s *Store) do(ctx context.Context, change func(*tx) error) error {
	return s.run(ctx, &changeJob{do: change})
}

// inspect runs look in the writer's goroutine, while nothing is being written.
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

// background is for statements: one that can be cancelled would start a
// goroutine each.
func background() context.Context { return context.Background() }

// readError tells an absent row from a failure of the database.
func readError(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.ErrNotFound
	}
	return failure(err)
}
