// Package id makes identifiers and hashes. An identifier is a prefix, which names
// the kind of the thing, and a UUIDv7, which contains the time of the process clock.
// A hash is the SHA-256 of a list of strings.
package id

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/clock"
)

// New returns a new id, which consists of the prefix, such as "chg_", and a UUIDv7. It
// is safe for concurrent use.
func New(prefix string) string { return prefix + V7().String() }

// V7 returns a UUID of version 7 (RFC 9562, section 5.7): milliseconds of the
// process clock, twelve bits of the millisecond's fraction (section 6.2, method
// 3), and 62 random bits. uuid.NewV7 would read the operating system's clock.
func V7() uuid.UUID {
	var u uuid.UUID
	rand.Read(u[8:]) // never fails: crypto/rand ends the program instead
	now := clock.Now()
	milli := now.UnixMilli()
	fraction := uint64(now.Nanosecond()%1e6) << 12 / 1e6
	binary.BigEndian.PutUint64(u[:8], uint64(milli)<<16|0x7000|fraction)
	u[8] = u[8]&0x3f | 0x80
	return u
}

// First returns a text that sorts before each id that New makes with the prefix at the
// time or later, and after the ids that it made before.
func First(prefix string, at time.Time) string {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16)
	return prefix + u.String()
}

// Valid reports whether text is a UUID in the 36-character form that UUID.String
// returns.
func Valid(text string) bool { return len(text) == 36 && uuid.Validate(text) == nil }
