package mcp

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

func (l *lexer) key(p []byte, i int) (int, token) {
	l.isKey = true
	return l.openString(p, i)
}

func (l *lexer) openString(p []byte, i int) (int, token) {
	l.start = i
	l.escaped, l.flawed = false, false
	l.state = inString
	if l.keep {
		l.capture.reset()
		return l.str(p, i+1)
	}
	// Most strings are plain and complete in this piece.
	end := plain(p, i+1)
	if end < len(p) && p[end] == '"' {
		return l.closeString(p, end)
	}
	return l.str(p, end)
}

// closeString ends the current string at its closing quote p[i]. After a key, it also
// consumes the colon if a colon follows immediately.
func (l *lexer) closeString(p []byte, i int) (int, token) {
	l.end = i
	i++
	if !l.isKey {
		l.ended()
		return i, tokenString
	}
	l.state = wantColon
	if i < len(p) && p[i] == ':' { // usually the colon follows the key immediately
		l.state = wantValue
		i++
	}
	return i, tokenKey
}

// str reads the rest of a string from p[i] on, up to and including its closing quote.
func (l *lexer) str(p []byte, i int) (int, token) {
	for i < len(p) {
		if l.state != inString {
			if l.pairBroken(p[i]) {
				if l.strict {
					return l.fail(i, loneSurrogate)
				}
				l.lone() // p[i] is not part of the pair; read it again
				continue
			}
			if reason := l.special(p[i]); reason != "" {
				return l.fail(i, reason)
			}
			i++
			continue
		}
		end := plain(p, i)
		if l.keep {
			l.capture.add(p[i:end])
		}
		if i = end; i == len(p) {
			break
		}
		switch c := p[i]; {
		case c == '"':
			return l.closeString(p, i)
		case c == '\\':
			l.escaped = true
			l.state = inEscape
			i++
		case c < 0x20:
			return l.fail(i, "a control character in a string must be escaped")
		case !l.strict:
			i = l.bytes(p, i)
		default:
			n := l.rune(p[i:])
			if n == 0 {
				return l.fail(i, "the text is not valid UTF-8")
			}
			i += n
		}
	}
	return i, tokenMore
}

// bytes reads the run of bytes beyond ASCII that begins at p[i], and returns the index
// after the run. It does not check that the bytes are valid UTF-8. That is safe,
// because no decoder takes an ASCII byte, such as a quote, for a part of an invalid
// sequence.
func (l *lexer) bytes(p []byte, i int) int {
	begin := i
	for i < len(p) && p[i] >= utf8.RuneSelf {
		i++
	}
	if l.keep {
		l.capture.add(p[begin:i])
	}
	return i
}

// rune reads a UTF-8 sequence beyond ASCII at the beginning of p. It returns the
// number of bytes read, or 0 if the sequence is invalid. Near the end of p, it reads
// only the first byte and leaves the others to l.special.
func (l *lexer) rune(p []byte) int {
	n := 1
	if len(p) >= utf8.UTFMax {
		r, size := utf8.DecodeRune(p)
		if r == utf8.RuneError && size == 1 {
			return 0
		}
		n = size
	} else if !l.leadByte(p[0]) {
		return 0
	}
	if l.keep {
		l.capture.add(p[:n])
	}
	return n
}

// leadByte reads the first byte of a UTF-8 sequence (RFC 3629, section 4) that may
// continue in the next piece. It reports whether the byte is valid.
func (l *lexer) leadByte(c byte) bool {
	l.lo, l.hi = 0x80, 0xBF
	switch {
	case 0xC2 <= c && c <= 0xDF:
		l.need = 1
	case 0xE0 <= c && c <= 0xEF:
		l.need = 2
		switch c {
		case 0xE0:
			l.lo = 0xA0
		case 0xED:
			l.hi = 0x9F
		}
	case 0xF0 <= c && c <= 0xF4:
		l.need = 3
		switch c {
		case 0xF0:
			l.lo = 0x90
		case 0xF4:
			l.hi = 0x8F
		}
	default:
		return false
	}
	l.state = inRune
	return true
}

// special reads one byte within an escape or a UTF-8 sequence. If the byte is refused,
// special returns the reason; otherwise it returns "".
func (l *lexer) special(c byte) string {
	switch l.state {
	case inRune:
		if c < l.lo || c > l.hi {
			return "the text is not valid UTF-8"
		}
		l.lo, l.hi = 0x80, 0xBF
		if l.need--; l.need == 0 {
			l.state = inString
		}
		if l.keep {
			l.capture.add([]byte{c})
		}
	case inEscape:
		if c == 'u' {
			l.state, l.digits, l.hex = inHex, 4, 0
			return ""
		}
		u := unescapedByte(c)
		if u == 0 {
			return "a string has an escape that JSON does not know"
		}
		l.put(rune(u))
	case inHex:
		return l.hexDigit(c)
	case inPair: // c is a backslash; see pairBroken
		l.state = inPairU
	case inPairU: // c is a 'u'
		l.state, l.digits, l.hex = inHex, 4, 0
	}
	return ""
}

// pairBroken reports whether a surrogate pair has begun and byte c cannot continue it.
func (l *lexer) pairBroken(c byte) bool {
	return l.state == inPair && c != '\\' || l.state == inPairU && c != 'u'
}

// lone ends a high surrogate that has no low surrogate. Some parsers replace the
// high surrogate with U+FFFD, and others keep it. The capture gets U+FFFD.
func (l *lexer) lone() {
	escape := l.state == inPairU
	l.high, l.flawed = 0, true
	l.put(utf8.RuneError)
	if escape { // the backslash begins another escape
		l.state = inEscape
	}
}

const loneSurrogate = "a string has half of a surrogate pair"

func (l *lexer) hexDigit(c byte) string {
	d := hexValue(c)
	if d < 0 {
		return "an escape needs four hex digits"
	}
	l.hex = l.hex<<4 | d
	if l.digits--; l.digits > 0 {
		return ""
	}
	high := l.high
	l.high = 0
	low := 0xDC00 <= l.hex && l.hex <= 0xDFFF
	if high != 0 && low {
		l.put((high-0xD800)<<10 + (l.hex - 0xDC00) + 0x10000)
		return ""
	}
	if high != 0 || low {
		if l.strict {
			return loneSurrogate
		}
		l.flawed = true
		l.put(utf8.RuneError)
		if low {
			return ""
		}
	}
	switch {
	case 0xD800 <= l.hex && l.hex <= 0xDBFF:
		l.high = l.hex
		l.state = inPair
	default:
		l.put(l.hex)
	}
	return ""
}

// put ends an escape that stands for the character r, and captures r.
func (l *lexer) put(r rune) {
	l.state = inString
	if l.keep {
		var b [utf8.UTFMax]byte
		l.capture.add(b[:utf8.EncodeRune(b[:], r)])
	}
}

// unescapedByte returns the byte that a backslash and c stand for, or 0 for an unknown
// escape.
func unescapedByte(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

func hexValue(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns the index of the first byte in p[i:] that a string cannot contain as
// it is, or that needs a check: a quote, a backslash, a control character, or a byte
// beyond ASCII. It compares eight bytes at a time. A subtraction can borrow from the
// next higher byte and so mark that byte wrongly, but only if it has marked the
// lower byte correctly. So the lowest mark is always correct.
func plain(p []byte, i int) int {
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		quote := x ^ ones*'"'
		slash := x ^ ones*'\\'
		marks := (x | (x - ones*0x20) | (quote - ones) | (slash - ones)) & highs
		// The formula in find has "and not" terms, which unmark bytes from 0x80 on.
		// This formula has no such terms, because here bytes from 0x80 on must be
		// marked; the term x marks them.
		if marks != 0 {
			return i + bits.TrailingZeros64(marks)>>3
		}
	}
	for ; i < len(p); i++ {
		if c := p[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}
