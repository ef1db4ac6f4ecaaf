package gate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// Bindings remembers the account to which a server gave a handle. A handle is the id of
// a task or the state of a request for input. The server itself cannot check the
// owner of a handle, because all callers behind the gateway look alike to the server.
type Bindings interface {
	// Bind stores a binding and returns when the binding is durable. It replaces the
	// server's earlier binding with the same hash, if any.
	Bind(ctx context.Context, b ledger.Binding) error
	// Binding returns the server's binding of a handle hash, or
	// ledger.ErrNotFound.
	Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error)
}

// The lifetimes of bindings.
const (
	// bindingLife is the life of a state's binding. It is also the life of a task's
	// binding, unless the server announces a longer life. A request about a task
	// extends the task's binding if less than half of bindingLife is left.
	bindingLife = 24 * time.Hour
	// maxBindingLife bounds the life that a server may announce.
	maxBindingLife = 30 * 24 * time.Hour
)

// The kinds of bindings. The kind is hashed with the handle, so that a handle of
// one kind never passes for a handle of another kind.
const (
	boundTask  = "task"
	boundState = "state"
	// boundTasks records that a server has handed out at least one task.
	boundTasks = "tasks"
)

// owner is the owner of a handle: an account in one environment. The environment
// keeps test keys away from tasks that a live key pays for. The zero owner stands
// for all callers.
type owner struct{ account, environment string }

func ownerOf(caller *Caller) owner { return owner{caller.Account, string(caller.Environment)} }

// handleHash returns the hash under which a binding is stored. It includes the
// owner because servers may send the same state text to every caller.
func (g *Gate) handleHash(kind string, of owner, handle string) (m ledger.HandleHash) {
	sum := id.Hash(kind, g.policy.Server, of.account, of.environment, handle)
	return ledger.HandleHash(sum[:len(m)])
}

// bound returns the owner's binding of a handle, and reports whether there is such a
// binding.
func (g *Gate) bound(ctx context.Context, kind string, of owner, handle string) (ledger.Binding, bool, *Refusal) {
	b, err := g.deps.Bindings.Binding(ctx, g.policy.Server, g.handleHash(kind, of, handle))
	switch {
	case err == nil:
		return b, true, nil
	case errors.Is(err, ledger.ErrNotFound):
		return b, false, nil
	}
	return b, false, &Refusal{Code: StoreUnavailable, Cause: err}
}

// requireOwner checks that the handles in a message belong to the caller's account.
// It returns the task that the message is about, or nil.
func (g *Gate) requireOwner(ctx context.Context, caller *Caller, m *mcp.Message) (*remembered, *Refusal) {
	switch {
	case mcp.OfOneTask(m.Method):
		return g.ownTask(ctx, caller, m)
	case m.Method == mcp.MethodListen:
		return nil, g.checkListened(ctx, caller, m)
	// A client's MethodTaskStatus is exempt, because it reports on a task that the
	// client itself runs.
	case m.Kind == mcp.KindNotification && m.TaskID != "" && m.Method != mcp.MethodTaskStatus:
		return nil, g.checkTasks(ctx, caller, m.TaskID)
	case m.HasState && mcp.MayAsk(m.Method):
		_, ours, refusal := g.bound(ctx, boundState, ownerOf(caller), stateOf(m.RequestState, mcp.Fingerprint(m)))
		if refusal == nil && !ours {
			refusal = &Refusal{Code: StateUnknown, Tool: m.Name}
		}
		return nil, refusal
	}
	return nil, nil
}

// ownTask finds the task that the message is about, and extends its binding. It
// refuses a caller that has lost a scope of the task's call.
func (g *Gate) ownTask(ctx context.Context, caller *Caller, m *mcp.Message) (*remembered, *Refusal) {
	binding, ours, refusal := g.bound(ctx, boundTask, ownerOf(caller), m.TaskID)
	if refusal != nil {
		return nil, refusal
	}
	if !ours {
		return nil, g.unknownTask(ctx, m)
	}
	kept, err := readTask(binding.Payload)
	if err != nil {
		return nil, &Refusal{Code: StoreUnavailable, Cause: err}
	}
	if refusal := g.permitTicket(caller, &kept.ticket); refusal != nil {
		return nil, refusal
	}
	if left := binding.Until.Sub(g.deps.Now()); left < bindingLife/2 {
		binding.Until = g.deps.Now().Add(bindingLife)
		refusal = g.bind(ctx, binding)
	}
	return kept, refusal
}

// stateOf returns the handle of a state. The handle includes the fingerprint of the
// request, so that a state is not accepted with a request that has another price.
func stateOf(state string, request [32]byte) string { return string(request[:]) + state }

// checkListened refuses a subscription to tasks of other accounts.
func (g *Gate) checkListened(ctx context.Context, caller *Caller, m *mcp.Message) *Refusal {
	listened, err := mcp.ReadListened(m.Params)
	if err != nil {
		return &Refusal{Code: ParamsInvalid, Cause: err, Reason: "params.notifications cannot be read with certainty"}
	}
	return g.checkTasks(ctx, caller, listened.Tasks...)
}

// checkTasks refuses tasks of other accounts.
func (g *Gate) checkTasks(ctx context.Context, caller *Caller, ids ...string) *Refusal {
	for _, id := range ids {
		if _, ours, refusal := g.bound(ctx, boundTask, ownerOf(caller), id); refusal != nil {
			return refusal
		} else if !ours {
			return &Refusal{Code: TaskUnknown}
		}
	}
	return nil
}

// Bind binds the handle in a response to the caller's account. The handle is either
// the id of an accepted task or the state of a request for input. With the id of a
// task, Bind also stores the ticket of the task's call. Bind returns when the binding
// is durable. A refusal means that the response must be withheld.
func (g *Gate) Bind(ctx context.Context, caller *Caller, t *Ticket, outcome mcp.Outcome, response []byte) *Refusal {
	handles, err := mcp.ReadHandles(response)
	if err != nil {
		return &Refusal{Code: UpstreamFailed, Cause: err}
	}
	switch {
	case outcome == mcp.OutcomeTask && t.Method != "tools/call": // only tools/call may become a task; for another method, the price may be due for the response itself
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it answered a method other than tools/call with a task")}
	case outcome == mcp.OutcomeTask && handles.TaskID == "":
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it accepted a task without an id")}
	case outcome == mcp.OutcomeTask && (handles.Mixed || handles.Embedded != mcp.OutcomeUnknown):
		return &Refusal{Code: UpstreamFailed, Cause: errors.New("it accepted a task and sent its result at the same time")}
	case outcome == mcp.OutcomeTask:
		return g.bindTask(ctx, caller, t, &handles)
	case handles.HasState:
		return g.bind(ctx, ledger.Binding{
			HandleHash: g.handleHash(boundState, ownerOf(caller), stateOf(handles.RequestState, t.origin.fingerprint())), Account: caller.Account, Until: g.deps.Now().Add(bindingLife),
		})
	}
	return nil
}

func (g *Gate) bind(ctx context.Context, b ledger.Binding) *Refusal {
	b.Server = g.policy.Server
	if err := g.deps.Bindings.Bind(ctx, b); err != nil {
		return &Refusal{Code: StoreUnavailable, Cause: err}
	}
	return nil
}

var errTaskTwice = errors.New("it gave a new task the id of one that is still running")

func (g *Gate) bindTask(ctx context.Context, caller *Caller, t *Ticket, h *mcp.Handles) *Refusal {
	before, known, refusal := g.bound(ctx, boundTask, ownerOf(caller), h.TaskID)
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
		case task.ticket.Charge == t.Charge: // the same acceptance was bound before, and has come again on a resumed stream
			payload = before.Payload
		case task.ticket.Paid() && g.deps.Ledger.Renew(ctx, task.ticket.Charge) == nil:
			return &Refusal{Code: UpstreamFailed, Cause: errTaskTwice}
		}
	}
	b := ledger.Binding{
		HandleHash: g.handleHash(boundTask, ownerOf(caller), h.TaskID), Account: caller.Account, Payload: payload,
		Until: g.deps.Now().Add(min(max(h.Life, bindingLife), maxBindingLife)),
	}
	if refusal := g.bind(ctx, b); refusal != nil {
		return refusal
	}
	return g.noteTasks(ctx)
}

// noteTasks records that the server has tasks.
func (g *Gate) noteTasks(ctx context.Context) *Refusal {
	now := g.deps.Now()
	noted, known, refusal := g.bound(ctx, boundTasks, owner{}, "")
	if refusal != nil || known && noted.Until.Sub(now) > maxBindingLife {
		return refusal
	}
	return g.bind(ctx, ledger.Binding{HandleHash: g.handleHash(boundTasks, owner{}, ""), Until: now.Add(2 * maxBindingLife)})
}

// unknownTask returns the refusal of a request about a task that the account does not
// own. The refusal is the same whether the task exists or not. A server that has never
// handed out a task probably does not support tasks. In this case the refusal is
// that of an unknown method, as from a server without tasks.
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

// judgeTimeout bounds the lookup of one task for a list or a notification.
const judgeTimeout = 5 * time.Second

// judgeTask returns the function that decides whether a listed task stays in the
// caller's list. A task stays if the caller may ask for it. A task without a known
// owner is dropped.
func (g *Gate) judgeTask(caller *Caller) func(string) (bool, []mcp.Field) {
	return func(id string) (bool, []mcp.Field) {
		ctx, cancel := context.WithTimeout(context.Background(), judgeTimeout)
		defer cancel()
		b, ours, refusal := g.bound(ctx, boundTask, ownerOf(caller), id)
		if !ours || refusal != nil {
			return false, nil
		}
		task, err := readTask(b.Payload)
		return err == nil && g.permitTicket(caller, &task.ticket) == nil, nil
	}
}

// Notifies reports whether the caller may receive a notification that is meant for some
// callers only. The status of a task may go to the task's account. But a notification
// with an embedded result that has a price is withheld: the client must ask for the
// result, and then pays for it. A notification that a resource changed may go to
// callers that may read the resource. Scopes are checked for each notification, because
// all keys of an account can listen in the account's sessions. A notification that
// cannot be judged is withheld.
func (g *Gate) Notifies(ctx context.Context, caller *Caller, notification []byte) bool {
	if m, err := mcp.Decode(notification); err == nil && m.Method == mcp.MethodResourceUpdated {
		return g.mayRead(caller, m.URI)
	}
	handles, err := mcp.ReadTaskNotification(notification)
	if err != nil || handles.TaskID == "" || handles.Mixed {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	b, ours, refusal := g.bound(ctx, boundTask, ownerOf(caller), handles.TaskID)
	if !ours || refusal != nil {
		return false
	}
	task, err := readTask(b.Payload)
	if err != nil || g.permitTicket(caller, &task.ticket) != nil {
		return false
	}
	return handles.Embedded == mcp.OutcomeUnknown || !task.ticket.Paid()
}

// payloadVersion is the version of the encoding of tasks in bindings.
const payloadVersion = 1

var errPayload = errors.New("a task was stored by another version of this program")

// remembered is the payload of a task's binding: the ticket of the task's call, and
// the time until which the call's reservation is renewed.
type remembered struct {
	ticket   Ticket
	deadline time.Time
}

func (g *Gate) newTask(t *Ticket) *remembered {
	return &remembered{ticket: *t, deadline: g.deps.Now().Add(g.policy.MaxCall)}
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

// readTask decodes a payload. A payload does not contain the account, provider and
// server of the order; the caller of readTask must set them.
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
