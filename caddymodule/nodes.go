package caddymodule

import (
	"context"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
)

// describe sets the description of this process, which other nodes at the store can read.
func (a *App) describe(rt *engine.Runtime) {
	listen, _ := adminListen(a.ctx)           // "" if there is no admin endpoint
	address, _, _ := strings.Cut(listen, "|") // the mode of a socket does not belong to its address
	rt.Describe(address)
}

// Nodes implements ops.Nodes.
func (a *App) Nodes(ctx context.Context) ([]ops.NodeView, error) {
	a.mu.Lock()
	rt := a.running
	a.mu.Unlock()
	if rt == nil || rt.Acquire() != nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: "the store is not open: try again in a moment"}
	}
	defer rt.Release()
	list, err := rt.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]ops.NodeView, len(list))
	for i := range list {
		views[i] = nodeView(&list[i])
	}
	return views, nil
}

func nodeView(n *engine.Node) ops.NodeView {
	v := ops.NodeView{
		ID: n.ID, Host: n.Host, PID: n.PID, Version: n.Version, Revision: n.Revision, Admin: n.Admin,
		Seen: n.LastSeen, State: ops.NodeGone, Self: n.Self,
	}
	if n.Live {
		v.State = ops.NodeLive
	}
	if !n.Started.IsZero() {
		v.Started = &n.Started
	}
	return v
}

// Interface guard: the compiler checks that App implements ops.Nodes.
var _ ops.Nodes = (*App)(nil)
