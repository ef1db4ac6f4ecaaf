package mcp

const (
	// maxDepth bounds the nesting of arrays and objects in a client's message.
	maxDepth = 64
	// MaxAnswerDepth bounds the nesting in a server's message. A lexer needs one bit
	// per level and does not recurse, so the bound can be generous.
	MaxAnswerDepth = 1024
)

// captureSize is the number of bytes of one token that a lexer keeps. The longest
// valid id and the longest reserved key must fit.
const captureSize = 256

// token is the kind of a token that lexer.next has read.
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

// state is the syntax that the lexer expects next. In inString and all states after it
// in this list, the lexer is within a token.
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
	inRune      // within a UTF-8 sequence; only in a strict lexer
	inEscape    // after '\'
	inHex       // within the digits of \u
	inPair      // after a high surrogate: expects '\'
	inPairU     // after a high surrogate and '\': expects 'u'
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

// lexer cuts one JSON text (RFC 8259) into tokens. The text may be split into pieces
// anywhere. The zero lexer is ready to use for a server's message. It accepts four
// kinds of input that a strict lexer refuses, because the parsers of clients accept
// them, too. These are a byte order mark before the text, bytes in strings that are not
// UTF-8, half of a surrogate pair, and nesting of up to MaxAnswerDepth. None of these
// changes where a token begins or ends.
type lexer struct {
	// strict makes the lexer refuse a byte order mark, bytes that are not UTF-8,
	// half of a surrogate pair, and nesting deeper than maxDepth. It is set for a
	// client's message, because every kind of server must read that message in the
	// same way.
	strict bool

	state state
	depth int
	kinds [MaxAnswerDepth / 64]uint64 // bit d-1 is set if the container at depth d is an object
	mark  uint8                       // number of bytes of a byte order mark that have been read, plus markOver after white space

	isKey        bool  // the current string is a key
	escaped      bool  // the current string has an escape
	flawed       bool  // the current string has half of a surrogate pair
	need         uint8 // number of bytes missing from the current UTF-8 sequence
	lo, hi       byte  // bounds of the next byte in that sequence
	digits       uint8 // number of hex digits still to come
	hex          rune  // value of the hex digits so far
	high         rune  // a high surrogate that waits for its low one, or 0
	literal      string
	literalToken token

	// start is the index at which the current token begins, in the piece in which it
	// begins. end is the index of the closing quote of a string.
	start, end int
	reason     string // why the text was refused

	// keep makes the lexer capture the next string or number: its unescaped bytes, as
	// far as they fit.
	keep    bool
	capture capture
}

// next reads the next token in p, from index i on. It returns the index after the
// token. If it returns tokenMore, it has consumed all of p. A number ends at the first
// byte that cannot belong to it. That byte is not consumed.
func (l *lexer) next(p []byte, i int) (int, token) {
	if l.state >= inString {
		return l.resume(p, i)
	}
	for ; i < len(p); i++ {
		c := p[i]
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			l.mark |= markOver
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
			if l.marks(c) {
				continue
			}
			if l.halfMarked() {
				return l.fail(i, "a JSON value is expected")
			}
			return l.value(p, i)
		case wantComma:
			object := l.inObject()
			switch {
			case c == ',' && object:
				l.state = wantKey
				if i+1 < len(p) && p[i+1] == '"' { // usually the next key follows the comma immediately
					return l.key(p, i+1)
				}
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

// markOver is set in lexer.mark when white space has been read, after which no byte
// order mark may follow.
const markOver = 4

// marks reports whether the byte c continues a byte order mark at the very beginning of
// the text, and counts the byte if so.
func (l *lexer) marks(c byte) bool {
	if l.strict || l.depth > 0 || l.mark >= uint8(len(byteOrderMark)) || c != byteOrderMark[l.mark] {
		return false
	}
	l.mark++
	return true
}

// halfMarked reports whether the text begins with an incomplete byte order mark.
func (l *lexer) halfMarked() bool {
	n := l.mark &^ markOver
	return n > 0 && n < uint8(len(byteOrderMark))
}

func (l *lexer) inObject() bool {
	if l.depth == 0 {
		return false
	}
	d := l.depth - 1
	return l.kinds[d>>6]>>(d&63)&1 == 1
}

// untouched reports whether the text so far has no token, only white space and perhaps
// a byte order mark.
func (l *lexer) untouched() bool {
	return l.state == wantValue && l.depth == 0 && !l.halfMarked()
}

// tooDeep maps lexer.strict to the reason for refusing a text that nests too deep.
var tooDeep = map[bool]string{
	true:  "the JSON text nests deeper than 64 levels",
	false: "the JSON text nests deeper than 1024 levels",
}

// depthBound returns the maximum nesting of the text.
func (l *lexer) depthBound() int {
	if l.strict {
		return maxDepth
	}
	return MaxAnswerDepth
}

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
	if l.depth >= l.depthBound() {
		return l.fail(i, tooDeep[l.strict])
	}
	word, bit := l.depth>>6, uint64(1)<<(l.depth&63)
	l.depth++
	if t == tokenObject {
		l.kinds[word] |= bit
		l.state = wantFirstKey
	} else {
		l.kinds[word] &^= bit
		l.state = wantFirstValue
	}
	return i + 1, t
}

func (l *lexer) closed(i int, t token) (int, token) {
	l.depth--
	l.ended()
	return i + 1, t
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

// resume continues a token that began in an earlier piece.
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

// numberByte consumes one byte of a number. It returns false if the byte does not
// belong to the number.
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
