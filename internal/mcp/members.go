package mcp

// foldedKey is the reason to refuse a key that matches a reserved name only when both
// are folded; see names.find.
const foldedKey = "a key differs from a reserved one only in case or in characters that cannot be seen"

// topMember reads the value of the current key, at the top level of the message.
func (d *decoder) topMember() bool {
	var scratch [64]byte
	at := d.lex.start
	key, exact := topNames.find(d.text(scratch[:]))
	if key == keyID {
		d.ids++
	}
	if !exact {
		d.refuse(InvalidRequest, at, foldedKey)
		key = keyOther
	}
	t := d.next()
	d.seen[key] = true
	switch key {
	case keyJSONRPC:
		d.version2 = t == tokenString && string(d.text(scratch[:])) == "2.0"
	case keyID:
		d.id(t)
	case keyMethod:
		if t == tokenString {
			d.msg.Method = internMethod(d.text(scratch[:]))
		} else {
			d.refuse(InvalidRequest, d.lex.start, "the method must be a string")
		}
	case keyParams:
		if t == tokenObject {
			return d.readParams()
		}
		d.refuse(InvalidParams, d.lex.start, "params must be an object")
	}
	_, ok := d.skip(t)
	return ok
}

// id stores the id, a value that begins with token t, or refuses it.
func (d *decoder) id(t token) {
	switch t {
	case tokenString:
		// Escapes can make an id up to six times as long as its text.
		if d.lex.end-d.lex.start <= 6*maxIDLength+1 {
			var scratch [maxIDLength]byte
			d.msg.ID = StringID(string(d.text(scratch[:])))
		}
	case tokenNumber:
		if n, ok := parseIDNumber(d.body[d.lex.start:d.at]); ok {
			d.msg.ID = IntID(n)
		}
	}
	if d.msg.ID.IsZero() {
		d.refuse(InvalidRequest, d.lex.start,
			"the id must be a string of at most 128 bytes or a plain integer within 2^53-1")
	}
}

// readParams reads the params object that was just opened.
func (d *decoder) readParams() bool {
	start := d.lex.start
	if !d.members(levelParams) {
		return false
	}
	d.msg.Params = d.body[start:d.at]
	return true
}

// paramMember reads the value of the current key, in params.
func (d *decoder) paramMember() bool {
	var scratch [64]byte
	at := d.lex.start
	key, exact := paramNames.find(d.text(scratch[:]))
	if !exact {
		d.refuse(InvalidRequest, at, foldedKey)
		key = keyOther
	}
	t := d.next()
	d.params[key] = member{token: t, at: int32(d.lex.start)}
	switch key {
	case paramMeta:
		return d.readMeta(t)
	case paramName:
		d.msg.Name = d.stringValue(t)
	case paramURI:
		d.msg.URI = d.stringValue(t)
	case paramTaskID:
		d.msg.TaskID = d.stringValue(t)
	case paramCursor:
		d.msg.Cursor = d.stringValue(t)
	case paramRequestState:
		d.msg.RequestState = d.stringValue(t)
	}
	start, ok := d.skip(t)
	if key == paramArguments {
		d.msg.Arguments = d.body[start:d.at]
	}
	return ok
}

// stringValue returns the text of the string that was just read, or "" if the value is
// not a string.
func (d *decoder) stringValue(t token) string {
	if t != tokenString {
		return ""
	}
	var scratch [128]byte
	return string(d.text(scratch[:]))
}

// readMeta reads the value of params._meta, which begins with token t.
func (d *decoder) readMeta(t token) bool {
	start := d.lex.start
	if t != tokenObject {
		d.refuse(InvalidParams, start, "params._meta must be an object")
		_, ok := d.skip(t)
		return ok
	}
	if !d.members(levelMeta) {
		return false
	}
	d.msg.Meta = d.body[start:d.at]
	return true
}

// metaMember reads the value of the current key, in params._meta.
func (d *decoder) metaMember() bool {
	var scratch [64]byte
	at := d.lex.start
	key, exact := findMeta(d.text(scratch[:]))
	if !exact {
		d.refuse(InvalidRequest, at, foldedKey)
		key = keyOther
	}
	t := d.next()
	switch key {
	case metaProtocolVersion:
		if t == tokenString {
			d.msg.ProtocolVersion = internVersion(d.text(scratch[:]))
		}
		if d.msg.ProtocolVersion == "" {
			d.refuse(InvalidParams, d.lex.start, "the protocol version in _meta must be a string that is not empty")
		}
	case metaMaxPrice:
		if d.msg.MaxPrice = d.stringValue(t); d.msg.MaxPrice == "" {
			d.refuse(InvalidParams, d.lex.start, "the highest price in _meta must be a decimal in a string, as in \"0.05\"")
		}
	case metaRetryKey:
		if d.msg.IdempotencyKey = d.stringValue(t); d.msg.IdempotencyKey == "" || len(d.msg.IdempotencyKey) > MaxIdempotencyKey {
			d.msg.IdempotencyKey = ""
			d.refuse(InvalidParams, d.lex.start, retryKeyForm)
		}
	}
	_, ok := d.skip(t)
	return ok
}

// MaxIdempotencyKey bounds the idempotency key of a request, in bytes.
const MaxIdempotencyKey = 256

const retryKeyForm = "the idempotency key must be a string of 1 to 256 bytes"

// judge applies the rules that can be checked only after the whole message was read. It
// also sets the fields of the message that depend on several members.
func (d *decoder) judge() {
	m := &d.msg
	hasMethod, hasResult, hasError := d.seen[keyMethod], d.seen[keyResult], d.seen[keyError]
	switch {
	case !d.version2:
		d.refuse(InvalidRequest, 0, `jsonrpc must be "2.0"`)
	case hasMethod && (hasResult || hasError):
		d.refuse(InvalidRequest, 0, "a message with a method must have neither result nor error")
	case hasResult && hasError:
		d.refuse(InvalidRequest, 0, "a response must not have both result and error")
	case !hasMethod && !hasResult && !hasError:
		d.refuse(InvalidRequest, 0, "a message must have a method, a result or an error")
	case !hasMethod && m.ID.IsZero():
		d.refuse(InvalidRequest, 0, "a response must have the id of its request")
	case hasMethod && m.Method == "":
		d.refuse(InvalidRequest, 0, "the method must not be empty")
	}
	switch {
	case !hasMethod:
		m.Kind = KindResponse
	case m.ID.IsZero():
		m.Kind = KindNotification
	default:
		m.Kind = KindRequest
	}
	m.Task = d.params[paramTask].token != tokenMore
	m.HasState = d.params[paramRequestState].token == tokenString
	m.Follow = d.params[paramRequestState].token != tokenMore || d.params[paramInputResponses].token != tokenMore
	d.judgeMethod()
}

// judgeMethod applies the rules for the params of the message's method.
func (d *decoder) judgeMethod() {
	m := lookupMethod(d.msg.Method)
	if m == nil {
		return
	}
	if state := d.params[paramRequestState]; state.token != tokenMore && state.token != tokenString && m.MayAsk {
		d.refuse(InvalidParams, int(state.at), "requestState must be a string")
	}
	name, uri, arguments := d.params[paramName], d.params[paramURI], d.params[paramArguments]
	isTool := m.About == AboutTool
	switch {
	case isTool && d.msg.Kind != KindRequest:
		d.refuse(InvalidRequest, 0, m.Name+" must have an id")
	case m.Item && m.Names == ParamName && name.token != tokenString:
		item := "prompt"
		if isTool {
			item = "tool"
		}
		d.refuse(InvalidParams, int(name.at), m.Name+" must have the "+item+"'s name, a string")
	case m.Item && m.Names == ParamURI && uri.token != tokenString:
		d.refuse(InvalidParams, int(uri.at), m.Name+" must have a uri, a string")
	case isTool && arguments.token != tokenMore && arguments.token != tokenObject:
		d.refuse(InvalidParams, int(arguments.at), "the arguments of "+m.Name+" must be an object")
	}
}
