package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/cli/reach"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// TestExitCodes checks that scripts can distinguish kinds of errors by the exit
// code.
func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		begun bool
		exit  int
		code  admin.Code
	}{
		"a wrong command line":     {errors.New("<account> is missing"), false, 2, "USAGE"},
		"invalid":                  {&admin.Error{Code: admin.Invalid}, true, 3, "INVALID"},
		"exists":                   {&admin.Error{Code: admin.Exists}, true, 3, "EXISTS"},
		"conflict":                 {&admin.Error{Code: admin.Conflict}, true, 3, "CONFLICT"},
		"forbidden":                {&admin.Error{Code: admin.Forbidden}, true, 3, "FORBIDDEN"},
		"not found, wrapped":       {fmt.Errorf("key: %w", &admin.Error{Code: admin.NotFound}), true, 4, "NOT_FOUND"},
		"the store is down":        {&admin.Error{Code: admin.Unavailable}, true, 5, "UNAVAILABLE"},
		"no server":                {&reach.UnreachableError{Err: errors.New("refused")}, true, 5, "UNAVAILABLE"},
		"a store that is in use":   {fmt.Errorf("opening: %w", sqlitestore.ErrLocked), true, 5, "UNAVAILABLE"},
		"books that do not verify": {errors.New("the books do not balance"), true, 1, "FAILED"},
	} {
		if exit, code := classify(c.err, c.begun); exit != c.exit || code != c.code {
			t.Errorf("%s: exit %d, code %s; want %d, %s", name, exit, code, c.exit, c.code)
		}
	}
}
