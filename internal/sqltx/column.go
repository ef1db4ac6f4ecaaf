package sqltx

import (
	"strings"
	"time"
)

// Text replaces characters that some databases cannot store. So a lookup of a text with
// such characters finds no row, and does not fail.
func Text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Micros returns the number that is stored for t: microseconds since 1970, or 0 for the
// zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of Micros. The returned time is in UTC.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// Flag returns the number that is stored for a bool: 1 for true, 0 for false.
func Flag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}
