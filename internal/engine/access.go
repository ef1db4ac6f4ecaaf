package engine

import (
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Store returns the open store, for what works on it beside the gates. Its use
// needs a lease.
func (r *Runtime) Store() Store { return r.store }

// Signer returns what signs receipts.
func (r *Runtime) Signer() *ledger.Signer { return r.signer }

// Sealer returns what authenticates what is given out, to this process and to
// all that share its sealing keys.
func (r *Runtime) Sealer() *gate.Sealer { return r.sealer }
