package ledger

// Lineage is a lineage of keys of one account.
type Lineage struct {
	Account string // id of the account
	Lineage string
}

// MovedTool is a tool that a lineage has paid for.
type MovedTool struct {
	Lineage
	Server string
	Tool   string // as in Order
}

// Moved summarizes the transactions of live credits in a part of the journal. Each list
// has an entry only once. Entries are in the order of their first transactions.
type Moved struct {
	Last     int64    // number of the last transaction in the part; if the part is empty, the number from the query
	More     bool     // more transactions may follow
	Accounts []string // ids of the accounts with a changed balance, except system accounts
	// Keys maps each charged lineage to the id of the lineage's latest key.
	Keys  map[Lineage]string
	Tools []MovedTool // the tools that were paid for; calls under a free quota do not count
}

// Move has the data of one transaction that Moves needs.
type Move struct {
	Seq              int64
	Charge           bool
	Paid             bool   // whether the transaction is a charge that was not paid by a free quota
	Debtor, Creditor string // ids; "" for system accounts and for transactions of test credits
	Key, Lineage     string // set for a charge, like Server and Tool
	Server, Tool     string
}

// Moves collects a Moved.
type Moves struct {
	m        Moved
	accounts map[string]struct{}
	tools    map[MovedTool]struct{}
}

// NewMoves returns an empty collection for the transactions with numbers greater than
// after.
func NewMoves(after int64) *Moves {
	return &Moves{Moved{Last: after, Keys: make(map[Lineage]string)}, make(map[string]struct{}), make(map[MovedTool]struct{})}
}

// Add adds a transaction. Call Add in the order of the transactions.
func (c *Moves) Add(t *Move) {
	c.m.Last = t.Seq
	for _, id := range [...]string{t.Debtor, t.Creditor} {
		if _, known := c.accounts[id]; id != "" && !known {
			c.accounts[id] = struct{}{}
			c.m.Accounts = append(c.m.Accounts, id)
		}
	}
	if !t.Charge || t.Debtor == "" {
		return
	}
	l := Lineage{t.Debtor, t.Lineage}
	c.m.Keys[l] = t.Key
	if tool := (MovedTool{l, t.Server, t.Tool}); t.Paid {
		if _, known := c.tools[tool]; !known {
			c.tools[tool] = struct{}{}
			c.m.Tools = append(c.m.Tools, tool)
		}
	}
}

// Moved returns the collection so far. No transaction may be added afterwards.
func (c *Moves) Moved() Moved { return c.m }
