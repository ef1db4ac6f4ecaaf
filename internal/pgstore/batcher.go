package pgstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgerr"
)

// Bounds of batchers.
const (
	maxBatch      = 256     // operations
	maxBytes      = 8 << 20 // all responses of a batch, unless it has only one
	maxQueue      = 1 << 13 // operations that wait; the callers of more wait to enter the queue
	maxAlone      = 3       // attempts of an operation that must be alone
	maxContention = 5       // attempts of a batch that conflicts with others
)

// The pauses between attempts to reach the database grow from the first to the second.
const minPause, maxPause = 10 * time.Millisecond, 200 * time.Millisecond

// batcher carries operations out, one batch after the other. Operations that
// arrive while a batch runs make up the next one.
type batcher struct {
	store    *Store
	pool     *pgxpool.Pool
	patience time.Duration // how long a batch waits for the database to come back
	queue    chan *operation
	ending   chan struct{}
	ended    chan struct{}
	carried  []*operation // taken, and left for the next batch; only run uses it
	batches  atomic.Int64
}

func newBatcher(s *Store, pool *pgxpool.Pool, patience time.Duration) *batcher {
	return &batcher{
		store: s, pool: pool, patience: patience, queue: make(chan *operation, maxQueue),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
}

// submit queues the operation and waits for its outcome. If ctx ends before a
// batch takes the operation, it never happens, and the error is that of ctx
// alone; later, the outcome is unknown.
func (b *batcher) submit(ctx context.Context, o *operation) error {
	o.done = make(chan struct{})
	select {
	case b.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ending:
		return &outage{cause: errClosed}
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	case <-b.ended: // it was too late for the last batch, or in it
		select {
		case <-o.done:
			return o.err
		default:
			return &outage{cause: errClosed}
		}
	}
	if o.state.CompareAndSwap(opQueued, opAbandoned) {
		return ctx.Err()
	}
	go b.releaseOrphan(o)
	return fmt.Errorf("%w: the outcome is not known yet: %w", ledger.ErrUnavailable, ctx.Err())
}

// releaseOrphan releases the operation's reservation after its caller left.
func (b *batcher) releaseOrphan(o *operation) {
	select {
	case <-o.done:
	case <-b.ended:
		return // it expires
	}
	if o.kind == opReserve && o.err == nil && o.out.Code == codeDone && o.out.Charge.Valid {
		_ = b.submit(b.store.ctx, &operation{kind: opRelease, id: o.id}) // else it expires
	}
}

// run carries out queued operations until the batcher is closed and its queue empty.
func (b *batcher) run() {
	defer close(b.ended)
	for {
		batch := b.next()
		if len(batch) == 0 {
			return
		}
		b.carryOut(batch)
		for _, o := range batch {
			close(o.done)
		}
	}
}

// close lets the queued operations finish.
func (b *batcher) close() {
	close(b.ending)
	<-b.ended
}

// next returns the operations of the next batch, none at the end.
func (b *batcher) next() []*operation {
	n := batch{ids: map[uuid.UUID]bool{}, max: b.store.o.maxBatch}
	carried := b.carried
	b.carried = nil
	for _, o := range carried {
		b.add(&n, o)
	}
	for len(n.list) == 0 {
		o := b.await()
		if o == nil {
			return nil
		}
		b.take(&n, o)
	}
	runtime.Gosched() // lets callers that are about to submit join this batch
	for !n.full() && len(b.carried) < n.max {
		select {
		case o := <-b.queue:
			b.take(&n, o)
		default:
			return n.list
		}
	}
	return n.list
}

// await waits for an operation. It returns nil once the batcher is closed and its
// queue empty.
func (b *batcher) await() *operation {
	select {
	case o := <-b.queue:
		return o
	case <-b.ending:
	}
	select {
	case o := <-b.queue:
		return o
	default:
		return nil
	}
}

func (b *batcher) take(n *batch, o *operation) {
	if o.state.CompareAndSwap(opQueued, opTaken) {
		b.add(n, o)
	}
}

// add puts an operation into the batch, or leaves it for the next one.
func (b *batcher) add(n *batch, o *operation) {
	if n.full() || n.ids[o.id] || len(n.list) > 0 && n.bytes+len(o.response) > maxBytes {
		b.carried = append(b.carried, o)
		return
	}
	n.ids[o.id] = true
	n.bytes += len(o.response)
	n.list = append(n.list, o)
}

// batch is a batch that is being collected. Its ids differ.
type batch struct {
	list  []*operation
	ids   map[uuid.UUID]bool
	bytes int
	max   int
}

func (b *batch) full() bool { return len(b.list) >= b.max }

// carryOut sends the operations and sets their outcomes.
func (b *batcher) carryOut(list []*operation) {
	again, err := b.attempt(list, false)
	if err != nil && (len(list) > 1 || isArchived(err)) && !pgerr.Broken(err) && !pgerr.Overloaded(err) {
		again, err = list, nil // one of them is bad: let it fail alone
	}
	if err != nil {
		for _, o := range list {
			o.err = &outage{cause: err}
		}
		return
	}
	for _, o := range again {
		b.carryOutAlone(o)
	}
}

var errContention = errors.New("too much contention")

// carryOutAlone sends an operation in a batch of its own.
func (b *batcher) carryOutAlone(o *operation) {
	for range maxAlone {
		again, err := b.attempt([]*operation{o}, true)
		if isArchived(err) {
			o.err = &ledger.ArchivedError{ID: chargePrefix + o.id.String(), Cause: ledger.ErrSettled}
			return
		}
		if err != nil {
			o.err = &outage{cause: err}
			return
		}
		if len(again) == 0 {
			return
		}
	}
	o.err = &outage{cause: errContention}
}

// attempt sends the batch, and repeats it when the connection broke or it
// conflicted with others: an operation that was carried out before then has its
// first outcome. It waits for the database to come back, but no longer than the
// batcher's patience from when the store first found it away. It returns the
// operations that must be sent alone.
func (b *batcher) attempt(list []*operation, alone bool) (again []*operation, err error) {
	began, contention, breaks := clock.Now(), 0, 0
	pauses := backoff.ExponentialBackOff{InitialInterval: minPause, Multiplier: 2, MaxInterval: maxPause}
	pauses.Reset()
	for {
		again, err = b.send(list, alone)
		switch {
		case err == nil:
			b.store.reached()
			return again, nil
		case pgerr.Contended(err) && contention < maxContention:
			contention++
			continue
		case !pgerr.Broken(err):
			return nil, err
		}
		b.store.refresh()
		if breaks++; breaks == 1 && clock.Since(began) < b.patience && b.store.Healthy() == nil {
			continue // most likely the connection was idle while the server restarted
		}
		away := clock.Since(b.store.failed(err))
		if max(away, clock.Since(began)) > b.patience {
			return nil, err
		}
		_ = clock.SleepOr(context.Background(), pauses.NextBackOff(), b.ending) // it has no deadline
		select {
		case <-b.ending:
			return nil, err
		default:
		}
	}
}

// send carries the batch out in one statement. Its context is the batcher's own,
// so that no caller can cancel the batch for the others.
func (b *batcher) send(list []*operation, alone bool) (again []*operation, err error) {
	ctx, cancel := bounded(context.Background())
	defer cancel()
	outcomes, err := apply(ctx, b.pool, list, alone, b.store.shift())
	if err != nil {
		return nil, err
	}
	b.batches.Add(1)
	for i, o := range list { // committed from here on
		o.out = outcomes[i]
		if o.out.Code == codeAlone {
			again = append(again, o)
			continue
		}
		o.err = nil
		b.store.warn(o)
	}
	return again, nil
}
