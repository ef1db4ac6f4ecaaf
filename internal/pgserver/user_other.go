//go:build unix && !linux

package pgserver

import (
	"errors"
	"os"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// giveAway refuses root, as PostgreSQL does.
func giveAway(string) error {
	if os.Getuid() == 0 {
		return errors.New("PostgreSQL does not run as root: be another user")
	}
	return nil
}
