package rollup

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Verifier compares the sums with the journal. It does not rebuild the sums, which
// could need more memory than there is. For each period of each view it keeps two
// checksums: one over the stored rows, and one over the rows that are computed from the
// journal. A checksum is the sum of all figures, modulo 2^64, each multiplied by a
// factor. The factor is derived from the row's key and a random seed. Equal rows have
// equal checksums. Different rows have equal checksums with a probability of about
// 2^-64.
//
// A Verifier is not safe for concurrent use.
type Verifier struct {
	seed    maphash.Seed
	states  map[int64]State // by view: the state of the sums when the rows of the view were read
	cells   map[cell]*checks
	keys    map[int64]uint64 // hashes of lineages, by number
	names   map[int64]uint64
	LastKey int64 // the greatest number that AddKey was called with
	// LastName is the greatest number that AddName was called with.
	LastName int64
}

// cell identifies a period of a view.
type cell struct{ view, bucket int64 }

// checks are the checksums of a cell.
type checks struct {
	stored, journal uint64
	plain           uint64 // like stored, but with factors that do not depend on the keys of the rows
	full            bool   // whether a stored figure has the maximum value, so that the true sum may be greater
}

// NewVerifier returns a Verifier without rows.
func NewVerifier() *Verifier {
	return &Verifier{
		seed: maphash.MakeSeed(), states: map[int64]State{}, cells: map[cell]*checks{}, keys: map[int64]uint64{}, names: map[int64]uint64{},
	}
}

// Views returns the numbers of all views. For each view, the caller must read its rows
// from one snapshot. From the same snapshot, the caller must read the State, and all
// names that are new since the previous view.
func Views() (all []int64) {
	for _, p := range projections {
		for _, by := range [...]period{hours, days, months} {
			if by != hours || p.hours {
				all = append(all, viewOf(p, by, false), viewOf(p, by, true))
			}
		}
	}
	return all
}

// AddKey adds a lineage and its number.
func (v *Verifier) AddKey(k Numbered[KeyName]) {
	v.keys[k.N], v.LastKey = v.hashKey(k.Name), max(v.LastKey, k.N)
}

// AddName adds a server or tool and its number.
func (v *Verifier) AddName(n Numbered[string]) {
	v.names[n.N], v.LastName = maphash.String(v.seed, n.Name), max(v.LastName, n.N)
}

func (v *Verifier) hashKey(k KeyName) uint64 {
	return mix(maphash.String(v.seed, k.Lineage) + uint64(k.Account))
}

// Begin records the state of the sums in the snapshot from which the rows of the view
// are read.
func (v *Verifier) Begin(view int64, s State) { v.states[view] = s }

// Stored adds a stored row to the checksums.
func (v *Verifier) Stored(r *Row) {
	p := projectionOf(r.View)
	if p == nil {
		return // a later version of Farebox may have more projections
	}
	c := v.cell(cell{r.View, r.Bucket})
	var hashes [4]uint64
	for i, n := range [...]int64{r.Subject, r.X, r.Y, r.Z} {
		hashes[i] = v.hashOf(p.dims()[i], n)
	}
	c.stored += v.check(v.factor(r.View, r.Bucket, &hashes), &r.UsageSums)
	c.plain += v.check(0, &r.UsageSums)
	for _, n := range figures(&r.UsageSums) {
		c.full = c.full || n == math.MaxInt64
	}
}

// hashOf returns the hash of the name that has the number n in the dimension d.
func (v *Verifier) hashOf(d dim, n int64) uint64 {
	switch d {
	case key:
		return v.keys[n]
	case server, tool:
		return v.names[n]
	}
	return uint64(n)
}

// Transaction adds a transaction of the journal to the checksums.
func (v *Verifier) Transaction(t *Transaction) {
	if t.Kind == Other {
		return
	}
	more := t.sums()
	hashes := [...]uint64{
		account: uint64(t.Account), provider: uint64(t.Provider), key: v.hashKey(KeyName{t.Account, t.Lineage}),
		server: maphash.String(v.seed, t.Server), tool: maphash.String(v.seed, t.Tool),
	}
	eachKey(t.At, t.Test, new(place), func(p *projection, _ period, k Key) {
		if t.Seq > v.states[k.View].Cursor {
			return
		}
		var of [4]uint64
		for i, d := range p.dims() {
			of[i] = hashes[d]
		}
		v.cell(cell{k.View, k.Bucket}).journal += v.check(v.factor(k.View, k.Bucket, &of), &more)
	})
}

func (v *Verifier) cell(of cell) *checks {
	c := v.cells[of]
	if c == nil {
		c = new(checks)
		v.cells[of] = c
	}
	return c
}

func (v *Verifier) factor(view, bucket int64, hashes *[4]uint64) uint64 {
	h := mix(uint64(view)<<48 ^ uint64(bucket))
	for _, x := range hashes {
		h = mix(h ^ x)
	}
	return h
}

// check returns the sum of the figures, each multiplied by a number. That number is
// derived from factor and the index of the figure.
func (v *Verifier) check(factor uint64, s *ledger.UsageSums) (sum uint64) {
	for i, n := range figures(s) {
		if n != 0 {
			sum += uint64(n) * mix(factor+uint64(i)+1)
		}
	}
	return sum
}

func figures(s *ledger.UsageSums) [7]int64 {
	return [...]int64{s.Calls, s.Free, int64(s.Charged), s.RefundCount, int64(s.Refunded), int64(s.Fee), int64(s.FeeReturned)}
}

// mix is the finalizer of SplitMix64, which is a bijection. For similar arguments, it
// returns results that look unrelated.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// projectionOf returns the projection of a view, or nil if this version of the program
// does not know the view.
func projectionOf(view int64) *projection {
	for _, p := range projections {
		if p.id == view>>3 {
			return p
		}
	}
	return nil
}

// Differences returns a sentence for each period of each view in which the stored rows
// differ from those computed from the journal. A period that began before the end of
// the archive cannot be compared with the journal. In such a period, the sums of each
// projection must add up to the sums of all charges.
func (v *Verifier) Differences() []string {
	var found []cell
	archived := map[cell]bool{}
	for of, c := range v.cells {
		s, by := v.states[of.view], period(of.view>>1&3)
		begin := by.begin(of.bucket).UnixMicro()
		switch {
		case c.full, by == hours && s.HoursFrom != 0 && begin < s.HoursFrom:
		case s.Archived != 0 && begin <= s.Archived:
			whole := v.cells[cell{viewOf(totals, by, of.view&1 == 1), of.bucket}]
			if whole == nil || !whole.full && whole.plain != c.plain {
				archived[of] = true
				found = append(found, of)
			}
		case c.stored != c.journal:
			found = append(found, of)
		}
	}
	slices.SortFunc(found, func(a, b cell) int { return cmp.Or(cmp.Compare(a.view, b.view), cmp.Compare(a.bucket, b.bucket)) })
	var list []string
	for _, of := range found {
		by := period(of.view >> 1 & 3)
		what := [...]string{hours: "hour", days: "day", months: "month"}[by]
		environment := [...]string{"live", "test"}[of.view&1]
		at := strings.TrimSuffix(by.begin(of.bucket).Format("2006-01-02T15:04"), "T00:00")
		if archived[of] {
			list = append(list, fmt.Sprintf("usage of %s (%s) in the %s that began %s: its sums do not add up to those of all charges", projectionOf(of.view).name, environment, what, at))
			continue
		}
		list = append(list, fmt.Sprintf("usage of %s (%s) in the %s that began %s: the sums are not those that the journal gives", projectionOf(of.view).name, environment, what, at))
	}
	return list
}
