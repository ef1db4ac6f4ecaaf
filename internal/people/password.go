package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// cost is the work of one hash: memory in KiB, passes over it, and threads.
type cost struct {
	memory, passes uint32
	threads        uint8
}

// defaultCost is above the minimum that OWASP recommends (19 MiB and 2 passes).
var defaultCost = cost{memory: 32 << 10, passes: 3, threads: 1}

// Bounds of hashing. At most maxHashing passwords are hashed at a time, because each
// hash takes much memory.
const (
	maxHashing = 2
	maxWaiting = 64 // attempts that wait for a slot; further ones are refused at once

	saltBytes = 16
	hashBytes = 32
	// maxHashMemory bounds the memory that a stored hash may ask for, in KiB.
	maxHashMemory = 256 << 10
)

// hasher hashes and verifies passwords. It is safe for concurrent use.
type hasher struct {
	cost    cost
	slots   chan struct{}
	waiting atomic.Int64
	dummy   string // a hash that matches no password; it has the current cost
}

func newHasher(c cost) *hasher {
	return &hasher{cost: c, slots: make(chan struct{}, maxHashing), dummy: encodeHash(c, make([]byte, saltBytes), make([]byte, hashBytes))}
}

// enter waits until fewer than maxHashing hashes are being computed. After computing a
// hash, the caller must call the returned function.
func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return nil, &DelayError{Wait: time.Second}
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hash returns the hash of a password in the PHC format, with a salt of its own.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	return encodeHash(h.cost, salt, derive(h.cost, password, salt)), nil
}

// verify reports whether the password has the hash. The second result reports whether
// the hash was made with a cost other than the current one. An empty hash never
// matches, but takes the same time, so that the time does not reveal whether a person
// has a password.
func (h *hasher) verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	c, salt, want, err := decodeHash(hash)
	if err != nil {
		return false, false, err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	equal := subtle.ConstantTimeCompare(derive(c, password, salt), want) == 1
	return equal && known, c != h.cost, nil
}

func derive(c cost, password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, hashBytes)
}

var hashText = base64.RawStdEncoding.Strict()

func encodeHash(c cost, salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		hashText.EncodeToString(salt), hashText.EncodeToString(hash))
}

var errHash = errors.New("the stored hash of a password is malformed")

// decodeHash parses a stored hash. It refuses a cost that takes too much memory.
func decodeHash(text string) (c cost, salt, hash []byte, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil {
		return c, nil, nil, errHash
	}
	salt, saltErr := hashText.DecodeString(parts[4])
	hash, hashErr := hashText.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || len(salt) != saltBytes || len(hash) != hashBytes ||
		c.memory < 8 || c.memory > maxHashMemory || c.passes < 1 || c.passes > 16 || c.threads < 1 || c.threads > 16 {
		return c, nil, nil, errHash
	}
	return c, salt, hash, nil
}

// checkPassword refuses a password that is short or common, or that contains a part of
// one of the texts in personal. These are the person's name and e-mail address.
func checkPassword(password string, personal ...string) error {
	bad := func(message string) error { return &InputError{Field: "password", Message: message} }
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return bad("the password is not text")
	case len(password) > MaxPassword:
		return bad(fmt.Sprintf("the password is longer than %d bytes", MaxPassword))
	case n < MinPassword:
		return bad(fmt.Sprintf("the password has fewer than %d characters", MinPassword))
	}
	lower := strings.ToLower(password)
	if common(lower) {
		return bad("this password is among the first that an attacker tries: choose another one")
	}
	for _, name := range personal {
		for part := range strings.FieldsFuncSeq(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("@.+-_ ", r) }) {
			if len(part) >= 4 && strings.Contains(lower, part) {
				return bad("the password contains a part of your name or e-mail address: choose another one")
			}
		}
	}
	return nil
}
