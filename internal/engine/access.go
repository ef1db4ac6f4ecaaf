package engine

import (
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Store returns the open store, for users other than gates. The caller must hold a
// reference to the runtime; see Acquire.
func (r *Runtime) Store() Store { return r.store }

// Signer returns the signer of receipts.
func (r *Runtime) Signer() *ledger.Signer { return r.signer }

// Sealer returns the sealer of session ids and event ids. Processes with the same
// sealing keys accept each other's seals.
func (r *Runtime) Sealer() *gate.Sealer { return r.sealer }
