package keys

import "strings"

// concealFrom is how many digits after a prefix make a text look like a secret,
// or a part of one.
const concealFrom = 16

// Conceal returns the text with "REDACTED" in place of the digits of whatever
// looks like a secret in it, whole, mistyped or cut off, and whether there was
// any. Secrets without a known prefix are not recognised. It does not allocate
// if there is none, and may be called at once from anywhere.
func (f *Format) Conceal(text string) (concealed string, found bool) {
	if strings.IndexByte(text, '_') < 0 { // as of most texts
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

// leadingDigits counts the hex digits, of either case, that a text begins with.
func leadingDigits(text string) (n int) {
	for n < len(text) && hexValues[text[n]|0x20] <= 0xf {
		n++
	}
	return n
}
