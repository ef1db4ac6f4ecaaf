package sqlitestore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of what is kept for callers that call again.
const (
	// maxMarks bounds the calls of a day that may be repeated; each costs some
	// 100 bytes of memory. Beyond it, calls with a key are refused: to forget
	// one would run it a second time.
	maxMarks = 1 << 22
	// maxMarksEach bounds those of one account, so that it locks nobody out.
	maxMarksEach = maxMarks / 4
	// DefaultAnswers bounds the bodies of kept answers, in bytes.
	DefaultAnswers = 1 << 30
	// sweepAnswers bounds how many answers one commit forgets.
	sweepAnswers = 512
)

// mark tells calls that may be repeated apart: by lineage, server and the
// caller's key. At 128 bits of a hash, none is taken for another.
type mark [16]byte

func markOf(o *ledger.Order, key string) mark {
	h := sha256.New()
	for _, part := range [...]string{o.Lineage, o.Server, key} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return mark(h.Sum(nil)[:len(mark{})])
}

// marked is a call that may be repeated: in flight, or captured.
type marked struct {
	hold  *hold // in flight; nil once captured
	seq   int64 // of the charge
	at    int64 // of the charge, in microseconds
	payer int64 // account.n
}

// claim takes the mark for a hold that is to be made, or says why it cannot be
// taken. A mark that is captured is returned: its answer is to be read. The
// caller holds the mutex.
func (b *books) claim(o *ledger.Order, retry *ledger.Idempotency, payer *account, now time.Time) (mark, *marked, error) {
	m := markOf(o, retry.Key)
	switch was, known := b.marks[m]; {
	case !known:
	case was.hold != nil && was.hold.terms.Idempotency.Fingerprint != retry.Fingerprint:
		return m, nil, ledger.ErrReused
	case was.hold != nil:
		return m, nil, ledger.ErrInFlight
	case now.UnixMicro()-was.at < ledger.IdempotencyLife.Microseconds():
		return m, &was, nil
	default: // too old, and not swept yet
		b.unmark(m, was.seq)
	}
	if len(b.marks) >= maxMarks || payer.marks >= maxMarksEach {
		return m, nil, fmt.Errorf("%w: more calls with an idempotency key were made in a day than are remembered", ledger.ErrUnavailable)
	}
	return m, nil, nil
}

// unmark forgets a captured mark, unless it stands for another charge by now.
func (b *books) unmark(m mark, seq int64) {
	if was, ok := b.marks[m]; ok && was.hold == nil && was.seq == seq {
		delete(b.marks, m)
		b.numbered[was.payer].marks--
	}
}

// takeMark lets the hold have its mark. The caller holds the mutex.
func (b *books) takeMark(h *hold) {
	if h.terms.Idempotency.Key != "" {
		b.marks[h.mark] = marked{hold: h, payer: h.payer.n}
		h.payer.marks++
	}
}

// dropMark lets the caller's key be used anew. The caller holds the mutex.
func (b *books) dropMark(h *hold) {
	if was, ok := b.marks[h.mark]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		delete(b.marks, h.mark)
		h.payer.marks--
	}
}

// keepMark remembers that the hold is captured, with its answer.
func (b *books) keepMark(h *hold, r *row) {
	if was, ok := b.marks[h.mark]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		b.marks[h.mark] = marked{seq: r.seq, at: r.at, payer: h.payer.n}
	}
}

// first reads the kept answer of a captured call, for one that repeats it.
func (s *Store) first(m *marked, retry *ledger.Idempotency) (*ledger.StoredResponse, error) {
	var fingerprint, body []byte
	var size int64
	err := s.reads.answer.QueryRowContext(background(), m.seq).Scan(&fingerprint, &size, &body)
	if err = readError(err); errors.Is(err, ledger.ErrNotFound) {
		return nil, ledger.ErrGone // swept this very moment
	}
	switch {
	case err != nil:
		return nil, err
	case [32]byte(fingerprint) != retry.Fingerprint:
		return nil, ledger.ErrReused
	case size == 0:
		return nil, ledger.ErrGone
	}
	var r row
	if err := r.scan(s.reads.bySeq.QueryRowContext(background(), m.seq)); err != nil {
		return nil, readError(err)
	}
	charge, err := s.charge(&r)
	if err != nil {
		return nil, err
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	return &ledger.StoredResponse{Charge: charge, Balance: s.books.number(r.debtor).balances[balanceIndex(r.test)], Body: body}, nil
}

const (
	selectAnswer = `SELECT fingerprint, size, body FROM answer WHERE seq = ?`
	insertAnswer = `INSERT INTO answer (seq, mark, payer, at, fingerprint, size, body) VALUES (?,?,?,?,?,?,?)`
)

// keepAnswer writes the answer of a capture beside its row.
func (t *tx) keepAnswer(h *hold, r *row) error {
	if h.terms.Idempotency.Key == "" {
		return nil
	}
	body := h.answer
	if len(body) > ledger.MaxAnswer {
		body = nil
	}
	_, err := t.w.stmts.answer.ExecContext(background(), r.seq, h.mark[:], h.payer.n, r.at, h.terms.Idempotency.Fingerprint[:], len(body), body)
	t.answers += int64(len(body))
	return failure(err)
}

// answered reports whether the charge is the one that the hold's mark stands
// for: one that an earlier call captured has the mark of that call, if any.
func (t *tx) answered(seq int64, h *hold) (bool, error) {
	if h.terms.Idempotency.Key == "" {
		return false, nil
	}
	var found int64
	err := t.queryRow(`SELECT seq FROM answer WHERE seq = ? AND mark = ?`, seq, h.mark[:]).Scan(&found)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// forgetAnswer frees the caller's key of a charge that is refunded in whole, if
// its answer is no longer than that: 0 stands for one that is not kept, so that
// nobody can have what was paid for.
func (t *tx) forgetAnswer(seq, longest int64) error {
	var raw []byte
	var size int64
	err := t.queryRow(`DELETE FROM answer WHERE seq = ? AND size <= ? RETURNING mark, size`, seq, longest).Scan(&raw, &size)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err == nil {
		t.answers -= size
		t.after = append(t.after, func() { t.w.books.unmark(mark(raw), seq) })
	}
	return err
}

// loadMarks reads which calls may be repeated, and how much is kept of them. Calls
// in flight keep their marks.
func (t *tx) loadMarks() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT seq, mark, payer, at, size FROM answer ORDER BY seq`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	t.w.answers = 0
	b := t.w.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for m, was := range b.marks {
		b.unmark(m, was.seq) // it may have been forgotten by a commit that was in doubt
	}
	for rows.Next() {
		var m marked
		var raw []byte
		var size int64
		if err := rows.Scan(&m.seq, &raw, &m.payer, &m.at, &size); err != nil {
			return failure(err)
		}
		payer := b.number(m.payer)
		if payer == nil {
			return fmt.Errorf("the answer of transaction %d names an account that does not exist (restore a backup)", m.seq)
		}
		t.w.answers += size
		was, known := b.marks[mark(raw)]
		if !known {
			payer.marks++
		}
		if was.hold == nil { // of two, the later one followed on one that was too old
			b.marks[mark(raw)] = m
		}
	}
	return failure(rows.Err())
}

// sweepDue reports whether there are answers to forget.
func (w *writer) sweepDue() bool {
	if w.answers > w.maxAnswers {
		return true
	}
	var at int64
	err := (&tx{w: w}).queryRow(`SELECT at FROM answer ORDER BY seq LIMIT 1`).Scan(&at)
	return err == nil && at <= w.tooOld()
}

func (w *writer) tooOld() int64 { return w.now().Add(-ledger.IdempotencyLife).UnixMicro() }

// sweep forgets answers that are too old, and of the oldest others the bodies
// if there is too much of them.
func (t *tx) sweep() error {
	oldest, err := t.kept(`SELECT seq, mark, size, at FROM answer ORDER BY seq LIMIT ?`, sweepAnswers)
	if err != nil {
		return err
	}
	for _, k := range oldest {
		if k.at > t.w.tooOld() {
			break
		}
		if _, err := t.exec(`DELETE FROM answer WHERE seq = ?`, k.seq); err != nil {
			return err
		}
		t.answers -= k.size
		t.after = append(t.after, func() { t.w.books.unmark(k.mark, k.seq) })
	}
	return t.evict(sweepAnswers)
}

// evict drops bodies, the oldest first and at most so many, while there is too
// much of them. Their keys stay known: a call is not run again because its
// answer was too much to keep.
func (t *tx) evict(most int) error {
	if t.w.answers+t.answers <= t.w.maxAnswers {
		return nil
	}
	oldest, err := t.kept(`SELECT seq, mark, size, at FROM answer WHERE seq > ? AND size > 0 ORDER BY seq LIMIT ?`, t.w.evicted, most)
	if err != nil {
		return err
	}
	for _, k := range oldest {
		if t.w.answers+t.answers <= t.w.maxAnswers {
			break
		}
		if _, err := t.exec(`UPDATE answer SET body = NULL, size = 0 WHERE seq = ?`, k.seq); err != nil {
			return err
		}
		t.answers -= k.size
		t.after = append(t.after, func() { t.w.evicted = k.seq })
	}
	return nil
}

// keptAnswer is an answer that a sweep meets.
type keptAnswer struct {
	seq, size, at int64
	mark          mark
}

func (t *tx) kept(query string, args ...any) ([]keptAnswer, error) {
	rows, err := t.w.conn.QueryContext(background(), query, args...)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	var list []keptAnswer
	for rows.Next() {
		var k keptAnswer
		var raw []byte
		if err := rows.Scan(&k.seq, &raw, &k.size, &k.at); err != nil {
			return nil, failure(err)
		}
		k.mark = mark(raw)
		list = append(list, k)
	}
	return list, failure(rows.Err())
}
