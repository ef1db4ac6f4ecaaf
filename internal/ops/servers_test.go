package ops

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
)

// TestServersAreKnown checks that a key can only get servers that are in the config,
// and that the error for a misspelt name lists these servers. A key keeps the servers
// that it already has. With force, a key can get a server that is not in the config
// yet.
func TestServersAreKnown(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	old := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Servers: []string{"old"}}) // allowed, because the names of the servers are not known yet
	known := declare(t)
	known.Servers = []string{"maps", "weather"}
	o.settings.Store(known)
	const words = `there is no server "wether" in the config, which has: maps, weather. If it is yet to come, name it with --force`
	o.refused(admin.Invalid, words, "POST", "keys", admin.NewKey{Account: "alice", Servers: []string{"maps", "wether"}})
	o.refused(admin.Invalid, words, "POST", "keys", admin.NewKey{Account: "alice", Kind: "gateway", Servers: []string{"wether"}})
	k := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Servers: []string{"maps", "weather"}})
	forced := do[admin.KeyView](o, "POST", "keys", admin.NewKey{Account: "alice", Servers: []string{"wether"}, Force: true})
	if len(k.Servers) != 2 || !slices.Equal(forced.Servers, []string{"wether"}) {
		t.Errorf("%+v, %+v", k, forced)
	}
	path := "keys/" + old.ID
	o.refused(admin.Invalid, words, "PATCH", path, admin.KeyChange{Servers: &[]string{"old", "wether"}})
	o.refused(admin.Invalid, "nothing to change", "PATCH", path, admin.KeyChange{Force: true})
	for _, c := range []admin.KeyChange{{Servers: &[]string{"old", "maps"}}, {Servers: &[]string{"new"}, Force: true}, {Servers: &[]string{}}} {
		if got := do[admin.KeyView](o, "PATCH", path, c); !slices.Equal(got.Servers, *c.Servers) {
			t.Errorf("%+v", got)
		}
	}
	many := declare(t)
	for i := range 30 {
		many.Servers = append(many.Servers, fmt.Sprintf("s%02d", i))
	}
	o.settings.Store(many)
	o.refused(admin.Invalid, "s18, s19, …. If", "POST", "keys", admin.NewKey{Account: "alice", Servers: []string{"wether"}})
}
