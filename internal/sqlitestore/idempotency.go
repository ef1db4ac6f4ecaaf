package sqlitestore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of idempotency keys and stored responses.
const (
	// maxIdempotencyKeys bounds the keys of one day; each costs some 100 bytes of
	// memory. Beyond this bound, calls with a key are refused, because a forgotten
	// key would let its call run a second time.
	maxIdempotencyKeys = 1 << 22
	// maxIdempotencyKeysPerAccount keeps one account from using up all keys.
	maxIdempotencyKeysPerAccount = maxIdempotencyKeys / 4
	// DefaultResponseBytes bounds the stored response bodies, in bytes.
	DefaultResponseBytes = 1 << 30
	// maxResponsesPerSweep bounds the responses that one commit deletes.
	maxResponsesPerSweep = 512
)

// idempotencyHash identifies a call by lineage, server and idempotency key. At 128
// bits, collisions do not happen.
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

// idempotencyEntry is the call that was made last under an idempotency key. The call is
// in flight or captured.
type idempotencyEntry struct {
	hold  *hold // the hold of a call in flight; nil after the call is captured
	seq   int64 // the seq of the charge of a captured call
	at    int64 // the time of the charge of a captured call, in microseconds since 1970
	payer int64 // the number (account.n) of the account that pays
}

// checkIdempotencyKey returns an error if a new call with the order o may not use the
// given idempotency key. This is so if a call in flight uses the key, or if too many
// keys are in memory. If a call was captured under the key, checkIdempotencyKey returns
// the entry of that call, which leads to the stored response. b.mu must be locked.
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
	default: // the entry has expired, and no sweep has deleted it yet
		b.forgetIdempotencyKey(m, was.seq)
	}
	if len(b.idempotencyKeys) >= maxIdempotencyKeys || payer.idempotencyKeys >= maxIdempotencyKeysPerAccount {
		return m, nil, fmt.Errorf("%w: more calls with an idempotency key were made in a day than are remembered", ledger.ErrUnavailable)
	}
	return m, nil, nil
}

// forgetIdempotencyKey forgets the key of a captured charge, unless the key belongs
// to another charge by now.
func (b *books) forgetIdempotencyKey(m idempotencyHash, seq int64) {
	if was, ok := b.idempotencyKeys[m]; ok && was.hold == nil && was.seq == seq {
		delete(b.idempotencyKeys, m)
		b.numbered[was.payer].idempotencyKeys--
	}
}

// reserveIdempotencyKey records that the call of h, which is in flight now, uses the
// idempotency key in its terms. It does nothing if the terms have no key. b.mu must be
// locked.
func (b *books) reserveIdempotencyKey(h *hold) {
	if h.terms.Idempotency.Key != "" {
		b.idempotencyKeys[h.idempotencyHash] = idempotencyEntry{hold: h, payer: h.payer.n}
		h.payer.idempotencyKeys++
	}
}

// releaseIdempotencyKey frees the idempotency key of h, so that the call can be made
// again under the key. It does nothing if the terms of h have no key, or if the key
// belongs to another call by now. b.mu must be locked.
func (b *books) releaseIdempotencyKey(h *hold) {
	if was, ok := b.idempotencyKeys[h.idempotencyHash]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		delete(b.idempotencyKeys, h.idempotencyHash)
		h.payer.idempotencyKeys--
	}
}

// captureIdempotencyKey records that the call of h was captured by the charge in row r:
// the entry of the idempotency key now has the charge in place of h. It does nothing if
// the terms of h have no key, or if the key belongs to another call.
func (b *books) captureIdempotencyKey(h *hold, r *row) {
	if was, ok := b.idempotencyKeys[h.idempotencyHash]; h.terms.Idempotency.Key != "" && ok && was.hold == h {
		b.idempotencyKeys[h.idempotencyHash] = idempotencyEntry{seq: r.seq, at: r.at, payer: h.payer.n}
	}
}

// storedResponse reads the stored response of a captured call, for a repetition of the
// call.
func (s *Store) storedResponse(m *idempotencyEntry, retry *ledger.Idempotency) (*ledger.StoredResponse, error) {
	var fingerprint, body []byte
	var size int64
	err := s.reads.response.QueryRowContext(background(), m.seq).Scan(&fingerprint, &size, &body)
	if err = readError(err); errors.Is(err, ledger.ErrNotFound) {
		return nil, ledger.ErrGone // the response was swept after the entry was found
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

// storeResponse writes the response of a capture to the table stored_response. r is
// the row of the charge.
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

// ownsIdempotencyKey reports whether the charge was captured under the hold's
// idempotency key, rather than by an earlier call with another key or without a key.
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

// deleteResponse deletes the stored response of a charge that is refunded in whole, and
// frees the charge's idempotency key. It does neither if len(body) > longest. With
// longest = 0, the key of a call with a stored body therefore stays, because a caller
// can still fetch the body.
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

// loadIdempotencyKeys reads the keys of captured calls, and the size of the stored
// responses. Calls in flight keep their keys.
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
		b.forgetIdempotencyKey(m, was.seq) // a commit in doubt may have deleted the key
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
		if was.hold == nil { // if two rows have one key, the later row replaces the expired one
			b.idempotencyKeys[idempotencyHash(raw)] = m
		}
	}
	return failure(rows.Err())
}

// responsesDue reports whether there are responses to delete.
func (w *writer) responsesDue() bool {
	if w.responseBytes > w.maxResponseBytes {
		return true
	}
	var at int64
	err := (&tx{w: w}).queryRow(`SELECT at FROM stored_response ORDER BY seq LIMIT 1`).Scan(&at)
	return err == nil && at <= w.tooOld()
}

func (w *writer) tooOld() int64 { return w.now().Add(-ledger.IdempotencyLife).UnixMicro() }

// sweepResponses deletes expired responses. If the other responses take too much space,
// it also deletes the bodies of the oldest responses.
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

// evictResponses deletes up to limit bodies, the oldest first, until all stored bodies
// fit into the permitted space. It keeps the idempotency keys, so that no call runs
// again because its response was evicted.
func (t *tx) evictResponses(limit int) error {
	if t.w.responseBytes+t.responseBytes <= t.w.maxResponseBytes {
		return nil
	}
	oldest, err := t.listResponses(`SELECT seq, idempotency_hash, size, at FROM stored_response WHERE seq > ? AND size > 0 ORDER BY seq LIMIT ?`, t.w.evictedTo, limit)
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

// responseSize has the data of a stored response that decide whether a sweep deletes
// it.
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
