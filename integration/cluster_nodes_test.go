package integration

import (
	"fmt"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ops"
)

// TestClusterNodes checks that each gateway on a database lists all gateways on the
// database, with their processes and admin addresses, and marks itself. A gateway that
// stops in order is not listed any more. A killed gateway is listed as gone.
func TestClusterNodes(t *testing.T) {
	cluster := startCluster(t, &postgres, harness.OnPostgres(harness.Site("http://127.0.0.1:1", "server nowhere", "provider acme", "free *")))
	states := func(g *harness.Gateway) (byAdmin map[string]string) {
		var list []ops.NodeView
		g.CLI(t, &list, "node", "list")
		byAdmin = make(map[string]string)
		for _, n := range list {
			byAdmin[n.Admin] = n.State
			if n.Name() == "" || n.Version == "" || n.Started == nil || n.Self != (n.Admin == g.Admin) {
				t.Errorf("asked at %s: %+v", g.Admin, n)
			}
		}
		return byAdmin
	}
	first, second, third := cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]
	for _, g := range cluster.Nodes {
		harness.Eventually(t, "all gateways are listed", func() error {
			found := states(g)
			if len(found) == clusterNodes && found[first.Admin] == ops.NodeLive && found[second.Admin] == ops.NodeLive && found[third.Admin] == ops.NodeLive {
				return nil
			}
			return fmt.Errorf("asked at %s: %v", g.Admin, found)
		})
	}
	second.Stop(t)
	third.Kill()
	harness.Eventually(t, "one gateway is live, and one is gone", func() error {
		found := states(first)
		if len(found) == 2 && found[first.Admin] == ops.NodeLive && found[third.Admin] == ops.NodeGone {
			return nil
		}
		return fmt.Errorf("found %v", found)
	})
}
