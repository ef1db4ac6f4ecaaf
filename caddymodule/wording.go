package caddymodule

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/items"
)

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
