// Package auditlog writes audit records into Caddy's log, in addition to the audit log
// in the store.
package auditlog

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Name is the last part of the logger's name, farebox.audit.
const Name = "audit"

// Log writes audit records with the logger of the newest config. A store can outlive
// the config that has opened it. The log files of that config may be closed by then, so
// Log changes to the logger of a newer config. The zero Log has no logger and writes
// nothing. A Log is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	loggers []*zap.Logger // the loggers of the running configs, the newest last
}

// Use makes Log write with the logger, until the returned function is called. After
// that, Log writes with the newest of the loggers that are still in use. The returned
// function may be called more than once.
func (l *Log) Use(logger *zap.Logger) (end func()) {
	logger = logger.Named(Name)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loggers = append(l.loggers, logger)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.loggers = slices.DeleteFunc(l.loggers, func(other *zap.Logger) bool { return other == logger })
	}
}

// newest returns the logger of the newest config, or nil.
func (l *Log) newest() *zap.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.loggers) == 0 {
		return nil
	}
	return l.loggers[len(l.loggers)-1]
}

// Write writes a record, with the fields that the audit log has in the API.
func (l *Log) Write(a ledger.Audit) {
	logger := l.newest()
	if logger == nil {
		return
	}
	detail := json.RawMessage(a.Detail)
	if !json.Valid(detail) {
		detail = json.RawMessage("{}")
	}
	logger.Info("an audit record was written", zap.String("at", a.At.UTC().Format(time.RFC3339Nano)), zap.String("actor", a.Actor), zap.String("from", a.From),
		zap.String("action", a.Action), zap.String("target", a.Target), zap.Reflect("detail", detail))
}
