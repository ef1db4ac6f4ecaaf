package mcp

import (
	"unicode/utf16"
	"unicode/utf8"
)

// unescape appends the text of a JSON string to dst. raw is the string without its
// quotes. The lexer must have accepted the string. Half of a surrogate pair becomes
// U+FFFD. Bytes that are not UTF-8 stay unchanged.
func unescape(dst, raw []byte) []byte {
	for len(raw) > 0 {
		if raw[0] != '\\' {
			dst = append(dst, raw[0])
			raw = raw[1:]
			continue
		}
		r, n := firstRune(raw)
		dst = utf8.AppendRune(dst, r)
		raw = raw[n:]
	}
	return dst
}

// firstRune returns the first character of raw, with its escape resolved, and the
// number of bytes that the character takes in raw. raw is the rest of a JSON string, as
// for unescape, and must not be empty.
func firstRune(raw []byte) (rune, int) {
	switch {
	case raw[0] != '\\':
		return utf8.DecodeRune(raw)
	case raw[1] != 'u':
		return rune(unescapedByte(raw[1])), 2
	}
	r := hex4(raw[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(raw) >= 12 && raw[6] == '\\' && raw[7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(raw[8:])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) rune {
	return hexValue(b[0])<<12 | hexValue(b[1])<<8 | hexValue(b[2])<<4 | hexValue(b[3])
}

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, so
// the JSON is always valid.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}
