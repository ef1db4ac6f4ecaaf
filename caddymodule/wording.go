package caddymodule

import (
	"fmt"
	"strconv"

	"github.com/fareboxhq/farebox/internal/items"
)

// plainly returns a name as it stands in a sentence: as it is if it is of the
// usual characters, else in quotes.
func plainly(name string) string {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.Quote(name)
		}
	}
	return name
}

// notDone says of what is charged, as it stands in refusals, that it was not
// done: the words with which texts for models begin.
func notDone(name string) string {
	item, err := items.Parse(name)
	if err != nil {
		item = items.Item{Name: name}
	}
	done := "called"
	switch item.Kind {
	case items.Prompt:
		done = "fetched"
	case items.Resource:
		done = "read"
	}
	return fmt.Sprintf("The %s %q was not %s", item.Kind, item.Name, done)
}
