package keys

import "strings"

// concealFrom is the minimum number of hex digits that must follow a prefix. Conceal
// treats fewer digits as ordinary text.
const concealFrom = 16

// Conceal replaces the digits of each secret in the text with "REDACTED", and reports
// whether it found any secret. It also finds mistyped and truncated secrets, but it
// does not recognise secrets without a known prefix. Conceal does not allocate if it
// finds no secret, and is safe for concurrent use.
func (f *Format) Conceal(text string) (concealed string, found bool) {
	if strings.IndexByte(text, '_') < 0 { // every prefix contains '_', and most texts do not
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

// leadingDigits returns the number of hex digits, in upper or lower case, at the
// start of a text.
func leadingDigits(text string) (n int) {
	for n < len(text) && hexValues[text[n]|0x20] <= 0xf {
		n++
	}
	return n
}
