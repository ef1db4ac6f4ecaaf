package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/signal"
)

// Bounds of waiting, on this side and on the server.
const (
	connectTime   = 5 * time.Second
	statementTime = 10 * time.Second
	lockTime      = 8 * time.Second // longer than idleTime: who waits for a frozen node outlives it
	idleTime      = 2 * time.Second // of a transaction whose client has gone quiet
	// margin is for the network: the server gives up first, and says why.
	margin = 2 * time.Second
)

// DefaultMaxConns is how many connections a store has beside those of its two
// lanes.
const DefaultMaxConns = 8

// defaultRemember is for how long reservations that came to nothing are
// remembered. A call lives for an hour at most.
const defaultRemember = 2 * time.Hour

// Options say which database to use and how.
type Options struct {
	// DSN names the database, as a postgres:// URL or as key=value pairs. It
	// must be that of the primary server.
	DSN string
	// Schema is the schema that holds the tables, and is made if it is not
	// there; the connection's search path decides if it is "".
	Schema string
	// Logger hears when the store goes down and comes back; silent if nil.
	Logger *slog.Logger
	// NearCap hears of caps of which 80 % are spent, once for each period, on
	// the node that captured. It must be fast. nil for nobody.
	NearCap func(ledger.Cap)
	// MaxConns bounds the connections for all but the lanes, which have two at
	// most each; DefaultMaxConns if 0.
	MaxConns int
	// MaxAnswers bounds the answers that are kept for callers that call again,
	// in bytes; DefaultAnswers if 0. It is looked at every half minute.
	MaxAnswers int64

	// Shift tells, for tests, how far the server's clock is taken to be ahead;
	// nil for as far as the process clock is (clock.Shift).
	Shift func() time.Duration
	// Remember is for how long reservations that came to nothing are remembered:
	// two hours if 0, longer than a call lives. Tests set it.
	Remember time.Duration

	maxBatch int // for tests: how many operations a batch may have
}

// Store is an open store. All its methods may be used by many goroutines at
// once. Errors that are none of those of package ledger or keys mean bad input;
// failures of the store wrap ledger.ErrUnavailable.
type Store struct {
	o    Options
	pool *pgxpool.Pool

	reserves *lane
	settles  *lane

	down     atomic.Pointer[outage]
	archived atomic.Pointer[archived] // as last read

	settled atomic.Int64 // a transaction before which the journal is complete
	open    atomic.Int64 // reservations, when they were last counted

	changed signal.Broadcast // keys may have changed

	verifying chan struct{} // holds one while a verification runs

	ctx     context.Context // ends when the store closes
	end     context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// Open connects to the database, brings its schema up to date, and starts what
// works in the background. A schema that is newer than this program is refused.
// Only what it does before it returns is bound to ctx. The caller must Close
// the store.
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
	s.running.Go(s.tidy)
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
	if reserves, err = newPool(ctx, &s.o, laneConns, false); err != nil {
		return err
	}
	if settles, err = newPool(ctx, &s.o, laneConns, true); err != nil {
		return err
	}
	s.reserves = newLane(s, reserves, time.Second)
	s.settles = newLane(s, settles, 5*time.Second)
	return nil
}

// laneConns is one for a lane, and one for when that has broken.
const laneConns = 2

// newPool makes a pool. Commits are durable when they return if it is.
func newPool(ctx context.Context, o *Options, conns int, durable bool) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, errDSN // the error of the library may quote a password
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

// CheckDSN reports, without quoting it, a DSN that cannot be read.
func CheckDSN(dsn string) error {
	if _, err := pgxpool.ParseConfig(dsn); err != nil {
		return errDSN
	}
	return nil
}

// Place says which database a DSN is of, without the credentials: the same for
// all of them.
func Place(dsn string) (string, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return "", errDSN
	}
	return net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port))) + "/" + c.ConnConfig.Database, nil
}

var errDSN = errors.New("the DSN of the database cannot be read: want postgres://user:password@host:port/database, or host=… user=… password=… dbname=…")

// prepare sets what the operator's own settings must not decide: that what is
// acknowledged is on disk, and that plans which were made while the tables were
// empty find their indexes later on.
func prepare(ctx context.Context, conn *pgx.Conn, durable bool) error {
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

// Close lets what is queued finish and gives the connections back. Whatever is
// called afterwards fails with ledger.ErrUnavailable.
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

// Healthy returns nil, or why the database could not be reached when it was
// last tried, which wraps ledger.ErrUnavailable.
func (s *Store) Healthy() error {
	if d := s.down.Load(); d != nil {
		return d
	}
	return nil
}

// shift is the first argument of most functions in the database: how far ahead
// its clock is taken to be, in microseconds.
func (s *Store) shift() int64 { return s.o.Shift().Microseconds() }

// bounded is the context of a statement that a caller waits for. The server's
// own bound is the shorter one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, statementTime+margin)
}

// outage says why the database cannot be reached.
type outage struct {
	cause error
	since time.Time
}

// Error tells the cause, which holds no password.
func (o *outage) Error() string { return fmt.Sprintf("%v: %v", ledger.ErrUnavailable, o.cause) }

// Unwrap makes errors.Is(err, ledger.ErrUnavailable) hold.
func (o *outage) Unwrap() []error { return []error{ledger.ErrUnavailable, o.cause} }
