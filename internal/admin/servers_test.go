package admin

import (
	"fmt"
	"slices"
	"testing"
)

// A key is made for servers that there are, and is changed to no others: a slip in
// a name is told with the names that are right. What a key has already stays, and
// who insists may name a server that is yet to come.
func TestServersAreKnown(t *testing.T) {
	o := newOffice(t)
	o.account("alice")
	old := do[KeyView](o, "POST", "keys", NewKey{Account: "alice", Servers: []string{"old"}}) // no config says what there is
	known := declare(t)
	known.Servers = []string{"maps", "weather"}
	o.settings.Store(known)
	const words = `there is no server "wether" in the config, which has: maps, weather. If it is yet to come, name it with --force`
	o.refused(Invalid, words, "POST", "keys", NewKey{Account: "alice", Servers: []string{"maps", "wether"}})
	o.refused(Invalid, words, "POST", "keys", NewKey{Account: "alice", Kind: "gateway", Servers: []string{"wether"}})
	k := do[KeyView](o, "POST", "keys", NewKey{Account: "alice", Servers: []string{"maps", "weather"}})
	forced := do[KeyView](o, "POST", "keys", NewKey{Account: "alice", Servers: []string{"wether"}, Force: true})
	if len(k.Servers) != 2 || !slices.Equal(forced.Servers, []string{"wether"}) {
		t.Errorf("%+v, %+v", k, forced)
	}
	path := "keys/" + old.ID
	o.refused(Invalid, words, "PATCH", path, KeyChange{Servers: &[]string{"old", "wether"}})
	o.refused(Invalid, "nothing to change", "PATCH", path, KeyChange{Force: true})
	for _, c := range []KeyChange{{Servers: &[]string{"old", "maps"}}, {Servers: &[]string{"new"}, Force: true}, {Servers: &[]string{}}} {
		if got := do[KeyView](o, "PATCH", path, c); !slices.Equal(got.Servers, *c.Servers) {
			t.Errorf("%+v", got)
		}
	}
	many := declare(t)
	for i := range 30 {
		many.Servers = append(many.Servers, fmt.Sprintf("s%02d", i))
	}
	o.settings.Store(many)
	o.refused(Invalid, "s18, s19, …. If", "POST", "keys", NewKey{Account: "alice", Servers: []string{"wether"}})
}
