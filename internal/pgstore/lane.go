package pgstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of lanes.
const (
	maxBatch  = 256     // operations
	maxBytes  = 8 << 20 // of answers in a batch, but for one alone
	maxQueue  = 1 << 13 // operations that wait; more callers wait to be let in
	maxAlone  = 3       // attempts of an operation that must be alone
	maxRepeat = 5       // attempts of a batch that others were in the way of
)

// operation is one that a batch carries out.
type operation struct {
	op     int16
	id     uuid.UUID
	order  ledger.Order // of reserve and charge
	terms  ledger.Terms
	mark   *uuid.UUID // if the call may be sent again
	answer []byte

	state atomic.Int32 // opQueued leads to one of the others
	done  chan struct{}
	out   outcome
	err   error
}

// The operations, as apply numbers them.
const (
	opReserve int16 = iota + 1
	opCapture
	opCharge
	opRelease
	opRenew
	opVoid
)

// The states of an operation.
const (
	opQueued int32 = iota
	opTaken        // a batch has it: it will be carried out
	opLeft         // its caller went before a batch took it: it will not be
)

// lane carries operations out, one batch after the other: those that came while
// the last one ran are the next.
type lane struct {
	store    *Store
	pool     *pgxpool.Pool
	patience time.Duration // for how long a batch waits for the database to come back
	queue    chan *operation
	ending   chan struct{}
	ended    chan struct{}
	carried  []*operation // by the lane alone: taken, and left for the next batch
	batches  atomic.Int64
}

func newLane(s *Store, pool *pgxpool.Pool, patience time.Duration) *lane {
	return &lane{
		store: s, pool: pool, patience: patience, queue: make(chan *operation, maxQueue),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
}

// submit has the operation carried out and waits for it. If ctx ends before a
// batch has taken the operation, it never happened, and the error is that of
// ctx alone; later, its outcome is not known.
func (l *lane) submit(ctx context.Context, o *operation) error {
	o.done = make(chan struct{})
	select {
	case l.queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ending:
		return &outage{cause: errClosed}
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	case <-l.ended: // it came too late for the last batch, or was in it
		select {
		case <-o.done:
			return o.err
		default:
			return &outage{cause: errClosed}
		}
	}
	if o.state.CompareAndSwap(opQueued, opLeft) {
		return ctx.Err()
	}
	go l.forsaken(o)
	return fmt.Errorf("%w: the outcome is not known yet: %w", ledger.ErrUnavailable, ctx.Err())
}

// forsaken gives back what was reserved for a caller that has gone.
func (l *lane) forsaken(o *operation) {
	select {
	case <-o.done:
	case <-l.ended:
		return // it expires
	}
	if o.op == opReserve && o.err == nil && o.out.fresh {
		_ = l.submit(l.store.ctx, &operation{op: opRelease, id: o.id}) // else it expires
	}
}

// run carries out what is queued until the lane is closed and empty.
func (l *lane) run() {
	defer close(l.ended)
	for {
		batch := l.next()
		if len(batch) == 0 {
			return
		}
		l.carryOut(batch)
		for _, o := range batch {
			close(o.done)
		}
	}
}

// close lets what is queued finish.
func (l *lane) close() {
	close(l.ending)
	<-l.ended
}

// next takes the operations of the next batch; none means the end.
func (l *lane) next() []*operation {
	b := batch{ids: map[uuid.UUID]bool{}, max: l.store.o.maxBatch}
	carried := l.carried
	l.carried = nil
	for _, o := range carried {
		l.add(&b, o)
	}
	for len(b.list) == 0 {
		o := l.await()
		if o == nil {
			return nil
		}
		l.take(&b, o)
	}
	runtime.Gosched() // callers that are about to come make one batch, not two
	for !b.full() && len(l.carried) < b.max {
		select {
		case o := <-l.queue:
			l.take(&b, o)
		default:
			return b.list
		}
	}
	return b.list
}

// await waits for an operation; nil once the lane is closed and empty.
func (l *lane) await() *operation {
	select {
	case o := <-l.queue:
		return o
	case <-l.ending:
	}
	select {
	case o := <-l.queue:
		return o
	default:
		return nil
	}
}

func (l *lane) take(b *batch, o *operation) {
	if o.state.CompareAndSwap(opQueued, opTaken) {
		l.add(b, o)
	}
}

// add puts an operation into the batch, or off to the next one.
func (l *lane) add(b *batch, o *operation) {
	if b.full() || b.ids[o.id] || len(b.list) > 0 && b.bytes+len(o.answer) > maxBytes {
		l.carried = append(l.carried, o)
		return
	}
	b.ids[o.id] = true
	b.bytes += len(o.answer)
	b.list = append(b.list, o)
}

// batch is one that is being collected. Its ids differ.
type batch struct {
	list  []*operation
	ids   map[uuid.UUID]bool
	bytes int
	max   int
}

func (b *batch) full() bool { return len(b.list) >= b.max }

// carryOut gives each operation its outcome.
func (l *lane) carryOut(list []*operation) {
	again, err := l.attempt(list, false)
	if err != nil && (len(list) > 1 || isArchived(err)) && !broken(err) && !overloaded(err) {
		again, err = list, nil // one of them is bad, and fails alone
	}
	if err != nil {
		for _, o := range list {
			o.err = &outage{cause: err}
		}
		return
	}
	for _, o := range again {
		l.carryOutAlone(o)
	}
}

var errCrowded = errors.New("others were in the way too often")

// carryOutAlone gives an operation a batch of its own.
func (l *lane) carryOutAlone(o *operation) {
	for range maxAlone {
		again, err := l.attempt([]*operation{o}, true)
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
	o.err = &outage{cause: errCrowded}
}

// attempt sends the batch, and again when the connection broke or others were
// in the way: each operation then has its first outcome. It waits for the
// database to come back, but no longer than the lane's patience from when that
// was first found to be away. Those that must be alone are returned.
func (l *lane) attempt(list []*operation, alone bool) (again []*operation, err error) {
	began, pause, repeats, breaks := clock.Now(), 10*time.Millisecond, 0, 0
	for {
		again, err = l.send(list, alone)
		switch {
		case err == nil:
			l.store.reached()
			return again, nil
		case contended(err) && repeats < maxRepeat:
			repeats++
			continue
		case !broken(err):
			return nil, err
		}
		l.store.refresh()
		if breaks++; breaks == 1 && clock.Since(began) < l.patience && l.store.Healthy() == nil {
			continue // it had been idle while the server restarted, most likely
		}
		away := clock.Since(l.store.failed(err))
		if max(away, clock.Since(began)) > l.patience || !wait(l.ending, pause) {
			return nil, err
		}
		pause = min(2*pause, 200*time.Millisecond)
	}
}

// wait pauses, and reports false when the end came first.
func wait(end <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-end:
		return false
	}
}

// send carries the batch out in one statement. Its context is the lane's own:
// no caller can take the batch from the others.
func (l *lane) send(list []*operation, alone bool) (again []*operation, err error) {
	ctx, cancel := bounded(context.Background())
	defer cancel()
	rows, err := l.pool.Query(ctx, applyQuery, applyArgs(list, l.store.shift(), alone)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	l.batches.Add(1)
	outcomes := make([]outcome, len(list))
	for rows.Next() {
		ord, out, err := scanOutcome(rows)
		if err != nil {
			return nil, err
		}
		outcomes[ord-1] = out
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, o := range list { // only now is it committed
		o.out = outcomes[i]
		if o.out.code == codeAlone {
			again = append(again, o)
			continue
		}
		o.err = nil
		l.store.warn(o)
	}
	return again, nil
}
