//go:build unix && !linux

package pgtest

import (
	"errors"
	"os"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// giveAway refuses root, as PostgreSQL does.
func giveAway(string) error {
	if os.Getuid() == 0 {
		return errors.New("PostgreSQL does not run as root: run the tests as another user")
	}
	return nil
}
