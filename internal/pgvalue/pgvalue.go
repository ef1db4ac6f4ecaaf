// Package pgvalue converts texts and times to the forms in which PostgreSQL can hold
// them, and back.
package pgvalue

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// escape begins texts that PostgreSQL cannot hold as they are.
const escape = "\x01"

// Pack returns the form in which a text is stored. PostgreSQL takes no zero
// bytes and nothing but UTF-8; a text with such is stored as a literal of Go,
// so that no name that somebody else has chosen can fail a batch.
func Pack(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.HasPrefix(s, escape) {
		return s
	}
	return escape + strconv.QuoteToASCII(s)
}

// Unpack returns the text that Pack was given.
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

// Column returns the form in which a time is stored: at a microsecond, nil for the
// zero time.
func Column(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	at := Micro(t)
	return &at
}

// Time returns the time that Column was given, at a microsecond.
func Time(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return Micro(*t)
}

// Micro returns the time at the resolution of the store, a microsecond, in UTC.
func Micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}
