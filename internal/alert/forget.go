package alert

import (
	"context"
	"maps"
	"slices"
	"strings"
)

const (
	// forgetMost is the number of states that are read at once.
	forgetMost = 1000
	// forgetParts bounds how often one call of Service.forget reads states. Each call
	// continues where the previous one stopped.
	forgetParts = 10
	// maxRotations bounds the number of rotations that are followed from the first
	// key of a lineage to its last.
	maxRotations = 100
)

// place is the place that Service.forget has reached in its walk through the states.
type place struct {
	kind  int // an index of remembering
	after string
}

// remembering has the kinds with states for the tools and networks that a lineage has
// used. Such a state is kept until all keys of the lineage are deleted.
var remembering = [...]Kind{Tool, Network}

// forget deletes the states of lineages that have no keys left. Each call walks through
// some of the states, and the next call continues from there.
func (s *Service) forget(ctx context.Context) error {
	for range forgetParts {
		kind := remembering[s.forgotten.kind]
		var subjects []string
		err := s.store.View(ctx, func(tx Tx) (err error) {
			subjects, err = tx.Subjects(kind, s.forgotten.after, forgetMost)
			return err
		})
		if err != nil {
			return err
		}
		if err := s.forgetSome(ctx, kind, subjects); err != nil {
			return err
		}
		if len(subjects) == forgetMost {
			s.forgotten.after = subjects[forgetMost-1]
			continue
		}
		s.forgotten = place{kind: (s.forgotten.kind + 1) % len(remembering)}
		if s.forgotten.kind == 0 {
			return nil // the walk has reached the end of the last kind
		}
	}
	return nil
}

// forgetSome deletes the states of one kind that belong to ended lineages. It considers
// only the lineages that occur in subjects.
func (s *Service) forgetSome(ctx context.Context, kind Kind, subjects []string) error {
	lineages := make([]string, len(subjects))
	for i, sub := range subjects {
		lineages[i], _, _ = strings.Cut(sub, "\n")
	}
	ended, err := s.ended(ctx, slices.Compact(lineages))
	for _, lineage := range ended {
		if err != nil {
			return err
		}
		err = s.store.Change(ctx, func(tx Tx) error { return tx.DeleteStates(kind, lineage) })
	}
	return err
}

// ended returns the lineages in which the last key is deleted. A lineage is the id of
// its first key. The last key is found through the successors of rotated keys.
func (s *Service) ended(ctx context.Context, lineages []string) (list []string, err error) {
	of := make(map[string]string, len(lineages)) // lineages by the id of the key that is looked at next
	for _, l := range lineages {
		of[l] = l
	}
	for range maxRotations {
		if len(of) == 0 {
			break
		}
		found, err := s.o.Books.KeysByID(ctx, slices.Sorted(maps.Keys(of)))
		if err != nil {
			return nil, err
		}
		next := make(map[string]string)
		for i := range found {
			k := &found[i]
			switch over := !k.DeletedAt.IsZero() || !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(s.o.Now()); {
			case over && k.Successor != "":
				next[k.Successor] = of[k.ID]
			case !k.DeletedAt.IsZero():
				list = append(list, of[k.ID])
			}
		}
		of = next
	}
	return list, nil
}
