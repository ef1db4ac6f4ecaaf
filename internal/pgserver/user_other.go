//go:build unix && !linux

package pgserver

import (
	"errors"
	"os"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// giveAway returns an error for root, because PostgreSQL does not run as root.
func giveAway(string) error {
	if os.Getuid() == 0 {
		return errors.New("PostgreSQL does not run as root: be another user")
	}
	return nil
}
