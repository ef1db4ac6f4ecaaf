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
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// Bounds of batchers.
const (
	maxBatch      = 256     // maximum number of operations in a batch
	maxBytes      = 8 << 20 // maximum number of response bytes in a batch; a single operation may exceed it
	maxQueue      = 1 << 13 // maximum number of queued operations; further callers block until there is room
	maxAlone      = 3       // maximum number of attempts at an operation that must be sent alone
	maxContention = 5       // maximum number of repetitions of a batch that conflicts with others
)

// The pauses between attempts to reach the database grow from minPause to maxPause.
const minPause, maxPause = 10 * time.Millisecond, 200 * time.Millisecond

// batcher carries out operations, one batch after the other. Operations that arrive
// while a batch runs make up the next batch.
type batcher struct {
	store    *Store
	pool     *pgxpool.Pool
	patience time.Duration // the longest time for which a batch waits until the database can be reached again
	queue    chan *operation
	ending   chan struct{}
	ended    chan struct{}
	carried  []*operation // operations that were taken from the queue but did not fit into their batch; only the goroutine of run uses this field
	batches  atomic.Int64
}

func newBatcher(s *Store, pool *pgxpool.Pool, patience time.Duration) *batcher {
	return &batcher{
		store: s, pool: pool, patience: patience, queue: make(chan *operation, maxQueue),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
}

// submit queues the operation and waits for its outcome. If ctx ends before a batch
// takes the operation, the operation is dropped and the error is ctx.Err(). If ctx
// ends later, the outcome is unknown and the error also wraps ledger.ErrUnavailable.
func (b *batcher) submit(ctx context.Context, o *operation) error {
	o.done = make(chan struct{})
	select {
	case b.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ending:
		return &pgquery.Outage{Cause: errClosed}
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	case <-b.ended: // the operation was in the last batch, or came too late for it
		select {
		case <-o.done:
			return o.err
		default:
			return &pgquery.Outage{Cause: errClosed}
		}
	}
	if o.state.CompareAndSwap(opQueued, opAbandoned) {
		return ctx.Err()
	}
	go b.releaseOrphan(o)
	return fmt.Errorf("%w: the outcome is not known yet: %w", ledger.ErrUnavailable, ctx.Err())
}

// releaseOrphan waits until the operation o is carried out. The caller of o has left,
// so if o made a reservation, releaseOrphan releases it.
func (b *batcher) releaseOrphan(o *operation) {
	select {
	case <-o.done:
	case <-b.ended:
		return // the reservation expires on its own
	}
	if o.kind == opReserve && o.err == nil && o.out.Code == codeDone && o.out.Charge.Valid {
		_ = b.submit(b.store.ctx, &operation{kind: opRelease, id: o.id}) // after an error the reservation expires
	}
}

// run carries out queued operations until the batcher is closed and the queue empty.
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

// close waits for the queued operations to finish, and stops the batcher.
func (b *batcher) close() {
	close(b.ending)
	<-b.ended
}

// next returns the operations of the next batch. It returns nil when the batcher is
// closed and its queue is empty.
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

// await waits for an operation. It returns nil when the batcher is closed and the queue
// is empty.
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

// add puts an operation into the batch, or carries it over if the batch has no room.
func (b *batcher) add(n *batch, o *operation) {
	if n.full() || n.ids[o.id] || len(n.list) > 0 && n.bytes+len(o.response) > maxBytes {
		b.carried = append(b.carried, o)
		return
	}
	n.ids[o.id] = true
	n.bytes += len(o.response)
	n.list = append(n.list, o)
}

// batch is a batch that is being collected. No two of its operations share an id.
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
		again, err = list, nil // one operation is bad: send each alone, so that only the bad one fails
	}
	if err != nil {
		for _, o := range list {
			o.err = &pgquery.Outage{Cause: err}
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
			o.err = &pgquery.Outage{Cause: err}
			return
		}
		if len(again) == 0 {
			return
		}
	}
	o.err = &pgquery.Outage{Cause: errContention}
}

// attempt sends the batch and returns the operations that must be sent alone. attempt
// repeats the batch after a broken connection or a conflict with other batches.
// Repeating is safe, because an operation that was carried out returns its first
// outcome. During an outage, attempt retries until the batcher's patience has passed
// since the outage began.
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
			continue // send the batch again at once, because the server has probably restarted while the connection was idle
		}
		away := clock.Since(b.store.failed(err))
		if max(away, clock.Since(began)) > b.patience {
			return nil, err
		}
		_ = clock.SleepOr(context.Background(), pauses.NextBackOff(), b.ending) // the error is always nil, because context.Background never ends
		select {
		case <-b.ending:
			return nil, err
		default:
		}
	}
}

// send carries out the batch in one statement. It uses a context of its own, so that
// no caller can cancel the operations of other callers.
func (b *batcher) send(list []*operation, alone bool) (again []*operation, err error) {
	ctx, cancel := pgquery.Bounded(context.Background())
	defer cancel()
	began := clock.Now()
	outcomes, err := apply(ctx, b.pool, list, alone, b.store.shift())
	b.store.o.Committed(len(list), clock.Since(began), err)
	if err != nil {
		return nil, err
	}
	b.batches.Add(1)
	for i, o := range list { // at this point the transaction is committed
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
