package mcp

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// maxDepth bounds how deep arrays and objects nest in any message.
const maxDepth = 64

// captureSize bounds the bytes of one token that a lexer keeps. It must hold
// the longest id and the longest key worth knowing.
const captureSize = 256

// token is what lexer.next found.
type token uint8

const (
	tokenMore token = iota // the bytes ran out before a token was complete
	tokenBad               // a syntax error; see lexer.reason
	tokenObject
	tokenObjectEnd
	tokenArray
	tokenArrayEnd
	tokenKey
	tokenString
	tokenNumber
	tokenTrue
	tokenFalse
	tokenNull
)

// begins reports whether the token opens an object or an array.
func (t token) begins() bool { return t == tokenObject || t == tokenArray }

// state is what the lexer waits for. States from inString on are inside of a
// token.
type state uint8

const (
	wantValue      state = iota
	wantFirstValue       // after '[': a value or ']'
	wantFirstKey         // after '{': a key or '}'
	wantKey              // after ',' in an object
	wantColon
	wantComma // after a value: ',' or the end of the container
	wantNothing
	failed
	inString
	inRune      // within a UTF-8 sequence
	inEscape    // after '\'
	inHex       // within the digits of \u
	inPair      // after a high surrogate: '\'
	inPairU     // then 'u'
	inMinus     // after '-'
	inZero      // after a leading 0
	inInteger   // after a digit
	inPoint     // after '.'
	inFraction  // after a digit of the fraction
	inExponent  // after 'e'
	inSign      // after the exponent's sign
	inExpDigits // after a digit of the exponent
	inLiteral
)

// lexer cuts one JSON text (RFC 8259) into tokens. The text may be given in
// pieces that are split anywhere. It accepts no byte order mark, no invalid
// UTF-8, no lone surrogate escapes and no nesting below maxDepth. The zero
// lexer is ready to use.
type lexer struct {
	state state
	depth int
	kinds uint64 // bit d-1 is set: the container at depth d is an object

	isKey        bool  // the string at hand is a key
	escaped      bool  // the string at hand has an escape
	need         uint8 // bytes that complete the UTF-8 sequence
	lo, hi       byte  // bounds of the next one
	digits       uint8 // hex digits still to come
	hex          rune
	high         rune // the high surrogate that waits for its other half
	literal      string
	literalToken token

	// start is the index at which the token at hand began, in the piece in
	// which it began.
	start  int
	reason string // why the text was refused

	// keep says that the next string or number is to be captured: its
	// unescaped bytes, as far as they fit.
	keep    bool
	capture capture
}

// next reads p from i to the end of the next token. It returns the index after
// it. At tokenMore all of p was consumed. A number ends at the byte that
// follows it, which is not consumed.
func (l *lexer) next(p []byte, i int) (int, token) {
	if l.state >= inString {
		return l.resume(p, i)
	}
	for ; i < len(p); i++ {
		c := p[i]
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			continue
		}
		switch l.state {
		case wantFirstKey:
			if c == '}' {
				return l.closed(i, tokenObjectEnd)
			}
			if c != '"' {
				return l.fail(i, "an object needs a key in double quotes or its end")
			}
			return l.key(p, i)
		case wantKey:
			if c != '"' {
				return l.fail(i, "a comma in an object needs a key in double quotes after it")
			}
			return l.key(p, i)
		case wantColon:
			if c != ':' {
				return l.fail(i, "a key needs a colon after it")
			}
			l.state = wantValue
		case wantFirstValue:
			if c == ']' {
				return l.closed(i, tokenArrayEnd)
			}
			return l.value(p, i)
		case wantValue:
			return l.value(p, i)
		case wantComma:
			object := l.inObject()
			switch {
			case c == ',' && object:
				l.state = wantKey
			case c == ',':
				l.state = wantValue
			case c == '}' && object:
				return l.closed(i, tokenObjectEnd)
			case c == ']' && !object:
				return l.closed(i, tokenArrayEnd)
			default:
				return l.fail(i, "a value needs a comma or the end of its container after it")
			}
		case wantNothing:
			return l.fail(i, "there is something after the end of the JSON text")
		default:
			return i, tokenBad
		}
	}
	return i, tokenMore
}

func (l *lexer) inObject() bool { return l.depth > 0 && l.kinds>>(l.depth-1)&1 == 1 }

// untouched reports whether the text so far has no token, only white space.
func (l *lexer) untouched() bool { return l.state == wantValue && l.depth == 0 }

// ended sets the state that follows a complete value.
func (l *lexer) ended() {
	if l.depth == 0 {
		l.state = wantNothing
	} else {
		l.state = wantComma
	}
}

func (l *lexer) fail(i int, reason string) (int, token) {
	l.state, l.reason = failed, reason
	return i, tokenBad
}

func (l *lexer) opened(i int, t token) (int, token) {
	if l.depth == maxDepth {
		return l.fail(i, "the JSON text nests deeper than 64 levels")
	}
	bit := uint64(1) << l.depth
	l.depth++
	if t == tokenObject {
		l.kinds |= bit
		l.state = wantFirstKey
	} else {
		l.kinds &^= bit
		l.state = wantFirstValue
	}
	return i + 1, t
}

func (l *lexer) closed(i int, t token) (int, token) {
	l.depth--
	l.ended()
	return i + 1, t
}

func (l *lexer) key(p []byte, i int) (int, token) {
	l.isKey = true
	return l.openString(p, i)
}

func (l *lexer) openString(p []byte, i int) (int, token) {
	l.start = i
	l.escaped = false
	l.state = inString
	if l.keep {
		l.capture.reset()
	}
	return l.str(p, i+1)
}

// value begins the value at p[i].
func (l *lexer) value(p []byte, i int) (int, token) {
	switch c := p[i]; c {
	case '"':
		l.isKey = false
		return l.openString(p, i)
	case '{':
		l.start = i
		return l.opened(i, tokenObject)
	case '[':
		l.start = i
		return l.opened(i, tokenArray)
	case 't':
		return l.openLiteral(p, i, "rue", tokenTrue)
	case 'f':
		return l.openLiteral(p, i, "alse", tokenFalse)
	case 'n':
		return l.openLiteral(p, i, "ull", tokenNull)
	default:
		switch {
		case c == '-':
			l.state = inMinus
		case c == '0':
			l.state = inZero
		case '1' <= c && c <= '9':
			l.state = inInteger
		default:
			return l.fail(i, "a JSON value is expected")
		}
		l.start = i
		if l.keep {
			l.capture.reset()
			l.capture.add(p[i : i+1])
		}
		return l.number(p, i+1)
	}
}

// resume goes on with a token that an earlier piece began.
func (l *lexer) resume(p []byte, i int) (int, token) {
	switch {
	case l.state == inLiteral:
		return l.rest(p, i)
	case l.state >= inMinus:
		return l.number(p, i)
	}
	return l.str(p, i)
}

func (l *lexer) openLiteral(p []byte, i int, rest string, t token) (int, token) {
	l.start = i
	l.state, l.literal, l.literalToken = inLiteral, rest, t
	return l.rest(p, i+1)
}

func (l *lexer) rest(p []byte, i int) (int, token) {
	for ; i < len(p); i++ {
		if p[i] != l.literal[0] {
			return l.fail(i, "a JSON value is expected")
		}
		l.literal = l.literal[1:]
		if l.literal == "" {
			l.ended()
			return i + 1, l.literalToken
		}
	}
	return i, tokenMore
}

func (l *lexer) number(p []byte, i int) (int, token) {
	begin := i
	for ; i < len(p); i++ {
		if !l.numberByte(p[i]) {
			break
		}
	}
	if l.keep {
		l.capture.add(p[begin:i])
	}
	if i == len(p) {
		return i, tokenMore
	}
	switch l.state {
	case inZero, inInteger, inFraction, inExpDigits:
		l.ended()
		return i, tokenNumber
	}
	return l.fail(i, "a number needs a digit here")
}

// numberByte moves on over one byte of a number; false says that the number
// ends before it.
func (l *lexer) numberByte(c byte) bool {
	if '0' <= c && c <= '9' {
		switch l.state {
		case inMinus:
			l.state = inInteger
			if c == '0' {
				l.state = inZero
			}
		case inZero:
			return false
		case inPoint:
			l.state = inFraction
		case inExponent, inSign:
			l.state = inExpDigits
		}
		return true
	}
	switch {
	case c == '.' && (l.state == inZero || l.state == inInteger):
		l.state = inPoint
	case (c == 'e' || c == 'E') && (l.state == inZero || l.state == inInteger || l.state == inFraction):
		l.state = inExponent
	case (c == '+' || c == '-') && l.state == inExponent:
		l.state = inSign
	default:
		return false
	}
	return true
}

// str reads a string from within, up to and including its closing quote.
func (l *lexer) str(p []byte, i int) (int, token) {
	for i < len(p) {
		if l.state != inString {
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
			if l.isKey {
				l.state = wantColon
				return i + 1, tokenKey
			}
			l.ended()
			return i + 1, tokenString
		case c == '\\':
			l.escaped = true
			l.state = inEscape
			i++
		case c < 0x20:
			return l.fail(i, "a control character in a string must be escaped")
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

// rune reads what p, which begins with a byte that is not ASCII, has of one
// UTF-8 sequence, and returns how many bytes that was; 0 if it is invalid.
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

// leadByte begins a UTF-8 sequence that the piece at hand may not complete
// (RFC 3629, section 4).
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

// special reads one byte within an escape or a UTF-8 sequence. It returns why
// the byte is refused, or "".
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
	case inPair:
		if c != '\\' {
			return loneSurrogate
		}
		l.state = inPairU
	case inPairU:
		if c != 'u' {
			return loneSurrogate
		}
		l.state, l.digits, l.hex = inHex, 4, 0
	}
	return ""
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
	switch {
	case high != 0 && low:
		l.put((high-0xD800)<<10 + (l.hex - 0xDC00) + 0x10000)
	case high != 0 || low:
		return loneSurrogate
	case 0xD800 <= l.hex && l.hex <= 0xDBFF:
		l.high = l.hex
		l.state = inPair
	default:
		l.put(l.hex)
	}
	return ""
}

// put ends an escape that stands for r.
func (l *lexer) put(r rune) {
	l.state = inString
	if l.keep {
		var b [utf8.UTFMax]byte
		l.capture.add(b[:utf8.EncodeRune(b[:], r)])
	}
}

// unescapedByte returns what the escape of that letter stands for, 0 if there
// is no such escape.
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

// plain returns the index of the first byte from i on that means something
// within a string: a quote, a backslash, a control character, or one that is
// not ASCII. It looks at eight bytes at a time. A borrow can mark a byte
// wrongly only above one that is marked rightly, so the lowest mark holds.
func plain(p []byte, i int) int {
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		quote := x ^ ones*'"'
		slash := x ^ ones*'\\'
		marks := (x | (x - ones*0x20) | (quote - ones) | (slash - ones)) & highs
		// Bytes from 0x80 on are marked by x itself, so the usual "and not"
		// terms, which would only unmark those, are left out.
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
