package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// NodeName returns the name of this process for people: the name of the host and the
// number of the process.
func NodeName() string { return fmt.Sprintf("%s/%d", hostName(), os.Getpid()) }

func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return host
}

// started is when this process loaded the package.
var started = clock.Now()

// NodeDescription is how a node describes itself to operators. Nodes of other versions
// read and write the description as JSON, so members may be missing.
type NodeDescription struct {
	Host     string    `json:"host,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Version  string    `json:"version,omitempty"`
	Revision string    `json:"revision,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Admin    string    `json:"admin,omitempty"` // address of the admin endpoint, from the config
}

// Node is a process that uses the store.
type Node struct {
	ID string
	NodeDescription
	LastSeen time.Time // when the node renewed its lease last; for this process, the time of the call
	Live     bool      // the node is this process, or its lease has not ended
	Self     bool      // the node is this process
}

// registry lists the nodes at a store, and keeps their descriptions. A store that several
// processes use may implement it.
type registry interface {
	// Introduce stores the description of a node that has a lease.
	Introduce(ctx context.Context, node, about string) error
	// Leases returns the leases of all nodes, including leases that have ended lately.
	Leases(ctx context.Context) ([]keys.Lease, error)
}

// Describe sets the address of the admin endpoint in the description of this process,
// which other nodes at the store can read. If the address is "", the description has no
// address.
func (r *Runtime) Describe(adminAddress string) {
	version, revision, _ := telemetry.Build()
	self := &NodeDescription{
		Host: hostName(), PID: os.Getpid(), Version: version, Revision: revision,
		Started: started.UTC().Truncate(time.Second), Admin: adminAddress,
	}
	r.self.Store(self)
	if r.follower != nil {
		text, _ := json.Marshal(self) // cannot fail, because the time is between the years 0 and 9999
		about := string(text)
		r.follower.about.Store(&about)
	}
}

// Nodes returns the processes that use the store, by host and number. If the store knows
// only this process, or is the store of a platform, Nodes returns only this process. A
// node that has not described itself has only an id. The caller must hold a reference to
// the runtime; see Acquire.
func (r *Runtime) Nodes(ctx context.Context) ([]Node, error) {
	self := Node{ID: r.id, NodeDescription: *r.self.Load(), LastSeen: now(), Live: true, Self: true}
	list := []Node{self}
	if shared, ok := r.store.(registry); ok {
		leases, err := shared.Leases(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			if l.Node != self.ID {
				list = append(list, nodeOf(l))
			}
		}
	}
	slices.SortFunc(list, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// nodeOf returns another node by its lease.
func nodeOf(l keys.Lease) Node {
	n := Node{ID: l.Node, LastSeen: now().Add(l.Left - LeaseTime), Live: l.Left > 0}
	if json.Unmarshal([]byte(l.About), &n.NodeDescription) != nil {
		n.NodeDescription = NodeDescription{} // a node of an earlier version has no description
	}
	return n
}
