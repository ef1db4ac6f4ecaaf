package ledger

// Earner is the account that earns at a server, with the operator's share of each
// charge.
type Earner struct {
	Provider string // id of the account that earns
	Fee      Share  // the operator's share
	FeeTo    string // id of the operator's account; "" without a fee
}

// Order returns the order with the server's provider and fee filled in.
func (e *Earner) Order(o Order) Order {
	o.Provider = e.Provider
	if o.Amount > 0 {
		o.Fee = e.Fee.Of(o.Amount)
	}
	if o.Fee > 0 {
		o.FeeTo = e.FeeTo
	}
	return o
}

// CapsOf returns the caps with the given amounts, in micro-units.
func CapsOf(call, day, month int64) Caps {
	return Caps{Call: Amount(call), Day: Amount(day), Month: Amount(month)}
}
