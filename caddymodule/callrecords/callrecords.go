// Package callrecords reads the option call_records.
package callrecords

import (
	"cmp"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/callrecord"
)

// Config has the settings for the records of calls that charged nothing. See
// docs/calls.md.
type Config struct {
	// Keep no records. Records that were kept before are deleted when they are 30 days
	// old.
	Off bool `json:"off,omitempty"`

	// How long records are kept. Default: 30d.
	Keep caddy.Duration `json:"keep,omitempty"`

	// Keep records of free calls, too, and not only of those that were refused or failed.
	Free bool `json:"free,omitempty"`

	// The number of records beyond which the oldest ones are deleted. Default: 1000000.
	Most int64 `json:"most,omitempty"`
}

// Parse returns a function that reads the option and stores it in *into:
//
//	call_records off|[<keep>] [{
//	    free on|off
//	    most <number>
//	}]
func Parse(into **Config) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		*into = new(Config)
		return (*into).parse(d)
	}
}

func (c *Config) parse(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() == "off" {
			c.Off = true
			if d.NextArg() || d.NextBlock(d.Nesting()) {
				return d.Errf("call_records off takes nothing more, not %q", d.Val())
			}
			return nil
		}
		keep, err := caddy.ParseDuration(d.Val())
		if err != nil || keep < time.Hour || keep > maxRecordsKept {
			return d.Errf("call_records: want off, or a time from 1h to 3650d for which records are kept, not %q", d.Val())
		}
		c.Keep = caddy.Duration(keep)
		if d.NextArg() {
			return d.Errf("call_records takes one argument, not %q too", d.Val())
		}
	}
	return grammar.Block(d, "call_records", grammar.Subdirectives{"free": grammar.Switch(&c.Free), "most": grammar.Number(&c.Most)})
}

// maxRecordsKept bounds the time for which records are kept.
const maxRecordsKept = 3650 * 24 * time.Hour

// Check returns an error if the settings contradict each other or are out of bounds. A
// nil Config is valid.
func (c *Config) Check() error {
	switch {
	case c == nil:
		return nil
	case c.Keep < 0 || c.Keep > caddy.Duration(maxRecordsKept) || c.Most < 0:
		return errors.New("call_records: keep and most cannot be below zero, and keep not above 3650d")
	case c.Off && (c.Keep != 0 || c.Free || c.Most != 0):
		return errors.New("call_records: off contradicts the other settings")
	}
	return nil
}

// Settings returns the settings for a runtime. For a nil Config, they are the defaults.
func (c *Config) Settings() callrecord.Settings {
	if c == nil {
		c = new(Config)
	}
	if c.Off {
		return callrecord.Settings{}
	}
	return callrecord.Settings{
		Keep: cmp.Or(time.Duration(c.Keep), callrecord.DefaultKeep), Free: c.Free, Most: cmp.Or(c.Most, callrecord.DefaultMost),
	}
}
