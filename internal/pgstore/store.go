package pgstore

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgalert"
	"github.com/fareboxhq/farebox/internal/pgbinding"
	"github.com/fareboxhq/farebox/internal/pgdsn"
	"github.com/fareboxhq/farebox/internal/pgnode"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgschema"
	"github.com/fareboxhq/farebox/internal/pgusage"
	"github.com/fareboxhq/farebox/internal/signal"
)

// Timeouts of this node and of the server. Package pgquery has those of statements.
const (
	connectTime = 5 * time.Second
	lockTime    = 8 * time.Second // longer than idleTime, so that a waiter outlasts a frozen node
	idleTime    = 2 * time.Second // the server ends a transaction if the client is silent for this long
)

// DefaultMaxConns bounds the connections of a store, without those of its batchers.
const DefaultMaxConns = 8

// defaultRemember is the default of Options.Remember. It is longer than any call,
// because a call lives for an hour at most.
const defaultRemember = 2 * time.Hour

// Options configure a store.
type Options struct {
	// DSN names the database on the primary server, as a postgres:// URL or as
	// key=value pairs.
	DSN string
	// Schema is the schema of the tables, created if it does not exist. If Schema is
	// "", the connection's search path decides.
	Schema string
	// Logger logs outages of the database, their end, and failed clean-up. If it is
	// nil, the store logs nothing.
	Logger *slog.Logger
	// NearCap, if not nil, is called on the capturing node when a capture raises the
	// spending to 80 % of a cap or more, once in each period. It must be fast.
	NearCap func(ledger.Cap)
	// Committed, if not nil, is called for each batch that was committed or has failed,
	// with the number of operations in it. It must be fast.
	Committed func(rows int, took time.Duration, err error)
	// Audited, if not nil, is called with each audit row that this node has committed,
	// before the method that wrote the row returns.
	Audited func(ledger.Audit)
	// MaxConns bounds the connections, without those of the two batchers, which have at
	// most two each. 0 means DefaultMaxConns.
	MaxConns int
	// MaxAnswers bounds the stored responses, in bytes. 0 means DefaultAnswers. The
	// store enforces it every half minute.
	MaxAnswers int64

	// Shift returns how far to move the server's clock ahead. It is for tests; nil
	// means clock.Shift, the shift of the process clock.
	Shift func() time.Duration
	// Remember is how long the store remembers released and expired reservations. Zero
	// means defaultRemember. Only tests set it.
	Remember time.Duration

	maxBatch int // bounds the operations in a batch; only tests set it
}

// Store is an open store. Its methods are safe for concurrent use. Failures of the
// store itself wrap ledger.ErrUnavailable. Methods also return the errors that
// packages ledger and keys define. Any other error means bad input.
type Store struct {
	*pgusage.Sums
	*pgalert.Reader
	*pgnode.Nodes
	*pgbinding.Handles
	o    Options
	pool *pgxpool.Pool
	db   pgquery.DB // statements on pool

	reserves *batcher
	settles  *batcher

	down     atomic.Pointer[pgquery.Outage]
	archived atomic.Pointer[archived] // the state of the archive as last read

	settled atomic.Int64 // the journal is complete up to this number
	open    atomic.Int64 // the last count of open reservations

	changed signal.Broadcast // notified when keys may have changed

	verifying chan struct{} // a semaphore that admits one verification

	ctx     context.Context // ends when the store closes
	end     context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// Open connects to the database, brings its schema up to date, and starts the
// background work. It refuses a schema that is newer than this program. ctx bounds
// only Open, not the life of the store. The caller must Close the store.
func Open(ctx context.Context, o Options) (*Store, error) {
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
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.MaxAnswers == 0 {
		o.MaxAnswers = DefaultAnswers
	}
	if o.Shift == nil {
		o.Shift = clock.Shift
	}
	if o.Remember == 0 {
		o.Remember = defaultRemember
	}
	if o.maxBatch == 0 {
		o.maxBatch = maxBatch
	}
	if _, _, err := migrate(ctx, &o, nil); err != nil {
		return nil, err
	}
	s := &Store{o: o, verifying: make(chan struct{}, 1)}
	s.Sums = pgusage.New(pgusage.Options{Begin: s.db.Begin, Failure: pgquery.Failure, Shift: s.shift, Timeout: pgquery.StatementTime + pgquery.Margin})
	s.Handles = pgbinding.New(pgbinding.Options{DB: &s.db, Shift: s.shift})
	s.Reader = pgalert.New(pgalert.Options{DB: &s.db, Shift: s.shift, Settled: &s.settled})
	s.Nodes = pgnode.New(&s.db)
	s.archived.Store(new(archived))
	s.ctx, s.end = context.WithCancel(context.Background())
	if err := s.connect(ctx); err != nil {
		s.end()
		return nil, err
	}
	if err := s.readArchived(ctx); err != nil {
		s.end()
		s.reserves.pool.Close()
		s.settles.pool.Close()
		s.pool.Close()
		return nil, err
	}
	s.running.Go(s.reserves.run)
	s.running.Go(s.settles.run)
	s.running.Go(s.maintain)
	s.running.Go(s.listen)
	return s, nil
}

// connect opens the pools and creates the batchers.
func (s *Store) connect(ctx context.Context) (err error) {
	var reserves, settles *pgxpool.Pool
	defer func() {
		for _, p := range []*pgxpool.Pool{s.pool, reserves, settles} {
			if err != nil && p != nil {
				p.Close()
			}
		}
	}()
	if s.pool, err = newPool(ctx, &s.o, s.o.MaxConns, true); err != nil {
		return err
	}
	if reserves, err = newPool(ctx, &s.o, batcherConns, false); err != nil {
		return err
	}
	if settles, err = newPool(ctx, &s.o, batcherConns, true); err != nil {
		return err
	}
	s.reserves = newBatcher(s, reserves, time.Second)
	s.settles = newBatcher(s, settles, 5*time.Second)
	s.db = pgquery.DB{Pool: s.pool, Refresh: s.refresh}
	return nil
}

// batcherConns allows one connection in use, and one to replace it when it breaks.
const batcherConns = 2

// newPool opens a pool. If durable is true, a COMMIT waits until it is on disk.
func newPool(ctx context.Context, o *Options, conns int, durable bool) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, pgdsn.ErrInvalid // the library's error may quote a password
	}
	c.MaxConns, c.MinConns = int32(conns), 0
	c.PingTimeout = connectTime
	c.ConnConfig.ConnectTimeout = connectTime
	for name, value := range map[string]string{
		"application_name":                    "farebox",
		"statement_timeout":                   millis(pgquery.StatementTime),
		"lock_timeout":                        millis(lockTime),
		"idle_in_transaction_session_timeout": millis(idleTime),
		"timezone":                            "UTC",
		"jit":                                 "off",
	} {
		c.ConnConfig.RuntimeParams[name] = value
	}
	if o.Schema != "" {
		c.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{o.Schema}.Sanitize()
	}
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return prepare(ctx, conn, durable) }
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, pgquery.Failure(ctx, err)
	}
	return pool, nil
}

// Migrate brings the schema of the database up to date, as Open does, and returns
// the version before and after. After each version it calls progress, if not nil,
// with the number of versions done. Several nodes may migrate at once. Migrate
// refuses a schema that is newer than this program.
func Migrate(ctx context.Context, o Options, progress func(done, total int64)) (from, to int64, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return migrate(ctx, &o, progress)
}

func migrate(ctx context.Context, o *Options, progress func(done, total int64)) (from, to int64, err error) {
	if err := pgdsn.Check(o.DSN); err != nil {
		return 0, 0, err
	}
	from, to, err = pgschema.Migrate(ctx, &pgschema.Options{DSN: o.DSN, Schema: o.Schema, ConnectTimeout: connectTime, Logger: o.Logger}, progress)
	var newer *pgschema.NewerError
	if errors.As(err, &newer) {
		return from, to, err
	}
	return from, to, pgquery.Failure(ctx, err)
}

// Schema returns the version of the schema that this program works with.
func Schema() (version int64, err error) { return pgschema.Latest() }

// prepare overrides server settings that the store's promises depend on. Durable
// commits must reach the disk. Plans must use indexes even if they were made while
// the tables were still empty.
func prepare(ctx context.Context, conn *pgx.Conn, durable bool) error {
	if err := loadTypes(ctx, conn); err != nil {
		return err
	}
	query := `SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan; `
	if durable {
		query += `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`
	} else {
		query += `SET synchronous_commit = off`
	}
	_, err := conn.Exec(ctx, query, pgx.QueryExecModeSimpleProtocol)
	return err
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Close lets queued operations finish and closes the connections. Later calls fail
// with ledger.ErrUnavailable.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.reserves.close()
		s.settles.close()
		s.down.Store(&pgquery.Outage{Cause: errClosed})
		s.end()
		s.running.Wait()
		s.reserves.pool.Close()
		s.settles.pool.Close()
		s.pool.Close()
	})
	return nil
}

var errClosed = errors.New("the store is closed")

// Healthy returns nil, or the error of the current outage of the database, which
// wraps ledger.ErrUnavailable.
func (s *Store) Healthy() error {
	if d := s.down.Load(); d != nil {
		return d
	}
	return nil
}

// shift returns how far SQL functions move the clock ahead, in microseconds.
func (s *Store) shift() int64 { return s.o.Shift().Microseconds() }
