package caddymodule

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/pricing"
)

// notDone says of what is charged, as it stands in refusals, that it was not
// done: the words with which texts for models begin.
func notDone(name string) string {
	item, err := pricing.ParseItem(name)
	if err != nil {
		item = pricing.Item{Name: name}
	}
	done := "called"
	switch item.Kind {
	case pricing.Prompt:
		done = "fetched"
	case pricing.Resource:
		done = "read"
	}
	return fmt.Sprintf("The %s %q was not %s", item.Kind, item.Name, done)
}
