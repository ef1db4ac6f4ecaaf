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
	maxIdempotencyKeys = 1 << 22
	// maxMarksEach bounds those of one account, so that it locks nobody out.
	maxIdempotencyKeysPerAccount = maxIdempotencyKeys / 4
	// DefaultAnswers bounds the bodies of kept answers, in bytes.
	DefaultResponseBytes = 1 << 30
	// sweepAnswers bounds how many answers one commit forgets.
	maxResponsesPerSweep = 512
)

// mark tells calls that may be repeated apart: by lineage, server and the
// caller's key. At 128 bits of a hash, none is taken for another.
type idempotencyHash [16]byte

func hashIdempotencyKey(o *ledger.Order, key string) idempotencyHash {
	h := sha256.New()
	for _, part := range [...]string{o.Lineage, o.Server, key} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return idempotencyHash(h.Sum(nil)[:len(idempotencyHash{})])
}

// marked is a call that may be repeated: in flight, or captured.
type idempotencyEntry struct {
	hold  *hold // in flight; nil once captured
	seq   int64 // of the charge
	at    int64 // of the charge, in microseconds
	payer int64 // account.n
}

// claim takes the mark for a hold that is to be made, or says why it cannot be
// taken. A mark that is captured is returned: its answer is to be read. The
// caller holds the mutex.
func (b *books) checkIdempotencyKey(o *ledger.Order, retry *ledger.Idempotency, payer *account, now time.Time) (idempotencyHash, *idempotencyEntry, error) {
	m := hashIdempotencyKey(o, retry.Key)
	switch was, known := b.idempotencyKeys[m]; {
	case !known:
	case was.hold != nil && was.hold.terms.Idempotency.Fingerprint != retry.Fingerprint:
		return m, nil, ledger.ErrReused
	case was.hold != nil:
		return m, nil, ledger.ErrInFlight
	case now.UnixMicro()-was.at < ledger.IdempotencyLife.Microseconds():
		return m, &was, nil
	default: // too old, and not swept yet
		b.forgetIdempotencyKey(m, was.seq)
	}
	if len(b.idempotencyKeys) >= maxIdempotencyKeys || payer.idempotencyKeys >= maxIdempotencyKeysPerAccount {
		return m, nil, fmt.Errorf("%w: more calls with an idempotency key were made in a day than are remembered", ledger.ErrUnavailable)
	}
	return m, nil, nil
}

// unmark forgets a captured mark, unless it stands for another charge by now.
func (b *books) forgetIdempotencyKey(m idempotencyHash, seq int64) {
	if was, ok := b.idempotencyKeys[m]; ok && was.hold == nil && was.seq == seq {
		delete(b.idempotencyKeys, m)
		b.numbered[was.payer].idempotencyKeys--
	}
}

// takeMark lets the hold have its mark. The caller holds the mutex.
func (b *books) reserveIdempotencyKey(h *hold) {
	if h.terms.Idempotency.Key != "" {
		b.idempotencyKeys[h.idempotencyHash] = idempotencyEntry{hold: h, payer: h.payer.n}
		h.payer.idempotencyKeys++
	}
}

// dropMark lets the caller's key be used anew. The caller holds the mutex.
func (b *books) releaseIdempotencyKey(h *hold) {
	if was, ok := b.idempotencyKeys[h.idempotencyHash]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		delete(b.idempotencyKeys, h.idempotencyHash)
		h.payer.idempotencyKeys--
	}
}

// keepMark remembers that the hold is captured, with its answer.
func (b *books) captureIdempotencyKey(h *hold, r *row) {
	if was, ok := b.idempotencyKeys[h.idempotencyHash]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		b.idempotencyKeys[h.idempotencyHash] = idempotencyEntry{seq: r.seq, at: r.at, payer: h.payer.n}
	}
}

// first reads the kept answer of a captured call, for one that repeats it.
func (s *Store) storedResponse(m *idempotencyEntry, retry *ledger.Idempotency) (*ledger.StoredResponse, error) {
	var fingerprint, body []byte
	var size int64
	err := s.reads.response.QueryRowContext(background(), m.seq).Scan(&fingerprint, &size, &body)
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
	selectResponse = `SELECT fingerprint, size, body FROM stored_response WHERE seq = ?`
	insertResponse = `INSERT INTO stored_response (seq, idempotency_hash, payer, at, fingerprint, size, body) VALUES (?,?,?,?,?,?,?)`
)

// keepAnswer writes the answer of a capture beside its row.
func (t *tx) storeResponse(h *hold, r *row) error {
	if h.terms.Idempotency.Key == "" {
		return nil
	}
	body := h.response
	if len(body) > ledger.MaxStoredResponse {
		body = nil
	}
	_, err := t.w.stmts.response.ExecContext(background(), r.seq, h.idempotencyHash[:], h.payer.n, r.at, h.terms.Idempotency.Fingerprint[:], len(body), body)
	t.responseBytes += int64(len(body))
	return failure(err)
}

// answered reports whether the charge is the one that the hold's mark stands
// for: one that an earlier call captured has the mark of that call, if any.
func (t *tx) ownsIdempotencyKey(seq int64, h *hold) (bool, error) {
	if h.terms.Idempotency.Key == "" {
		return false, nil
	}
	var found int64
	err := t.queryRow(`SELECT seq FROM stored_response WHERE seq = ? AND idempotency_hash = ?`, seq, h.idempotencyHash[:]).Scan(&found)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// forgetAnswer frees the caller's key of a charge that is refunded in whole, if
// its answer is no longer than that: 0 stands for one that is not kept, so that
// nobody can have what was paid for.
func (t *tx) deleteResponse(seq, longest int64) error {
	var raw []byte
	var size int64
	err := t.queryRow(`DELETE FROM stored_response WHERE seq = ? AND size <= ? RETURNING idempotency_hash, size`, seq, longest).Scan(&raw, &size)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err == nil {
		t.responseBytes -= size
		t.after = append(t.after, func() { t.w.books.forgetIdempotencyKey(idempotencyHash(raw), seq) })
	}
	return err
}

// loadMarks reads which calls may be repeated, and how much is kept of them. Calls
// in flight keep their marks.
func (t *tx) loadIdempotencyKeys() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT seq, idempotency_hash, payer, at, size FROM stored_response ORDER BY seq`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	t.w.responseBytes = 0
	b := t.w.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for m, was := range b.idempotencyKeys {
		b.forgetIdempotencyKey(m, was.seq) // it may have been forgotten by a commit that was in doubt
	}
	for rows.Next() {
		var m idempotencyEntry
		var raw []byte
		var size int64
		if err := rows.Scan(&m.seq, &raw, &m.payer, &m.at, &size); err != nil {
			return failure(err)
		}
		payer := b.number(m.payer)
		if payer == nil {
			return fmt.Errorf("the answer of transaction %d names an account that does not exist (restore a backup)", m.seq)
		}
		t.w.responseBytes += size
		was, known := b.idempotencyKeys[idempotencyHash(raw)]
		if !known {
			payer.idempotencyKeys++
		}
		if was.hold == nil { // of two, the later one followed on one that was too old
			b.idempotencyKeys[idempotencyHash(raw)] = m
		}
	}
	return failure(rows.Err())
}

// sweepDue reports whether there are answers to forget.
func (w *writer) responsesDue() bool {
	if w.responseBytes > w.maxResponseBytes {
		return true
	}
	var at int64
	err := (&tx{w: w}).queryRow(`SELECT at FROM stored_response ORDER BY seq LIMIT 1`).Scan(&at)
	return err == nil && at <= w.tooOld()
}

func (w *writer) tooOld() int64 { return w.now().Add(-ledger.IdempotencyLife).UnixMicro() }

// sweep forgets answers that are too old, and of the oldest others the bodies
// if there is too much of them.
func (t *tx) sweepResponses() error {
	oldest, err := t.listResponses(`SELECT seq, idempotency_hash, size, at FROM stored_response ORDER BY seq LIMIT ?`, maxResponsesPerSweep)
	if err != nil {
		return err
	}
	for _, k := range oldest {
		if k.at > t.w.tooOld() {
			break
		}
		if _, err := t.exec(`DELETE FROM stored_response WHERE seq = ?`, k.seq); err != nil {
			return err
		}
		t.responseBytes -= k.size
		t.after = append(t.after, func() { t.w.books.forgetIdempotencyKey(k.idempotencyHash, k.seq) })
	}
	return t.evictResponses(maxResponsesPerSweep)
}

// evict drops bodies, the oldest first and at most so many, while there is too
// much of them. Their keys stay known: a call is not run again because its
// answer was too much to keep.
func (t *tx) evictResponses(most int) error {
	if t.w.responseBytes+t.responseBytes <= t.w.maxResponseBytes {
		return nil
	}
	oldest, err := t.listResponses(`SELECT seq, idempotency_hash, size, at FROM stored_response WHERE seq > ? AND size > 0 ORDER BY seq LIMIT ?`, t.w.evictedTo, most)
	if err != nil {
		return err
	}
	for _, k := range oldest {
		if t.w.responseBytes+t.responseBytes <= t.w.maxResponseBytes {
			break
		}
		if _, err := t.exec(`UPDATE stored_response SET body = NULL, size = 0 WHERE seq = ?`, k.seq); err != nil {
			return err
		}
		t.responseBytes -= k.size
		t.after = append(t.after, func() { t.w.evictedTo = k.seq })
	}
	return nil
}

// keptAnswer is an answer that a sweep meets.
type responseSize struct {
	seq, size, at   int64
	idempotencyHash idempotencyHash
}

func (t *tx) listResponses(query string, args ...any) ([]responseSize, error) {
	rows, err := t.w.conn.QueryContext(background(), query, args...)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	var list []responseSize
	for rows.Next() {
		var k responseSize
		var raw []byte
		if err := rows.Scan(&k.seq, &raw, &k.size, &k.at); err != nil {
			return nil, failure(err)
		}
		k.idempotencyHash = idempotencyHash(raw)
		list = append(list, k)
	}
	return list, failure(rows.Err())
}
