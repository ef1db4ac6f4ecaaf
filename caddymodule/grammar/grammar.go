// Package grammar reads blocks and arguments of a Caddyfile. Its errors say which
// word is wrong, on which line, and which words the grammar has instead.
package grammar

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Parser reads the arguments and the block of one subdirective. The dispenser
// stands on the subdirective's name.
type Parser = func(d *caddyfile.Dispenser) error

// Subdirectives maps the names of subdirectives to their parsers.
type Subdirectives map[string]Parser

// Block reads a block of subdirectives. Each may stand once, except for the
// repeatable ones. Errors name the directive as of.
func Block(d *caddyfile.Dispenser, of string, allowed Subdirectives, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := allowed[name]
		if !ok {
			return d.Errf("%s has no subdirective %q; it has: %s", of, name, strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
		}
		if seen[name] && !slices.Contains(repeatable, name) {
			return d.Errf("%s: %s is given twice", of, name)
		}
		seen[name] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

// Arg reads a subdirective's only argument, which is not empty.
func Arg(d *caddyfile.Dispenser, into *string) error {
	name := d.Val()
	if !d.Args(into) || d.NextArg() || *into == "" {
		return d.Errf("%s: want exactly one argument", name)
	}
	return nil
}

// Text returns a parser of one argument.
func Text(into *string) Parser {
	return func(d *caddyfile.Dispenser) error { return Arg(d, into) }
}

// Checked returns a parser of one argument that has to pass a check.
func Checked(into *string, check func(string) error) Parser {
	return func(d *caddyfile.Dispenser) error {
		if err := Arg(d, into); err != nil {
			return err
		}
		if err := check(*into); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// Args reads a subdirective's arguments, of which there is at least one, and
// appends them.
func Args(d *caddyfile.Dispenser, into *[]string) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s: want one argument or more", name)
	}
	*into = append(*into, args...)
	return nil
}

// Texts returns a parser of one argument or more.
func Texts(into *[]string) Parser {
	return func(d *caddyfile.Dispenser) error { return Args(d, into) }
}

// Duration returns a parser of a duration above zero and of at most a year.
func Duration(into *caddy.Duration) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := Arg(d, &text); err != nil {
			return err
		}
		parsed, err := caddy.ParseDuration(text)
		if err != nil || parsed <= 0 || parsed > 365*24*time.Hour {
			return d.Errf("%s: want a time, such as 60s, 5m or 1h, not %q", name, text)
		}
		*into = caddy.Duration(parsed)
		return nil
	}
}

// Switch returns a parser of on or off.
func Switch(into *bool) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := Arg(d, &text); err != nil {
			return err
		}
		if text != "on" && text != "off" {
			return d.Errf("%s: want on or off, not %q", name, text)
		}
		*into = text == "on"
		return nil
	}
}

// Number returns a parser of a whole number above zero.
func Number(into *int64) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := Arg(d, &text); err != nil {
			return err
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return d.Errf("%s: want a number above zero, not %q", name, text)
		}
		*into = n
		return nil
	}
}

// Size returns a parser of a number of bytes from 1 to 1 PiB, such as 256MiB.
func Size(into *int64) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := Arg(d, &text); err != nil {
			return err
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n == 0 || n > 1<<50 {
			return d.Errf("%s: want a size, such as 256MiB, not %q", name, text)
		}
		*into = int64(n)
		return nil
	}
}

// Place returns where the current token stands, as FILE:LINE.
func Place(d *caddyfile.Dispenser) string { return d.File() + ":" + strconv.Itoa(d.Line()) }
