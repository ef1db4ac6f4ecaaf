package keycache

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/keys"
)

// TestEntryIsAFaithfulCopy: the key in an entry equals the original key.
func TestEntryIsAFaithfulCopy(t *testing.T) {
	text := rapid.String()
	list := rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(text, 0, 5))
	when := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "never") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "seconds"), 0).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		key := &keys.Key{
			ID:          text.Draw(t, "id"),
			Account:     text.Draw(t, "account"),
			Lineage:     text.Draw(t, "lineage"),
			Kind:        keys.Kind(rapid.Byte().Draw(t, "kind")),
			Environment: rapid.SampledFrom([]keys.Environment{"", "live", "test", "other"}).Draw(t, "environment"),
			Name:        text.Draw(t, "name"),
			Hint:        text.Draw(t, "hint"),
			Digest:      digestOf(rapid.Int().Draw(t, "digest")),
			Scopes:      list.Draw(t, "scopes"),
			Servers:     list.Draw(t, "servers"),
			CreatedAt:   when.Draw(t, "created"),
			ExpiresAt:   when.Draw(t, "expires"),
			DisabledAt:  when.Draw(t, "disabled"),
			DeletedAt:   when.Draw(t, "deleted"),
			LastUsedAt:  when.Draw(t, "used"),
		}
		if rapid.Bool().Draw(t, "limited") {
			key.Limits = &keys.Limits{Day: rapid.Int64().Draw(t, "day cap")}
		}
		if rapid.Bool().Draw(t, "proved") {
			proof := text.Draw(t, "proof")
			key.Proof = &proof
		}
		if rapid.Bool().Draw(t, "first of its chain") {
			key.Lineage = key.ID
		}
		if got := newEntry(key, stamp{}); !reflect.DeepEqual(&got.key, key) {
			t.Fatalf("copy %+v of %+v", got.key, *key)
		}
	})
}

// TestEntryHasEveryField fails when keys.Key gets another field, as a reminder to
// revise newEntry and TestEntryIsAFaithfulCopy.
func TestEntryHasEveryField(t *testing.T) {
	if n := reflect.TypeFor[keys.Key]().NumField(); n != 18 {
		t.Errorf("keys.Key has %d fields, not 18: see what newEntry must do with the new ones", n)
	}
}

// TestCachedKeyIsOutOfTheOriginsReach: if the origin later changes the key that it
// returned, or the key's lists, the cached key stays the same.
func TestCachedKeyIsOutOfTheOriginsReach(t *testing.T) {
	origin, mine := newOrigin(), realistic(1)
	cache := newCache(t, origin, Options{})
	got := mustLookup(t, cache, origin.add(mine))
	mine.DeletedAt, mine.Scopes[0] = raceTime, "admin"
	want := realistic(1)
	for _, got := range []*keys.Key{got, mustLookup(t, cache, mine.Digest)} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("cached %+v, want %+v", got, want)
		}
	}
}

// TestListsDoNotGrowIntoEachOther: appending to the scopes of a cached key does not
// overwrite its servers. (Callers must not append, but if one does, the damage is
// limited.)
func TestListsDoNotGrowIntoEachOther(t *testing.T) {
	e := newEntry(&keys.Key{Scopes: []string{"a"}, Servers: []string{"weather"}}, stamp{})
	_ = append(e.key.Scopes, "b")
	if e.key.Servers[0] != "weather" {
		t.Error("servers were overwritten")
	}
}
