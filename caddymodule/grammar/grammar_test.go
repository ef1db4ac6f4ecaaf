package grammar

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// option has one subdirective for each parser of the package.
type option struct {
	text, checked string
	texts         []string
	life          caddy.Duration
	on            bool
	number, size  int64
	place         string
}

// read reads a block of subdirectives as if it began on line 2 of a Caddyfile.
func (o *option) read(block string) error {
	d := caddyfile.NewTestDispenser("option {\n" + block + "\n}")
	d.Next()
	return Block(d, "option", Subdirectives{
		"text": Text(&o.text), "texts": Texts(&o.texts), "life": Duration(&o.life), "switch": Switch(&o.on),
		"number": Number(&o.number), "size": Size(&o.size),
		"checked": Checked(&o.checked, func(text string) error {
			if text == "odd" {
				return errors.New("odd is refused")
			}
			return nil
		}),
		"place": func(d *caddyfile.Dispenser) error { o.place = Place(d); return nil },
	}, "texts")
}

// TestParsers checks that each parser stores the value of its arguments.
func TestParsers(t *testing.T) {
	var o option
	if err := o.read("text \"two words\"\nchecked even\ntexts a b\ntexts c\nlife 365d\nswitch on\nnumber 7\nsize 1PiB\n\nplace"); err != nil {
		t.Fatal(err)
	}
	if o.text != "two words" || o.checked != "even" || !slices.Equal(o.texts, []string{"a", "b", "c"}) || time.Duration(o.life) != 365*24*time.Hour ||
		!o.on || o.number != 7 || o.size != 1<<50 || o.place != "Testfile:11" {
		t.Errorf("%+v", o)
	}
	if err := new(option).read(""); err != nil {
		t.Errorf("an empty block: %v", err)
	}
}

// TestErrors checks that an error of a parser or a block names the wrong word, the
// allowed words and the line.
func TestErrors(t *testing.T) {
	for block, want := range map[string]string{
		"text":             "text: want exactly one argument, at Testfile:2",
		"\ntext a b":       "text: want exactly one argument, at Testfile:3",
		`text ""`:          "text: want exactly one argument, at Testfile:2",
		"checked":          "checked: want exactly one argument, at Testfile:2",
		"\n\nchecked odd":  "odd is refused, at Testfile:4",
		"texts":            "texts: want one argument or more, at Testfile:2",
		"life 0s":          `life: want a time, such as 60s, 5m or 1h, not "0s", at Testfile:2`,
		"life 366d":        `life: want a time, such as 60s, 5m or 1h, not "366d", at Testfile:2`,
		"life soon":        `life: want a time, such as 60s, 5m or 1h, not "soon", at Testfile:2`,
		"switch yes":       `switch: want on or off, not "yes", at Testfile:2`,
		"number 0":         `number: want a number above zero, not "0", at Testfile:2`,
		"number 1.5":       `number: want a number above zero, not "1.5", at Testfile:2`,
		"size 0":           `size: want a size, such as 256MiB, not "0", at Testfile:2`,
		"size 1025TiB":     `size: want a size, such as 256MiB, not "1025TiB", at Testfile:2`,
		"text a\n\ntext a": "option: text is given twice, at Testfile:4",
		"texts a\ntext":    "text: want exactly one argument, at Testfile:3",
		"text a\nnumbre 1": `option has no subdirective "numbre"; did you mean "number"? It has: checked, life, number, place, size, switch, text, texts, at Testfile:3`,
		"text a\nother":    `option has no subdirective "other"; it has: checked, life, number, place, size, switch, text, texts, at Testfile:3`,
	} {
		if err := new(option).read(block); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", block, err, want)
		}
	}
}
