package mcp

import (
	"errors"
	"fmt"
)

// ErrAsked says that the targets named in the params of a request are ambiguous or
// cannot be read. Errors wrap it.
var ErrAsked = errors.New("what the params ask for cannot be judged")

// maxListened bounds the number of tasks to which one request listens. The number of
// resources has the same bound, and is counted separately.
const maxListened = 1000

// Listened holds the tasks and resources for which a subscriptions/listen request
// wants notifications (MCP 2026-07-28, subscriptions). The strings are unescaped.
type Listened struct {
	Tasks     []string // params.notifications.taskIds (SEP-2663)
	Resources []string // params.notifications.resourceSubscriptions: URIs
}

const (
	listenTasks = iota + 1
	listenResources
)

var (
	listenNames = names{"notifications"}
	filterNames = names{"taskIds", "resourceSubscriptions"}
)

// ReadListened reads the params of subscriptions/listen. If params is nil, it returns
// no targets. It refuses params that another parser could read differently, and params
// with more than 1000 tasks or more than 1000 resources. The error wraps ErrAsked.
func ReadListened(params []byte) (l Listened, err error) {
	if params == nil {
		return l, nil
	}
	r := taskReader{walker: walker{text: params}}
	err = r.object(r.next(), listenNames, func(key int, t token) error {
		if key == keyOther {
			return r.pass(t)
		}
		return r.object(t, filterNames, func(key int, t token) (err error) {
			switch key {
			case listenTasks:
				l.Tasks, err = r.strings(t)
			case listenResources:
				l.Resources, err = r.strings(t)
			default:
				err = r.pass(t)
			}
			return err
		})
	})
	if err != nil {
		return Listened{}, fmt.Errorf("%w: %w", ErrAsked, err)
	}
	return l, nil
}

func (r *taskReader) strings(t token) (list []string, err error) {
	if t != tokenArray {
		return nil, errShape
	}
	for t = r.next(); t == tokenString; t = r.next() {
		if len(list) == maxListened {
			return nil, errors.New("they name too many tasks or resources")
		}
		list = append(list, string(r.key()))
	}
	if t != tokenArrayEnd {
		return nil, errShape
	}
	return list, nil
}

// Reference is the target of completion/complete: a prompt by its name, or a resource
// template by its URI (MCP, Completion).
type Reference struct {
	Prompt   string // the name of a prompt; "" if the target is a resource
	Resource string // the URI of a resource; "" if the target is a prompt
}

const askedRef = 1

const (
	refType = iota + 1
	refName
	refURI
)

var (
	completionNames = names{"ref"}
	refNames        = names{"type", "name", "uri"}
)

// ReadReference reads the params of completion/complete. It refuses params that
// another parser could read differently, and references with an unknown type. The
// error wraps ErrAsked.
func ReadReference(params []byte) (Reference, error) {
	var kind, name, uri string
	r := taskReader{walker: walker{text: params}}
	text := func(t token, into *string) error {
		if t != tokenString {
			return errShape
		}
		*into = string(r.key())
		return nil
	}
	err := r.object(r.next(), completionNames, func(key int, t token) error {
		if key != askedRef {
			return r.pass(t)
		}
		return r.object(t, refNames, func(key int, t token) error {
			switch key {
			case refType:
				return text(t, &kind)
			case refName:
				return text(t, &name)
			case refURI:
				return text(t, &uri)
			}
			return r.pass(t)
		})
	})
	switch {
	case err != nil:
	case kind == "ref/prompt" && name != "" && uri == "":
		return Reference{Prompt: name}, nil
	case kind == "ref/resource" && uri != "" && name == "":
		return Reference{Resource: uri}, nil
	default:
		err = errShape
	}
	return Reference{}, fmt.Errorf("%w: %w", ErrAsked, err)
}
