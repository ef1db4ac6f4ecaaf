package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	// learnTime is the time after the creation of a lineage in which its new tools are
	// remembered but raise no alert.
	learnTime = 24 * time.Hour
	// maxTools bounds the remembered tools of a lineage. Further tools raise no alert.
	maxTools = 256
	// maxHistory bounds the pages of each usage report that are read to learn the
	// tools of a lineage.
	maxHistory = 20
	// learnMost is the number of lineages for which one step learns the tools.
	learnMost = 20
	// writeMost is the number of learned tools that one transaction writes.
	writeMost = 200
	// toolsTime bounds the time that a step spends on tools.
	toolsTime = stepTime / 3
)

// judgeTools raises an alert for each tool that a lineage has paid for in this step,
// but never before. A lineage may have a long history when it is judged for the first
// time. The tools that it paid for before today are then learned from the sums of
// usage, and raise no alert.
func (r *step) judgeTools() error {
	wanted := make(map[ledger.Lineage]*movedKey)
	for i := range r.keys {
		if r.keys[i].settings.Tools {
			wanted[r.keys[i].Lineage] = &r.keys[i]
		}
	}
	tools := slices.DeleteFunc(slices.Clone(r.moved.Tools), func(t ledger.MovedTool) bool { return wanted[t.Lineage] == nil })
	if len(tools) == 0 {
		return nil
	}
	if err := r.learnAll(tools); err != nil || r.learning {
		return err
	}
	known, created, err := r.knownTools(tools)
	if err != nil {
		return err
	}
	room := make(map[string]int64)
	for _, t := range tools {
		k, sub := wanted[t.Lineage], toolSubject(t)
		lineage := t.Lineage.Lineage
		if _, ok := room[lineage]; !ok {
			if room[lineage], err = r.toolRoom(lineage); err != nil {
				return err
			}
		}
		if known[sub] || room[lineage] == 0 {
			continue
		}
		known[sub] = true
		room[lineage]--
		r.put = append(r.put, State{Kind: Tool, Subject: sub, At: r.now})
		if at, ok := created[lineage]; !ok || r.now.Sub(at) >= learnTime {
			r.raise(k.alert(Tool, Data{Server: t.Server, Tool: t.Tool}))
		}
	}
	return nil
}

// maxToolSubject bounds the tool's name in a subject, in bytes. A longer name is
// replaced by its hash, because databases limit the length of a primary key.
const maxToolSubject = 200

func toolSubject(t ledger.MovedTool) string {
	name := t.Tool
	if len(name) > maxToolSubject {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:])
	}
	return subject(t.Lineage.Lineage, t.Server, name)
}

// knownTools returns the set of subjects that have a state, and the creation time of
// each lineage. It considers the subjects of the given tools and of their lineages.
func (r *step) knownTools(tools []ledger.MovedTool) (known map[string]bool, created map[string]time.Time, err error) {
	var subjects []string
	for _, t := range tools {
		subjects = append(subjects, t.Lineage.Lineage, toolSubject(t))
	}
	slices.Sort(subjects)
	states, err := r.states(Tool, slices.Compact(subjects))
	if err != nil {
		return nil, nil, err
	}
	known = make(map[string]bool, len(states))
	for sub := range states {
		known[sub] = true
	}
	var ids []string // a lineage is the id of its first key
	for _, t := range tools {
		ids = append(ids, t.Lineage.Lineage)
	}
	slices.Sort(ids)
	var first []keys.Key
	if first, err = r.s.o.Books.KeysByID(r.ctx, slices.Compact(ids)); err != nil {
		return nil, nil, err
	}
	created = make(map[string]time.Time)
	for i := range first {
		created[first[i].ID] = first[i].CreatedAt
	}
	return known, created, nil
}

// toolRoom returns how many more tools of a lineage can be remembered.
func (r *step) toolRoom(lineage string) (room int64, err error) {
	err = r.s.store.View(r.ctx, func(tx Tx) error {
		n, err := tx.CountStates(Tool, subject(lineage, ""), maxTools)
		room = maxTools - n
		return err
	})
	return max(room, 0), err
}

// learnAll learns the tools of those lineages that are judged for the first time, at
// most learnMost of them. If there are more, it sets r.learning: this step judges no
// tools, the cursor does not move, and the next step learns further lineages. So a step
// with many new lineages cannot delay the alerts about money.
func (r *step) learnAll(tools []ledger.MovedTool) error {
	var names []string
	lineages := make(map[string]ledger.Lineage)
	for _, t := range tools {
		if _, seen := lineages[t.Lineage.Lineage]; !seen {
			lineages[t.Lineage.Lineage] = t.Lineage
			names = append(names, t.Lineage.Lineage)
		}
	}
	slices.Sort(names)
	known, err := r.states(Tool, names)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, ok := known[name]; return ok })
	if len(names) > learnMost {
		r.learning, names = true, names[:learnMost]
	}
	for _, name := range names {
		if err := r.learn(lineages[name]); err != nil {
			return err
		}
	}
	return nil
}

// learn remembers the tools that a lineage paid for before today. It writes the state
// with the subject of the lineage itself last. This state marks the lineage as learned,
// so after a failure the tools are learned again.
func (r *step) learn(l ledger.Lineage) error {
	room, err := r.toolRoom(l.Lineage)
	if err != nil {
		return err
	}
	found, err := r.history(l, int(room))
	if err != nil {
		return err
	}
	states := make([]State, 0, len(found)+1)
	for _, sub := range append(found, l.Lineage) {
		states = append(states, State{Kind: Tool, Subject: sub, At: r.now})
	}
	for part := range slices.Chunk(states, writeMost) {
		err := r.s.store.Change(r.ctx, func(tx Tx) error {
			for i := range part {
				if err := tx.PutState(part[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// history returns the subjects of at most room tools that a lineage paid for before
// today.
func (r *step) history(l ledger.Lineage, room int) (found []string, err error) {
	today := r.now.UTC().Truncate(24 * time.Hour)
	month := time.Date(today.Year(), today.Month(), 1, 0, 0, 0, 0, time.UTC)
	seen := make(map[string]bool)
	for _, q := range []ledger.UsageQuery{{By: ledger.ByDay, Since: month, Until: today}, {By: ledger.ByMonth, Until: month}} {
		if q.Since.Equal(q.Until) {
			continue // today is the first day of the month
		}
		q.Account, q.Key, q.Group = l.Account, l.Lineage, ledger.GroupTool
		for range maxHistory {
			report, err := r.s.o.Books.UsageReport(r.ctx, q)
			if err != nil {
				return nil, err
			}
			for i := range report.Rows {
				sub := toolSubject(ledger.MovedTool{Lineage: l, Server: report.Rows[i].Server, Tool: report.Rows[i].Tool})
				if len(found) >= room {
					return found, nil
				}
				if !seen[sub] {
					seen[sub] = true
					found = append(found, sub)
				}
			}
			if q.After = report.Next; q.After == "" {
				break
			}
		}
	}
	return found, nil
}
