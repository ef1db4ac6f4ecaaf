//go:build !linux

package process

import (
	"os"
	"os/exec"
)

// awaitExit waits until the process has exited.
func awaitExit(cmd *exec.Cmd) { _ = cmd.Wait() }

// self returns the path of this program.
func self() (string, error) { return os.Executable() }
