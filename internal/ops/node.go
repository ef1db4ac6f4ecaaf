package ops

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

// OnNodes returns the operations on the processes that use the store.
func OnNodes() []Op[Nodes] { return []Op[Nodes]{ListNodes} }

// Nodes gives access to the processes that use the store.
type Nodes interface {
	// Nodes lists the processes, among them the one that answers.
	Nodes(ctx context.Context) ([]NodeView, error)
}

// NodeView is a process that uses the store, in JSON.
type NodeView struct {
	ID       string     `json:"id" doc:"Chosen at random when the process opened the store"`
	Host     string     `json:"host,omitempty" doc:"Absent, as all members about the process, if it is of a version that does not store them"`
	PID      int        `json:"pid,omitempty"`
	Version  string     `json:"version,omitempty"`
	Revision string     `json:"revision,omitempty" doc:"The commit of the build, if it is known"`
	Started  *time.Time `json:"started_at,omitempty"`
	Admin    string     `json:"admin,omitempty" doc:"The address of its admin endpoint, as in its config"`
	Seen     time.Time  `json:"last_seen_at" doc:"When it renewed its lease last"`
	State    string     `json:"state" doc:"live or gone"`
	Self     bool       `json:"self" doc:"It is the process that answers"`
}

// Name returns the name of the process for people, as engine.NodeName does, or "" if the
// process is not known.
func (v *NodeView) Name() string {
	if v.Host == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", v.Host, v.PID)
}

// The states of a node. A node that stops in order is not listed any more.
const (
	NodeLive = "live"
	NodeGone = "gone" // its lease has ended: it was killed, hangs, or cannot reach the store
)

// ListNodes lists the processes that use the store.
var ListNodes = Define(Operation{
	ID: "node.list", Method: http.MethodGet, Path: "/nodes", Needs: identity.Operate, Tag: "health",
	Summary:     "List the gateways that use the store",
	Description: "On SQLite, and on a gateway without a store, that is the one process that answers.", Command: "node list",
}, func(ctx context.Context, n Nodes, _ *identity.Principal, _ *None) (admin.List[NodeView], error) {
	list, err := n.Nodes(ctx)
	return admin.List[NodeView]{Items: list}, err
})
