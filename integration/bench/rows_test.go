package main

import (
	"slices"
	"testing"
)

// TestRows checks that names are unique and that each base is a row without a base.
func TestRows(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range rows {
		if seen[r.name] {
			t.Errorf("two rows are named %s", r.name)
		}
		seen[r.name] = true
		if r.base == "" {
			continue
		}
		base, ok := findRow(r.base)
		if !ok || base.base != "" {
			t.Errorf("%s: its base %s is no row without a base", r.name, r.base)
		}
		if base.call.stream != r.call.stream {
			t.Errorf("%s: its base has answers of another kind", r.name)
		}
	}
}

func TestSelectRows(t *testing.T) {
	for flag, want := range map[string]string{
		"quick":         "direct,caddy,forward_auth,unpriced,paid,paid_postgres",
		"all":           rowNames(rows),
		"stream, paid":  "caddy,paid,caddy_stream,stream",
		"direct":        "direct",
		"nginx,unknown": "",
		"":              "",
	} {
		list, err := selectRows(flag)
		if got := rowNames(list); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %s, %v; want %s", flag, got, err, want)
		}
	}
}

// TestSchedule checks that each row with a base stands between two turns of the base.
// It also checks that all rows have a turn, and that the next round is in reverse
// order.
func TestSchedule(t *testing.T) {
	first := schedule(rows, 0)
	turns := make(map[string]int)
	for i, r := range first {
		turns[r.name]++
		if r.base != "" && (first[i-1].name != r.base || first[i+1].name != r.base) {
			t.Errorf("%s is between %s and %s", r.name, first[i-1].name, first[i+1].name)
		}
	}
	for _, r := range rows {
		if turns[r.name] == 0 || r.base != "" && turns[r.name] != 1 {
			t.Errorf("%s has %d turns", r.name, turns[r.name])
		}
	}
	second := schedule(rows, 1)
	slices.Reverse(second)
	if rowNames(first) != rowNames(second) {
		t.Errorf("round 0: %s\nround 1, reversed: %s", rowNames(first), rowNames(second))
	}
}

// TestLeaveOut checks that leaveOut leaves out the rows of a missing server, and
// returns a line about the missing server. There is no line about a server that no row
// needs.
func TestLeaveOut(t *testing.T) {
	kept, lines := leaveOut(rows, false, true)
	if uses(kept, nginxServer) || len(kept) != len(rows)-2 || len(lines) != 1 {
		t.Errorf("without nginx: got %s, %q", rowNames(kept), lines)
	}
	if kept, lines = leaveOut(rows, false, false); uses(kept, postgresServer) || len(lines) != 2 {
		t.Errorf("without both: got %s, %q", rowNames(kept), lines)
	}
	if kept, lines = leaveOut(rows[:2], false, false); len(kept) != 2 || len(lines) != 0 {
		t.Errorf("rows that need neither: got %s, %q", rowNames(kept), lines)
	}
	if !uses(rows, nginxServer) {
		t.Error("the table of rows was changed")
	}
}
