// Package grammar reads the blocks and arguments of a Caddyfile. Its errors name the
// wrong word, its line, and the words that are allowed there.
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

// Parser reads the arguments and the block of one subdirective. When it is called,
// the dispenser's current token is the name of the subdirective.
type Parser = func(d *caddyfile.Dispenser) error

// Subdirectives maps the names of subdirectives to their parsers.
type Subdirectives map[string]Parser

// Block reads a block of subdirectives. Subdirectives in the list repeatable may appear
// any number of times, and all others only once. The second parameter, named "of", is
// the name of the directive, with which the errors of Block begin.
func Block(d *caddyfile.Dispenser, of string, allowed Subdirectives, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := allowed[name]
		if !ok {
			return unknown(d, of, name, slices.Sorted(maps.Keys(allowed)))
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

// unknown returns the error for a subdirective that the block does not have. It
// suggests the most similar subdirective that the block has, if one is similar enough.
func unknown(d *caddyfile.Dispenser, of, name string, known []string) error {
	if len(known) == 0 {
		return d.Errf("%s has no subdirectives, not %q", of, name)
	}
	like := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, like) <= len(name)/3 {
		return d.Errf("%s has no subdirective %q; did you mean %q? It has: %s", of, name, like, strings.Join(known, ", "))
	}
	return d.Errf("%s has no subdirective %q; it has: %s", of, name, strings.Join(known, ", "))
}

// distance returns how many bytes must be inserted, deleted or replaced to turn the
// text a into the text b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1, diagonal)
			if a[i] != b[j] {
				next = min(row[j]+1, row[j+1]+1, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// Arg reads the only argument of a subdirective. An empty argument is an error.
func Arg(d *caddyfile.Dispenser, into *string) error {
	name := d.Val()
	if !d.Args(into) || d.NextArg() || *into == "" {
		return d.Errf("%s: want exactly one argument", name)
	}
	return nil
}

// Text returns a parser for one argument that is not empty.
func Text(into *string) Parser {
	return func(d *caddyfile.Dispenser) error { return Arg(d, into) }
}

// Checked returns a parser for one argument. If check returns an error for the
// argument, the parser refuses it.
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

// Args reads one or more arguments of a subdirective and appends them to *into.
func Args(d *caddyfile.Dispenser, into *[]string) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s: want one argument or more", name)
	}
	*into = append(*into, args...)
	return nil
}

// Texts returns a parser for one or more arguments. The parser appends them to *into.
func Texts(into *[]string) Parser {
	return func(d *caddyfile.Dispenser) error { return Args(d, into) }
}

// Duration returns a parser for a duration above zero and up to 365 days.
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

// Pause returns a parser for a duration from 0 to most, where 0 means never. Its errors
// say "want a time up to", followed by the text in limits.
func Pause(into **caddy.Duration, most time.Duration, limits string) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := Arg(d, &text); err != nil {
			return err
		}
		every, err := caddy.ParseDuration(text)
		if err != nil || every < 0 || every > most {
			return d.Errf("%s: want a time up to %s, or 0 for never, not %q", name, limits, text)
		}
		*into = new(caddy.Duration(every))
		return nil
	}
}

// Switch returns a parser for the word "on" or "off".
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

// Number returns a parser for a whole number above zero.
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

// Size returns a parser for a number of bytes from 1 to 1 PiB, such as 256MiB.
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

// Place returns the position of the current token, as FILE:LINE.
func Place(d *caddyfile.Dispenser) string { return d.File() + ":" + strconv.Itoa(d.Line()) }
