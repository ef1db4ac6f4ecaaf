// Package pgvalue converts texts and times to a form that PostgreSQL can store, and
// back. For the statements of every call, it writes and reads PostgreSQL's binary format
// without reflection.
package pgvalue

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// escape is the first byte of every stored text that Pack has quoted.
const escape = "\x01"

// Pack returns the form in which a text is stored. PostgreSQL rejects zero bytes and
// invalid UTF-8. Pack turns such a text into a Go string literal, so that a name
// chosen by a client or server cannot make a batch fail.
func Pack(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.HasPrefix(s, escape) {
		return s
	}
	return escape + strconv.QuoteToASCII(s)
}

// PackAll returns the forms in which texts are stored; see Pack.
func PackAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = Pack(text)
	}
	return all
}

// Unpack reverses Pack.
func Unpack(s string) string {
	literal, packed := strings.CutPrefix(s, escape)
	if !packed {
		return s
	}
	text, err := strconv.Unquote(literal)
	if err != nil {
		return s
	}
	return text
}

// Column returns the form in which a time is stored: truncated to a microsecond, or
// nil for the zero time.
func Column(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	at := Micro(t)
	return &at
}

// Time reverses Column. The time is truncated to a microsecond and in UTC.
func Time(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return Micro(*t)
}

// Micro returns the time in UTC, truncated to whole microseconds, because the store
// keeps no smaller units.
func Micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}
