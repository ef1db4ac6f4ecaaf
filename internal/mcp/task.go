package mcp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ErrTask is wrapped in the error for a message from which a task or a request state
// cannot be read with certainty. The caller must then withhold the message.
var ErrTask = errors.New("what the message says of a task cannot be judged")

// Handles holds the handles that a message gives to a client for later requests: a task
// id or a request state. It also holds the status and the result of the task.
type Handles struct {
	HasState     bool
	RequestState string // the state in a request for input, unescaped

	TaskID string        // unescaped; "" if absent
	Status string        // status of the task; "" if absent
	Life   time.Duration // how long the server keeps the task; 0 if unspecified

	// Embedded is the outcome of the result that is embedded in the report of a task
	// (SEP-2663): OutcomeResult or OutcomeToolError. Embedded is OutcomeUnknown if the
	// message has no embedded result.
	Embedded Outcome
	// Mixed reports whether members of a tool's own result, such as content, stand
	// beside the handles, where they do not belong.
	Mixed bool
}

// The ordinals of the reserved names in an object that describes a task or asks for
// input.
const (
	taskTask = iota + 1
	taskID
	taskStatus
	taskTTL
	taskTTLMs
	taskResult
	taskState
	taskContent
	taskStructured
	taskIsError
)

var (
	taskNames     = names{"task", "taskId", "status", "ttl", "ttlMs", "result", "requestState", "content", "structuredContent", "isError"}
	embeddedNames = names{"isError"}
)

// ReadHandles reads the handles in the result of a response. The result may be an
// accepted task, the report of a task, or a request for input. The members of an
// accepted task are in the object "task" (MCP 2025-11-25) or in the result itself
// (SEP-2663). The message must be one that a Scanner found to be a ClassAnswer. An error
// response has no handles.
//
// In the objects that ReadHandles reads, no reserved key may occur twice, and no other
// key may differ from a reserved one only in case or in invisible characters. The error
// wraps ErrTask and quotes nothing from the message.
func ReadHandles(message []byte) (Handles, error) { return readHandles(message, keyResult) }

// ReadTaskNotification is like ReadHandles, for the params of a notification about the
// status of a task.
func ReadTaskNotification(message []byte) (Handles, error) { return readHandles(message, keyParams) }

func readHandles(message []byte, within int) (Handles, error) {
	r := taskReader{walker: walker{text: message}}
	err := r.object(r.next(), topNames, func(key int, t token) error {
		if key != within {
			return r.pass(t)
		}
		return r.object(t, taskNames, r.member)
	})
	if err == nil && r.next() != tokenMore {
		err = errShape
	}
	if err != nil {
		return Handles{}, fmt.Errorf("%w: %w", ErrTask, err)
	}
	return r.found, nil
}

var errShape = errors.New("it does not have the expected form")

// taskReader reads a message with handles. ReadListened, ReadReference and ResultOf use
// only its methods for objects.
type taskReader struct {
	walker
	found  Handles
	inTask bool
}

// object reads the object that begins with token t. It calls read(key, t) for each
// member, with the ordinal of the member's key in ns and the first token of the
// member's value.
func (r *taskReader) object(t token, ns names, read func(key int, t token) error) error {
	if t != tokenObject {
		return errShape
	}
	var seen uint
	t = r.next()
	for ; t == tokenKey; t = r.next() {
		key, exact := ns.find(r.key())
		bit := uint(1) << key
		if !exact || key != keyOther && seen&bit != 0 {
			return errors.New(foldedKey)
		}
		seen |= bit
		if err := read(key, r.next()); err != nil {
			return err
		}
	}
	if t != tokenObjectEnd {
		return errShape
	}
	return nil
}

// pass skips the rest of the value that begins with token t.
func (r *taskReader) pass(t token) error {
	if !r.skip(t) {
		return errShape
	}
	return nil
}

// member reads the value of a member of an object that describes a task or asks for
// input.
func (r *taskReader) member(key int, t token) error {
	switch key {
	case taskTask:
		if t != tokenObject || r.inTask {
			return r.pass(t)
		}
		r.inTask = true
		return r.object(t, taskNames, r.member)
	case taskID:
		return r.word(t, &r.found.TaskID)
	case taskStatus:
		return r.word(t, &r.found.Status)
	case taskState:
		if t == tokenNull {
			return nil
		}
		r.found.HasState = true
		return r.word(t, &r.found.RequestState)
	case taskTTL, taskTTLMs:
		return r.life(t)
	case taskResult:
		return r.embedded(t)
	case taskContent, taskStructured, taskIsError:
		r.found.Mixed = true
	}
	return r.pass(t)
}

// word reads a string and stores it in *to. If *to already holds another string, the
// message is refused, because it contradicts itself.
func (r *taskReader) word(t token, to *string) error {
	if t != tokenString {
		return errShape
	}
	text := string(r.key())
	if *to != "" && *to != text {
		return errors.New("it contradicts itself")
	}
	*to = text
	return nil
}

// maxLife bounds the time for which a server may claim to keep a task.
const maxLife = 365 * 24 * time.Hour

func (r *taskReader) life(t token) error {
	if t == tokenNumber {
		ms, err := strconv.ParseFloat(string(r.text[r.lex.start:r.at]), 64)
		if err == nil && ms > 0 {
			r.found.Life = time.Duration(min(ms, float64(maxLife.Milliseconds()))) * time.Millisecond
		}
	}
	return r.pass(t)
}

// embedded reads the result that is embedded in the report of a task.
func (r *taskReader) embedded(t token) error {
	if t == tokenNull {
		return nil
	}
	outcome := OutcomeResult
	err := r.object(t, embeddedNames, func(key int, t token) error {
		if key != keyOther {
			switch t {
			case tokenTrue:
				outcome = OutcomeToolError
			case tokenFalse:
			default:
				return errShape
			}
		}
		return r.pass(t)
	})
	r.found.Embedded = outcome
	return err
}

// AddTaskMeta is like AddMeta, for the result that is embedded in the report of a task,
// at result.result. If the report has no embedded result, AddTaskMeta returns the
// message itself.
func AddTaskMeta(message []byte, fields []Field) ([]byte, error) {
	if !validFields(fields) {
		return nil, ErrField
	}
	start, end, err := findEmbedded(message)
	if err != nil || start == end {
		return message, err
	}
	// AddMeta needs a message, so build one around the embedded result.
	const head, tail = `{"result":`, `}`
	inner := slices.Concat([]byte(head), message[start:end], []byte(tail))
	if inner, err = AddMeta(inner, fields); err != nil {
		return nil, err
	}
	return slices.Concat(message[:start], inner[len(head):len(inner)-len(tail)], message[end:]), nil
}

// AddTaskMetaToEvent applies AddTaskMeta to the data of one whole event.
func AddTaskMetaToEvent(event []byte, fields []Field) ([]byte, error) {
	head, lines := cutHead(event)
	data, last, found := eventData(lines)
	if !found {
		return nil, ErrNoResult
	}
	merged, err := AddTaskMeta(data, fields)
	if err != nil {
		return nil, err
	}
	return replaceData(head, lines, last, merged, len(event)+len(merged)-len(data)), nil
}

// ResultOf returns the raw result of a response. If embedded is true, ResultOf instead
// returns the result that is embedded in the report of a task. It returns nil if the
// message has no such result. The message must meet the conditions of ReadHandles.
func ResultOf(message []byte, embedded bool) ([]byte, error) {
	if embedded {
		start, end, err := findEmbedded(message)
		if err != nil || start == end {
			return nil, err
		}
		return message[start:end], nil
	}
	r := taskReader{walker: walker{text: message}}
	var result []byte
	err := r.object(r.next(), topNames, func(key int, t token) error {
		at := r.lex.start
		if err := r.pass(t); err != nil || key != keyResult || t != tokenObject {
			return err
		}
		result = message[at:r.at]
		return nil
	})
	if err != nil {
		return nil, ErrNoResult
	}
	return result, nil
}

// findEmbedded returns the place of the result that is embedded in the report of a
// task. If the report has no embedded result, start equals end.
func findEmbedded(message []byte) (start, end int, err error) {
	r := taskReader{walker: walker{text: message}}
	err = r.object(r.next(), topNames, func(key int, t token) error {
		if key != keyResult {
			return r.pass(t)
		}
		return r.object(t, taskNames, func(key int, t token) error {
			at := r.lex.start
			if err := r.pass(t); err != nil || key != taskResult || t != tokenObject {
				return err
			}
			start, end = at, r.at
			return nil
		})
	})
	if err != nil {
		return 0, 0, ErrNoResult
	}
	return start, end, nil
}
