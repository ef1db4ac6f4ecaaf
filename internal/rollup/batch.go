package rollup

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// KeyName identifies a lineage of keys by the number of its account and the lineage's
// name.
type KeyName struct {
	Account int64
	Lineage string
}

// Numbered is a name with the number that stands for the name in the sums. Names are
// numbered from 1, in the order in which they first appear in the journal. The
// number of a name never changes.
type Numbered[N comparable] struct {
	N    int64
	Name N
}

// Numbers maps names to their numbers, and assigns numbers to new names. It is not safe
// for concurrent use.
type Numbers struct {
	keys     map[KeyName]int64
	names    map[string]int64
	lastKey  int64
	lastName int64
	// NewKeys and NewNames are the names that were given a number here, because the
	// store has no number for them.
	NewKeys  []Numbered[KeyName]
	NewNames []Numbered[string]
}

// NewNumbers returns Numbers without names. New lineages are numbered after lastKey,
// and new servers and tools after lastName; these are the last numbers that the store
// has assigned. The caller must add the names that the store has already numbered, for
// example with Load.
func NewNumbers(lastKey, lastName int64) *Numbers {
	return &Numbers{keys: map[KeyName]int64{}, names: map[string]int64{}, lastKey: lastKey, lastName: lastName}
}

// Missing returns the names in the transactions that have no number yet.
func (n *Numbers) Missing(list []Transaction) (keys []KeyName, names []string) {
	seenKeys, seenNames := map[KeyName]bool{}, map[string]bool{}
	for i := range list {
		t := &list[i]
		if t.Kind == Other {
			continue
		}
		k := KeyName{t.Account, t.Lineage}
		if n.keys[k] == 0 && !seenKeys[k] {
			seenKeys[k] = true
			keys = append(keys, k)
		}
		for _, name := range [...]string{t.Server, t.Tool} {
			if n.names[name] == 0 && !seenNames[name] {
				seenNames[name] = true
				names = append(names, name)
			}
		}
	}
	return keys, names
}

// AddKey adds the number that the store has assigned to a lineage.
func (n *Numbers) AddKey(name KeyName, number int64) { n.keys[name] = number }

// AddName adds the number that the store has assigned to a server or tool.
func (n *Numbers) AddName(name string, number int64) { n.names[name] = number }

// place returns the numbers that identify the transaction's account, provider, lineage,
// server and tool. It assigns numbers to new names.
func (n *Numbers) place(t *Transaction) place {
	return place{account: t.Account, provider: t.Provider, key: n.key(KeyName{t.Account, t.Lineage}), server: n.name(t.Server), tool: n.name(t.Tool)}
}

func (n *Numbers) key(name KeyName) int64 {
	number := n.keys[name]
	if number == 0 {
		n.lastKey++
		number = n.lastKey
		n.keys[name] = number
		n.NewKeys = append(n.NewKeys, Numbered[KeyName]{number, name})
	}
	return number
}

func (n *Numbers) name(name string) int64 {
	number := n.names[name]
	if number == 0 {
		n.lastName++
		number = n.lastName
		n.names[name] = number
		n.NewNames = append(n.NewNames, Numbered[string]{number, name})
	}
	return number
}

// Row is a stored row of the sums, or the amounts to add to a stored row.
type Row struct {
	Key
	ledger.UsageSums
}

// Batch collects the amounts that some transactions of the journal add to the sums.
type Batch struct {
	Last   int64 // the number of the last transaction in the batch
	LastAt int64 // the time of that transaction, in microseconds since 1970
	Count  int64 // number of transactions in the batch
	// Numbers has the numbers of all names in the batch.
	Numbers *Numbers

	maxRows int
	finest  map[finestKey]*finestSums
	rows    map[Key]*ledger.UsageSums
}

// finestKey identifies transactions that change the same rows of the sums.
type finestKey struct {
	hour int64
	test bool
	place
}

// finestSums has the sums of all transactions with the same finestKey, and pointers to
// the rows that these transactions change.
type finestSums struct {
	ledger.UsageSums
	rows []*ledger.UsageSums
}

// NewBatch returns an empty batch. The batch is full when it changes about maxRows
// rows of the sums.
func NewBatch(state *State, maxRows int) *Batch {
	return &Batch{
		Last: state.Cursor, LastAt: state.CursorAt, Numbers: NewNumbers(state.LastKey, state.LastName),
		maxRows: maxRows, finest: map[finestKey]*finestSums{}, rows: map[Key]*ledger.UsageSums{},
	}
}

// Fill adds the transactions after the cursor to the batch, in order. It stops after
// the transaction numbered end, when the batch is full, or when the batch has at least
// maxCount transactions. Fill reads few transactions at first and then increasingly
// many, because the first few may already fill the batch.
func (b *Batch) Fill(ctx context.Context, r Reader, end int64, maxCount int64) error {
	for step := firstStep; b.Count < maxCount; step *= 2 {
		list, err := r.Journal(ctx, b.Last, step)
		if err != nil {
			return err
		}
		for len(list) > 0 && list[len(list)-1].Seq > end {
			list = list[:len(list)-1]
		}
		if len(list) == 0 {
			return nil
		}
		if err := Load(ctx, r, b.Numbers, list); err != nil {
			return err
		}
		for i := range list {
			if b.full() {
				return nil
			}
			b.add(&list[i])
		}
		if len(list) < step {
			return nil
		}
	}
	return nil
}

// firstStep is the number of transactions that Fill reads first.
const firstStep = 64

// full reports whether one more transaction could make the batch exceed maxRows.
func (b *Batch) full() bool { return b.Count > 0 && len(b.rows)+rowsPerCharge > b.maxRows }

// rowsPerCharge is the greatest number of rows that a transaction can change.
var rowsPerCharge = func() (n int) {
	eachKey(0, false, new(place), func(*projection, period, Key) { n++ })
	return n
}()

func (b *Batch) add(t *Transaction) {
	b.Last, b.LastAt, b.Count = t.Seq, t.At, b.Count+1
	if t.Kind != Other {
		b.count(t)
	}
}

// count adds the figures of a transaction to the rows that the transaction changes.
func (b *Batch) count(t *Transaction) {
	k := finestKey{hours.bucketOf(t.At), t.Test, b.Numbers.place(t)}
	f := b.finest[k]
	if f == nil {
		f = &finestSums{rows: make([]*ledger.UsageSums, 0, rowsPerCharge)}
		b.finest[k] = f
		eachKey(t.At, t.Test, &k.place, func(_ *projection, _ period, k Key) {
			s := b.rows[k]
			if s == nil {
				s = new(ledger.UsageSums)
				b.rows[k] = s
			}
			f.rows = append(f.rows, s)
		})
	}
	more := t.sums()
	f.Add(&more)
}

// CallsOf converts a count of calls to a Transaction of the kind Uncharged. The
// Transaction has the given numbers for the count's two accounts.
func CallsOf(c *ledger.CallCount, account, provider int64) Transaction {
	return Transaction{
		Kind: Uncharged, At: c.At.UnixMicro(), Test: c.Test, Account: account, Provider: provider,
		Lineage: c.Lineage, Server: c.Server, Tool: c.Tool, Refused: c.Refused, Failed: c.Failed,
	}
}

// CallBatch returns a batch that adds refused and failed calls to the sums. Each
// transaction in the list is of the kind Uncharged, and stands for calls within one
// hour that have the same account, key, server and tool. The batch does not move the
// cursor. The new numbers in the batch are valid only if the store has assigned no
// numbers since the state was read.
func CallBatch(ctx context.Context, r Reader, state *State, list []Transaction) (*Batch, error) {
	b := NewBatch(state, math.MaxInt)
	if err := Load(ctx, r, b.Numbers, list); err != nil {
		return nil, err
	}
	for i := range list {
		b.count(&list[i])
	}
	return b, nil
}

// Rows completes the batch and returns the amounts to add to the sums. The amounts are
// in the order in which rows are stored, because a store writes rows fastest in this
// order.
func (b *Batch) Rows() []Row {
	for _, f := range b.finest {
		for _, s := range f.rows {
			s.Add(&f.UsageSums)
		}
	}
	clear(b.finest)
	list := make([]Row, 0, len(b.rows))
	for k, s := range b.rows {
		list = append(list, Row{k, *s})
	}
	slices.SortFunc(list, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.View, b.View), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Bucket, b.Bucket),
			cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y), cmp.Compare(a.Z, b.Z))
	})
	return list
}
