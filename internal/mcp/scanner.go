package mcp

import "unicode/utf8"

// Class is the kind of a server's message in relation to a pending request. The zero
// Class is ClassMalformed, the safe one.
type Class uint8

const (
	// ClassMalformed is a message that cannot be read strictly or has more than one
	// meaning. Examples are a batch, a message with both a result and an error, and a
	// message with a method together with a result or an error.
	ClassMalformed Class = iota
	// ClassEmpty is a message without data except white space.
	ClassEmpty
	// ClassPassing is a notification or a request from the server.
	ClassPassing
	// ClassAnswer is a result or an error with exactly the pending id: the response.
	ClassAnswer
	// ClassForeign is a result or an error with another id, or without an id.
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
	// OutcomeUnknown is a response that has an unknown resultType or contradicts
	// itself.
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
	// OutcomeTask is a result that is a task (resultType "task", or an object as the
	// member "task").
	OutcomeTask
)

// String returns the outcome in lower case with underscores, or "Outcome(n)" for an
// unknown value.
func (o Outcome) String() string {
	return nameOf("Outcome", []string{"unknown", "result", "tool_error", "error", "input_required", "task"}, uint8(o))
}

// Verdict is the judgment of a scanner about a message.
type Verdict struct {
	Class   Class
	Outcome Outcome // outcome of the call; set only for ClassAnswer
	Reason  string  // for ClassForeign and ClassMalformed: a plain sentence without quotations
	Guarded bool    // for ClassPassing: a notification that not every caller may receive, because it is about a task's status or a changed resource
}

// Scanner classifies one JSON message from a server. The message may be split into
// pieces anywhere. A Scanner keeps only the bytes of short strings, such as keys and the
// id, so its memory is bounded.
//
// A Scanner is strict only where a client could otherwise find another response or
// another outcome. At the top level of the message and of its result, no reserved key
// may occur twice. No other key there may differ from a reserved one only in case or in
// invisible characters. All other keys may repeat, even _meta, which affects neither
// the response's identity nor its outcome. A Scanner accepts some deviations from JSON
// that common parsers accept: a byte order mark, bytes in strings that are not UTF-8,
// half of a surrogate pair, and nesting of up to MaxAnswerDepth. A Scanner judges the
// members together at the end, because servers write them in any order. A Scanner is
// not safe for concurrent use.
type Scanner struct {
	lex     lexer
	pending ID

	top, inner int // ordinal of the last key, at the top level and in the result
	seen       [keyError + 1]bool
	seenInner  [resultMeta]bool

	version2     bool // jsonrpc is "2.0"
	opened       bool // the message begins as an object or an array
	got          ID   // the message's id
	nullID       bool // the id is null
	oddID        bool // the id is neither null nor a valid id of a request
	isError      bool
	task         bool
	guarded      bool // the message is a guarded notification; see Verdict
	resultType   resultKind
	malformation string // the first fault in a message that is JSON
}

// resultKind is the meaning of the member resultType of a result.
type resultKind uint8

const (
	typeAbsent resultKind = iota
	typeComplete
	typeInputRequired
	typeTask
	typeOther
)

// NewScanner returns a Scanner that looks for the response to the request with the given
// id. If the id is zero, no message is a ClassAnswer.
func NewScanner(id ID) *Scanner {
	s := new(Scanner)
	s.Reset(id)
	return s
}

// Reset prepares the Scanner for another message.
func (s *Scanner) Reset(id ID) {
	*s = Scanner{pending: id}
}

// Write reads the next piece of the message. It does not retain the piece. End reports
// the faults of the message.
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

// wanted reports whether the text of the next token must be captured. Its argument is
// the token that was just read.
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

// take processes one token according to its place in the message.
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

// reserved returns the ordinal of the current key in ns, and sets seen at that index.
// It marks the message as malformed if the key is refused.
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
		s.malformed("a reserved key occurs twice")
	}
	seen[key] = true
	return key
}

// topValue processes the first token of the value of a member at the top level.
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

// textID is like StringID, but does not allocate for the pending id.
func (s *Scanner) textID(text []byte) ID {
	if s.pending.kind == idText && s.pending.text == string(text) {
		return s.pending
	}
	return StringID(string(text))
}

// innerValue processes the first token of the value of a member of the result.
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

// End returns the verdict on the message, as if the message ended after the last piece.
// It does not change the Scanner.
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

// HasResult reports whether the message so far has a result at its top level, whatever
// the class of the message.
func (s *Scanner) HasResult() bool { return s.seen[keyResult] }

// whyMalformed returns the reason why the message is malformed, or "" if the message is
// not malformed.
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
	case hasMethod: // not a response, so further faults do not matter
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

// outcome returns the outcome of the call. It is OutcomeUnknown if the members of the
// result contradict each other.
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
