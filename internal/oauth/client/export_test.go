package client

// NewMemory returns a Store in memory.
func NewMemory() Store { return newMemory() }
