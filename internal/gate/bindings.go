package gate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Bindings remembers which account a server gave a handle to: the id of a task, or
// the state of a request for input. All callers look alike to a server behind
// the gateway, so it cannot tell whose they are.
type Bindings interface {
	// Bind remembers a binding, in the place of the one of its server with its mark
	// if there is one. It returns when that is durable.
	Bind(ctx context.Context, b ledger.Binding) error
	// Binding returns the server's binding of a mark, or ledger.ErrNotFound.
	Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error)
}

// How long handles are remembered.
const (
	// bondLife is for states, and for tasks whose server does not say that it
	// keeps them longer. A task's begins anew when it is asked for.
	bondLife = 24 * time.Hour
	// maxBondLife bounds what a server may say.
	maxBondLife = 30 * 24 * time.Hour
)

// What a binding is about: one of a kind never passes for one of another.
const (
	boundTask  = "task"
	boundState = "state"
	// boundTasks says that a server has handed out a task, to anybody.
	boundTasks = "tasks"
)

// owner is whose a handle is: an account's in one environment, so that a test
// key never has what a live one pays for. The zero owner is everybody.
type owner struct{ account, environment string }

func ownerOf(key *keys.Key) owner { return owner{key.Account, string(key.Environment)} }

// mark is what the binding of an owner and a handle is found by. The owner is a
// part of it: a state may be the same text for every caller.
func (g *Gate) mark(kind string, of owner, handle string) (m ledger.HandleHash) {
	h := sha256.New()
	for _, part := range [...]string{kind, g.policy.Server, of.account, of.environment, handle} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	copy(m[:], h.Sum(nil))
	return m
}

// bound reports whether the owner was given the handle.
func (g *Gate) bound(ctx context.Context, kind string, of owner, handle string) (ledger.Binding, bool, *Refusal) {
	b, err := g.Bindings.Binding(ctx, g.policy.Server, g.mark(kind, of, handle))
	switch {
	case err == nil:
		return b, true, nil
	case errors.Is(err, ledger.ErrNotFound):
		return b, false, nil
	}
	return b, false, &Refusal{Code: StoreUnavailable, Cause: err}
}

// claim checks that what a message comes back with is the account's. It returns
// the task that it is about, if it is about one.
func (g *Gate) claim(ctx context.Context, key *keys.Key, m *mcp.Message) (*Task, *Refusal) {
	switch {
	case mcp.OfOneTask(m.Method):
		return g.task(ctx, key, m)
	case m.Method == "subscriptions/listen":
		return nil, g.checkListened(ctx, key, m)
	case m.Kind == mcp.KindNotification && m.TaskID != "" && m.Method != mcp.MethodTaskStatus: // that tells of the client's own
		return nil, g.checkTasks(ctx, key, m.TaskID)
	case m.HasState && mcp.MayAsk(m.Method):
		_, ours, refusal := g.bound(ctx, boundState, ownerOf(key), stateOf(m.RequestState, mcp.Fingerprint(m)))
		if refusal == nil && !ours {
			refusal = &Refusal{Code: StateUnknown, Tool: m.Name}
		}
		return nil, refusal
	}
	return nil, nil
}

// stateOf is the handle of a state: with what was asked for, so that it is not
// good for a call of another price.
func stateOf(state string, asked [32]byte) string { return string(asked[:]) + state }

// checkListened refuses a subscription to tasks that are not the account's.
func (g *Gate) checkListened(ctx context.Context, key *keys.Key, m *mcp.Message) *Refusal {
	listened, err := mcp.ReadListened(m.Params)
	if err != nil {
		return &Refusal{Code: ParamsInvalid, Cause: err, Reason: "params.notifications cannot be read with certainty"}
	}
	return g.checkTasks(ctx, key, listened.Tasks...)
}

// checkTasks refuses tasks that are not the account's.
func (g *Gate) checkTasks(ctx context.Context, key *keys.Key, ids ...string) *Refusal {
	for _, id := range ids {
		if _, ours, refusal := g.bound(ctx, boundTask, ownerOf(key), id); refusal != nil {
			return refusal
		} else if !ours {
			return &Refusal{Code: TaskUnknown}
		}
	}
	return nil
}

// Bind remembers, for the key's account, the handle in an answer to the
// ticket's request: of a task that was accepted, with the ticket, or of a
// request for input. It returns when that is durable. A refusal means that the
// answer must be withheld.
func (g *Gate) Bind(ctx context.Context, key *keys.Key, t *Ticket, outcome mcp.Outcome, answer []byte) *Refusal {
	handles, err := mcp.ReadHandles(answer)
	if err != nil {
		return &Refusal{Code: UpstreamFailed, Cause: err}
	}
	switch {
	case outcome == mcp.OutcomeTask && t.Method != "tools/call": // the answer itself may be what is paid
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it answered what is no tool with a task")}
	case outcome == mcp.OutcomeTask && handles.TaskID == "":
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it accepted a task without an id")}
	case outcome == mcp.OutcomeTask && (handles.Mixed || handles.Embedded != mcp.OutcomeUnknown):
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it accepted a task together with its result")}
	case outcome == mcp.OutcomeTask:
		return g.bindTask(ctx, key, t, &handles)
	case handles.HasState:
		return g.bind(ctx, ledger.Binding{
			HandleHash: g.mark(boundState, ownerOf(key), stateOf(handles.RequestState, t.origin.fingerprint())), Account: key.Account, Until: g.Now().Add(bondLife),
		})
	}
	return nil
}

func (g *Gate) bind(ctx context.Context, b ledger.Binding) *Refusal {
	b.Server = g.policy.Server
	if err := g.Bindings.Bind(ctx, b); err != nil {
		return &Refusal{Code: StoreUnavailable, Cause: err}
	}
	return nil
}

var errTaskTwice = errors.New("it gave the id of a task that is under way to another one")

func (g *Gate) bindTask(ctx context.Context, key *keys.Key, t *Ticket, h *mcp.Handles) *Refusal {
	before, known, refusal := g.bound(ctx, boundTask, ownerOf(key), h.TaskID)
	if refusal != nil {
		return refusal
	}
	t.origin.accepted()
	payload := g.newTask(t).payload()
	if known {
		task, err := readTask(before.Payload)
		switch {
		case err != nil:
			return &Refusal{Code: StoreUnavailable, Cause: err}
		case task.ticket.Charge == t.Charge: // the same acceptance, on a stream that was resumed
			payload = before.Payload
		case task.ticket.Paid() && g.Ledger.Renew(ctx, task.ticket.Charge) == nil:
			return &Refusal{Code: UpstreamFailed, Cause: errTaskTwice}
		}
	}
	b := ledger.Binding{
		HandleHash: g.mark(boundTask, ownerOf(key), h.TaskID), Account: key.Account, Payload: payload,
		Until: g.Now().Add(min(max(h.Life, bondLife), maxBondLife)),
	}
	if refusal := g.bind(ctx, b); refusal != nil {
		return refusal
	}
	return g.noteTasks(ctx)
}

// noteTasks remembers that the server has tasks.
func (g *Gate) noteTasks(ctx context.Context) *Refusal {
	now := g.Now()
	noted, known, refusal := g.bound(ctx, boundTasks, owner{}, "")
	if refusal != nil || known && noted.Until.Sub(now) > maxBondLife {
		return refusal
	}
	return g.bind(ctx, ledger.Binding{HandleHash: g.mark(boundTasks, owner{}, ""), Until: now.Add(2 * maxBondLife)})
}

// unknownTask refuses what is about a task that is not the account's, in the
// same way whether another account has it or nobody. A server that has never
// handed out a task is taken for one that has none: then the method is unknown,
// as the server would say itself.
func (g *Gate) unknownTask(ctx context.Context, m *mcp.Message) *Refusal {
	_, has, refusal := g.bound(ctx, boundTasks, owner{}, "")
	switch {
	case refusal != nil:
		return refusal
	case has:
		return &Refusal{Code: TaskUnknown}
	}
	return &Refusal{Code: MethodUnknown, Reason: "method not found: " + m.Method}
}

// judgeTimeout bounds the look at one task of a list, or of a notification.
const judgeTimeout = 5 * time.Second

// judgeTask keeps the tasks of the key's account that the key may ask for. What is in doubt goes.
func (g *Gate) judgeTask(key *keys.Key) func(string) (bool, []mcp.Field) {
	return func(id string) (bool, []mcp.Field) {
		ctx, cancel := context.WithTimeout(context.Background(), judgeTimeout)
		defer cancel()
		b, ours, refusal := g.bound(ctx, boundTask, ownerOf(key), id)
		if !ours || refusal != nil {
			return false, nil
		}
		task, err := readTask(b.Payload)
		return err == nil && g.permitTicket(key, &task.ticket) == nil, nil
	}
}

// Notifies reports whether a notification may go to the key that is not for
// every caller. One of a task's status may go to its account, with no result
// embedded that it would have to pay for: such a result is to be asked for, and
// is paid then. That a resource was changed may be told to who may read it: all
// keys of an account can listen in its sessions. What is in doubt may not go.
func (g *Gate) Notifies(ctx context.Context, key *keys.Key, notification []byte) bool {
	if m, err := mcp.Decode(notification); err == nil && m.Method == mcp.MethodResourceUpdated {
		return g.mayRead(key, m.URI)
	}
	handles, err := mcp.ReadTaskNotification(notification)
	if err != nil || handles.TaskID == "" || handles.Mixed {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	b, ours, refusal := g.bound(ctx, boundTask, ownerOf(key), handles.TaskID)
	if !ours || refusal != nil {
		return false
	}
	task, err := readTask(b.Payload)
	if err != nil || g.permitTicket(key, &task.ticket) != nil {
		return false
	}
	return handles.Embedded == mcp.OutcomeUnknown || !task.ticket.Paid()
}

// Tasks of a payload are written in this version.
const payloadVersion = 1

var errPayload = errors.New("a task was remembered by another version of this program")

// remembered is what is kept of a task: the call that it is of, and until when its
// reservation is renewed.
type remembered struct {
	ticket   Ticket
	deadline time.Time
}

func (g *Gate) newTask(t *Ticket) *remembered {
	return &remembered{ticket: *t, deadline: g.Now().Add(g.policy.MaxCall)}
}

func (r *remembered) payload() []byte {
	w := ticketWriter{b: []byte{payloadVersion}}
	w.number(uint64(r.deadline.Unix()))
	w.text(r.ticket.Charge)
	w.scopes(r.ticket.scopes)
	if r.ticket.Paid() {
		w.call(&r.ticket)
	}
	return w.b
}

// readTask reads a payload. Account, provider and server of its order are for
// the caller to set.
func readTask(payload []byte) (*remembered, error) {
	if len(payload) == 0 || payload[0] != payloadVersion {
		return nil, errPayload
	}
	r := ticketReader{b: slices.Clone(payload[1:])}
	task := &remembered{deadline: time.Unix(int64(r.number()), 0)}
	task.ticket.Charge, task.ticket.scopes = r.text(), r.scopes()
	if task.ticket.Paid() {
		r.call(&task.ticket)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errPayload
	}
	return task, nil
}
