package ledger

// Earner says who earns at a server, and which share of each charge the operator
// keeps.
type Earner struct {
	Provider string // id of the account that earns
	Fee      Share  // for the account FeeTo
	FeeTo    string // id of the operator's account; "" without a fee
}

// Order returns the order with the provider and the fee that its server implies.
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

// CapsOf returns the caps with these amounts, in micro-units.
func CapsOf(call, day, month int64) Caps {
	return Caps{Call: Amount(call), Day: Amount(day), Month: Amount(month)}
}
