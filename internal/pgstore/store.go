package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgdsn"
	"github.com/fareboxhq/farebox/internal/pgschema"
	"github.com/fareboxhq/farebox/internal/signal"
)

// Bounds of waiting, on this side and on the server.
const (
	connectTime   = 5 * time.Second
	statementTime = 10 * time.Second
	lockTime      = 8 * time.Second // longer than idleTime, so that waiting outlasts a frozen node
	idleTime      = 2 * time.Second // a transaction whose client is silent ends after it
	// margin is for the network: the server gives up first, with a reason.
	margin = 2 * time.Second
)

// DefaultMaxConns is how many connections a store has beside those of its two
// batchers.
const DefaultMaxConns = 8

// defaultRemember is how long the store remembers released and expired
// reservations. A call lives for an hour at most.
const defaultRemember = 2 * time.Hour

// Options configure a store.
type Options struct {
	// DSN names the database on the primary server, as a postgres:// URL or as
	// key=value pairs.
	DSN string
	// Schema is the schema of the tables, created if it does not exist. If it is
	// "", the connection's search path decides.
	Schema string
	// Logger logs that the store goes down or comes back; nil logs nothing.
	Logger *slog.Logger
	// NearCap, if not nil, is called for caps of which 80 % are spent, once for
	// each period, on the node that captured. It must be fast.
	NearCap func(ledger.Cap)
	// MaxConns bounds the connections beside those of the batchers, which have
	// at most two each; DefaultMaxConns if 0.
	MaxConns int
	// MaxAnswers bounds the stored responses, in bytes; DefaultAnswers if 0. The
	// store enforces it every half minute.
	MaxAnswers int64

	// Shift, for tests, returns how far ahead to take the server's clock; nil for
	// as far as the process clock is (clock.Shift).
	Shift func() time.Duration
	// Remember is how long the store remembers released and expired
	// reservations: two hours if 0, longer than a call lives. Tests set it.
	Remember time.Duration

	maxBatch int // for tests: the most operations in a batch
}

// Store is an open store. Its methods are safe for concurrent use. Failures of the
// store wrap ledger.ErrUnavailable; errors that wrap none of package ledger or keys
// mean bad input.
type Store struct {
	o    Options
	pool *pgxpool.Pool

	reserves *batcher
	settles  *batcher

	down     atomic.Pointer[outage]
	archived atomic.Pointer[archived] // as last read

	settled atomic.Int64 // up to this transaction the journal is complete
	open    atomic.Int64 // reservations, when they were last counted

	changed signal.Broadcast // keys may have changed

	verifying chan struct{} // a semaphore of one

	ctx     context.Context // ends when the store closes
	end     context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// Open connects to the database, brings its schema up to date, and starts the
// background work. It refuses a schema that is newer than this program. ctx bounds
// Open alone, not the store. The caller must Close the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.NearCap == nil {
		o.NearCap = func(ledger.Cap) {}
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

// connect makes the pools.
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
	return nil
}

// batcherConns is one connection to use, and one to replace it when it breaks.
const batcherConns = 2

// newPool connects. durable commits are on disk when they return.
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
		"statement_timeout":                   millis(statementTime),
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
		return nil, failure(ctx, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, failure(ctx, err)
	}
	return pool, nil
}

// Migrate brings the schema of the database up to date, one version after the other,
// and returns the version before and after. It calls progress, if not nil, with how
// many versions are done. Open does the same, and several nodes may do so at once.
// It refuses a schema that is newer than this program.
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
	return from, to, failure(ctx, err)
}

// Schema returns the version of the schema that this program works with.
func Schema() (version int64, err error) { return pgschema.Latest() }

// prepare overrides the operator's settings where promises depend on them:
// acknowledged commits are on disk, and plans made while the tables were empty use
// indexes later on.
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

// Close lets queued operations finish and closes the connections. Calls after it
// fail with ledger.ErrUnavailable.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.reserves.close()
		s.settles.close()
		s.down.Store(&outage{cause: errClosed})
		s.end()
		s.running.Wait()
		s.reserves.pool.Close()
		s.settles.pool.Close()
		s.pool.Close()
	})
	return nil
}

var errClosed = errors.New("the store is closed")

// Healthy returns the error of the last attempt to reach the database, which wraps
// ledger.ErrUnavailable, or nil.
func (s *Store) Healthy() error {
	if d := s.down.Load(); d != nil {
		return d
	}
	return nil
}

// shift is an argument of most functions in the database: how far ahead they take
// its clock to be, in microseconds.
func (s *Store) shift() int64 { return s.o.Shift().Microseconds() }

// bounded returns the context of a statement. The server's own bound is shorter.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, statementTime+margin)
}

// outage is the error of a database that cannot be reached.
type outage struct {
	cause error
	since time.Time
}

// Error includes the cause, which holds no password.
func (o *outage) Error() string { return fmt.Sprintf("%v: %v", ledger.ErrUnavailable, o.cause) }

// Unwrap makes errors.Is(err, ledger.ErrUnavailable) hold.
func (o *outage) Unwrap() []error { return []error{ledger.ErrUnavailable, o.cause} }
