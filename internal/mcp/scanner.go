package mcp

import "unicode/utf8"

// Class is the kind of a server's message with respect to a pending request. The zero
// Class is ClassMalformed, the safe one.
type Class uint8

const (
	// ClassMalformed is a message that cannot be read strictly, or has more than one
	// meaning: a batch, result and error together, either with a method.
	ClassMalformed Class = iota
	// ClassEmpty has no data except white space.
	ClassEmpty
	// ClassPassing is a notification or a server's request.
	ClassPassing
	// ClassAnswer is a result or an error with exactly the pending id: the response.
	ClassAnswer
	// ClassForeign is a result or an error with another id, or without one.
	ClassForeign
)

// String returns the class in lower case, or "Class(n)" for an unknown value.
func (c Class) String() string {
	return nameOf("Class", []string{"malformed", "empty", "passing", "answer", "foreign"}, uint8(c))
}

// Outcome is the outcome of a call according to its response. The zero Outcome is
// OutcomeUnknown.
type Outcome uint8

const (
	// OutcomeUnknown is a response with an unknown resultType, or one that
	// contradicts itself.
	OutcomeUnknown Outcome = iota
	// OutcomeResult is a complete result.
	OutcomeResult
	// OutcomeToolError is a result with isError: true.
	OutcomeToolError
	// OutcomeError is a JSON-RPC error.
	OutcomeError
	// OutcomeInputRequired is a result that asks for more input (resultType
	// "input_required").
	OutcomeInputRequired
	// OutcomeTask is a task in place of a result (resultType "task", or an object
	// under "task").
	OutcomeTask
)

// String returns the outcome in lower case with underscores, or "Outcome(n)" for an
// unknown value.
func (o Outcome) String() string {
	return nameOf("Outcome", []string{"unknown", "result", "tool_error", "error", "input_required", "task"}, uint8(o))
}

// Verdict is a scanner's finding about a message.
type Verdict struct {
	Class   Class
	Outcome Outcome // for ClassAnswer
	Reason  string  // for ClassForeign and ClassMalformed: a plain sentence without quotations
	Guarded bool    // for ClassPassing: a notification about a task's status or a changed resource, which not every caller may get
}

// Scanner classifies one JSON message from a server. The message is fed in pieces
// that are split anywhere; the Scanner keeps only the bytes of short keys and of the
// id, so its memory is bounded.
//
// It is strict about the identity of the response and about its outcome, and about no
// more. At the top level, and in the first level of the result, no key with a meaning
// to it may come twice, and no key may differ from one only in case or in invisible
// characters. Other keys may repeat, and so may _meta, which affects neither. It
// accepts some deviations from JSON that common parsers accept: a byte order mark,
// bytes in strings that are not UTF-8, half a surrogate pair, and nesting of up to
// MaxAnswerDepth. It judges the members together at the end, because servers write
// them in any order. A Scanner is not safe for concurrent use.
type Scanner struct {
	lex     lexer
	pending ID

	top, inner int // the reserved name before the next value, at the top and in the result
	seen       [keyError + 1]bool
	seenInner  [resultMeta]bool

	version2     bool
	opened       bool // the message begins as an object or an array
	got          ID   // the message's id
	nullID       bool // the id is null
	oddID        bool // the id cannot be a request's
	isError      bool
	task         bool
	guarded      bool // the message is a guarded notification; see Verdict
	resultType   resultKind
	malformation string // the first fault in a message that is JSON
}

// resultKind is the meaning of resultType.
type resultKind uint8

const (
	typeAbsent resultKind = iota
	typeComplete
	typeInputRequired
	typeTask
	typeOther
)

// NewScanner returns a Scanner for the response to the request with that id. If the
// id is zero, no message is a ClassAnswer.
func NewScanner(id ID) *Scanner {
	s := new(Scanner)
	s.Reset(id)
	return s
}

// Reset prepares the Scanner for another message.
func (s *Scanner) Reset(id ID) {
	*s = Scanner{pending: id}
}

// Write reads the next piece of the message. It never fails: End reports the faults.
// It does not keep the piece.
func (s *Scanner) Write(p []byte) {
	for i := 0; ; {
		var t token
		i, t = s.lex.next(p, i)
		if t <= tokenBad {
			return
		}
		s.take(t)
		s.lex.keep = s.wanted(t)
	}
}

// wanted reports whether the next token's text is needed.
func (s *Scanner) wanted(last token) bool {
	switch s.lex.depth {
	case 1:
		return last != tokenKey || s.top == keyID || s.top == keyJSONRPC || s.top == keyMethod
	case 2:
		return s.top == keyResult && (last != tokenKey || s.inner == resultType)
	}
	return false
}

func (s *Scanner) malformed(reason string) {
	if s.malformation == "" {
		s.malformation = reason
	}
}

// take judges one token by its place.
func (s *Scanner) take(t token) {
	depth := s.lex.depth
	switch {
	case t == tokenObjectEnd || t == tokenArrayEnd:
		return
	case t == tokenKey:
		switch {
		case depth == 1:
			s.top = s.reserved(topNames, s.seen[:])
		case depth == 2 && s.top == keyResult:
			s.inner = s.reserved(outcomeNames, s.seenInner[:])
		}
		return
	case t.begins():
		depth--
	}
	s.opened = s.opened || depth == 0 && t.begins()
	switch {
	case depth == 0 && t == tokenArray:
		s.malformed("the message is a batch")
	case depth == 0 && t != tokenObject:
		s.malformed("the message is not an object")
	case depth == 1:
		s.topValue(t)
	case depth == 2 && s.top == keyResult:
		s.innerValue(t)
	}
}

// reserved returns the number of the current key among the reserved names.
func (s *Scanner) reserved(ns names, seen []bool) int {
	c := &s.lex.capture
	if c.over {
		return keyOther
	}
	text, whole := c.bytes()
	find := ns.find
	if !whole {
		find = ns.findFolded
	}
	key, exact := find(text)
	switch {
	case !exact:
		s.malformed(foldedKey)
	case key != keyOther && seen[key]:
		s.malformed("a key with a meaning is there twice")
	}
	seen[key] = true
	return key
}

// topValue takes the value, or its beginning, of a member at the top level.
func (s *Scanner) topValue(t token) {
	c := &s.lex.capture
	switch s.top {
	case keyJSONRPC:
		s.version2 = t == tokenString && c.is("2.0")
	case keyID:
		s.takeID(t)
	case keyMethod:
		if text, _ := c.bytes(); t != tokenString || s.lex.flawed || !utf8.Valid(text) {
			s.malformed("the method is not a string")
		}
		s.guarded = s.guarded || c.is("notifications/tasks") || c.is("notifications/tasks/status") || c.is(MethodResourceUpdated)
	case keyResult:
		if t != tokenObject {
			s.malformed("the result is not an object")
		}
	case keyError:
		if t != tokenObject {
			s.malformed("the error is not an object")
		}
	}
}

func (s *Scanner) takeID(t token) {
	text, whole := s.lex.capture.bytes()
	switch {
	case t == tokenNull:
		s.nullID = true
	case t == tokenString && whole && !s.lex.flawed && utf8.Valid(text):
		s.got = s.textID(text)
	case t == tokenNumber && whole:
		if n, ok := parseIDNumber(text); ok {
			s.got = IntID(n)
		}
	}
	s.oddID = s.got.IsZero() && !s.nullID
}

// textID is StringID without an allocation for the expected id.
func (s *Scanner) textID(text []byte) ID {
	if s.pending.kind == idText && s.pending.text == string(text) {
		return s.pending
	}
	return StringID(string(text))
}

// innerValue takes the value, or its beginning, of a member of the result.
func (s *Scanner) innerValue(t token) {
	switch s.inner {
	case resultIsError:
		if t != tokenTrue && t != tokenFalse {
			s.malformed("isError is not a boolean")
		}
		s.isError = t == tokenTrue
	case resultType:
		s.resultType = s.kindOfResult(t)
	case resultTask:
		s.task = t == tokenObject
	}
}

func (s *Scanner) kindOfResult(t token) resultKind {
	c := &s.lex.capture
	switch {
	case t != tokenString:
		return typeOther
	case c.is("complete"):
		return typeComplete
	case c.is("input_required"):
		return typeInputRequired
	case c.is("task"):
		return typeTask
	}
	return typeOther
}

// End returns the verdict on the message, as if the last piece had been its end. It
// does not change the Scanner.
func (s *Scanner) End() Verdict {
	if reason := s.whyMalformed(); reason != "" {
		return Verdict{Class: ClassMalformed, Reason: reason}
	}
	switch {
	case s.lex.untouched():
		return Verdict{Class: ClassEmpty}
	case s.seen[keyMethod]:
		return Verdict{Class: ClassPassing, Guarded: s.guarded}
	case s.got.IsZero():
		return Verdict{Class: ClassForeign, Reason: "a result or error without an id"}
	case s.got != s.pending:
		return Verdict{Class: ClassForeign, Reason: "a result or error with the id of another request"}
	}
	return Verdict{Class: ClassAnswer, Outcome: s.outcome()}
}

// HasResult reports whether the message so far has had a result at its top level,
// whatever its class.
func (s *Scanner) HasResult() bool { return s.seen[keyResult] }

// whyMalformed returns the reason why the message does not have one meaning, or "".
func (s *Scanner) whyMalformed() string {
	hasMethod, hasResult, hasError := s.seen[keyMethod], s.seen[keyResult], s.seen[keyError]
	switch {
	case s.malformation != "":
		return s.malformation
	case s.lex.state == failed:
		return s.lex.reason
	case s.lex.untouched():
		return ""
	case s.lex.state != wantNothing:
		return "the message ends early"
	case hasMethod && (hasResult || hasError):
		return "a message has a method together with a result or an error"
	case hasMethod: // not a response, whatever its other faults
		return ""
	case s.oddID:
		return "the id is neither a string of at most 128 bytes nor a plain integer within 2^53-1"
	case !s.version2:
		return `jsonrpc is not "2.0"`
	case hasResult && hasError:
		return "a message has both a result and an error"
	case !hasResult && !hasError:
		return "a message has neither a method nor a result nor an error"
	}
	return ""
}

// outcome returns the outcome of the call, by all signs together.
func (s *Scanner) outcome() Outcome {
	if s.seen[keyError] {
		return OutcomeError
	}
	asks := s.resultType == typeInputRequired
	task := s.task || s.resultType == typeTask
	switch {
	case s.resultType == typeOther:
		return OutcomeUnknown
	case asks && task, asks && s.isError, task && s.isError:
		return OutcomeUnknown
	case asks:
		return OutcomeInputRequired
	case task:
		return OutcomeTask
	case s.isError:
		return OutcomeToolError
	}
	return OutcomeResult
}
