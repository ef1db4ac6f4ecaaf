package stdiotest

import (
	"bytes"
	"sync"
)

// Log collects text that several goroutines write. It is safe for concurrent use. The zero
// Log is empty.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends to the text. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the text that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
