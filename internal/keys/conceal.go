package keys

import "strings"

// concealFrom is the least number of digits after a prefix that look like a secret,
// or part of one.
const concealFrom = 16

// Conceal replaces the digits of everything in the text that looks like a secret,
// whether whole, mistyped or truncated, with "REDACTED", and reports whether it
// found any. It does not recognise secrets without a known prefix. It does not
// allocate if it finds none, and is safe for concurrent use.
func (f *Format) Conceal(text string) (concealed string, found bool) {
	if strings.IndexByte(text, '_') < 0 { // true for most texts
		return text, false
	}
	for _, prefix := range f.prefixes {
		for from := 0; ; {
			at := strings.Index(text[from:], prefix)
			if at < 0 {
				break
			}
			from += at + len(prefix)
			if n := leadingDigits(text[from:]); n >= concealFrom {
				text, found = text[:from]+"REDACTED"+text[from+n:], true
			}
		}
	}
	return text, found
}

// leadingDigits returns the number of hex digits of either case at the start of a
// text.
func leadingDigits(text string) (n int) {
	for n < len(text) && hexValues[text[n]|0x20] <= 0xf {
		n++
	}
	return n
}
