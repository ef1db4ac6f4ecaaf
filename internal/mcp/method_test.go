package mcp

import (
	"strings"
	"testing"
)

// TestMethodTable checks that every entry of the table methods is consistent, and that
// an entry is found only by its exact name. It also checks that the functions that use
// the table agree with it.
func TestMethodTable(t *testing.T) {
	seen := map[string]bool{}
	lists := map[List]bool{}
	for _, m := range methods {
		if got, ok := LookupMethod(m.Name); !ok || got != m || seen[m.Name] || !validMethodName(m.Name) {
			t.Errorf("%s: found %+v, %v", m.Name, got, ok)
		}
		seen[m.Name] = true
		for _, other := range []string{"", m.Name + "x", m.Name[1:], strings.ToUpper(m.Name), m.Name + strings.Repeat("x", maxMethodName)} {
			if got, ok := LookupMethod(other); ok {
				t.Errorf("%q is taken for %s", other, got.Name)
			}
		}
		if !m.Session && !m.Stateless {
			t.Errorf("%s belongs to no era", m.Name)
		}
		if m.Notifies != IsNotification(m.Name) {
			t.Errorf("%s: its name and its kind differ", m.Name)
		}
		if (m.About == AboutNothing) != (m.Names == ParamNone) || m.Item && m.Names == ParamNone {
			t.Errorf("%s: a target without a name, or a name without a target", m.Name)
		}
		if m.Lists != 0 {
			if lists[m.Lists] {
				t.Errorf("%s: another method has the same list", m.Name)
			}
			lists[m.Lists] = true
		}
		for _, era := range []Era{EraSession, EraStateless} {
			for _, kind := range []Kind{KindRequest, KindNotification} {
				want := m.Notifies == (kind == KindNotification) && (era == EraSession && m.Session || era == EraStateless && m.Stateless)
				if got := KnownMethod(era, &Message{Kind: kind, Method: m.Name}); got != want {
					t.Errorf("%s, %v, %v: known is %v", m.Name, era, kind, got)
				}
			}
		}
		if free := CheckMethodRule(m.Name) == nil; free != m.Rules {
			t.Errorf("%s: an operator may put a rule on it: %v", m.Name, free)
		}
	}
	if len(lists) != len(listShapes)-1 {
		t.Errorf("%d of %d lists have a method", len(lists), len(listShapes)-1)
	}
}

// TestMethodTarget checks that Target returns the member of params that names the target
// in each method.
func TestMethodTarget(t *testing.T) {
	msg := Message{Name: "n", URI: "u", TaskID: "t"}
	for name, want := range map[string]string{
		"tools/call": "n", "prompts/get": "n", "resources/read": "u", "resources/subscribe": "u", "tasks/get": "t", "ping": "",
	} {
		if m, ok := LookupMethod(name); !ok || m.Target(&msg) != want {
			t.Errorf("%s: %q, want %q", name, m.Target(&msg), want)
		}
	}
}
