package process

import (
	"errors"
	"os/exec"
	"syscall"
)

const (
	termSignal = syscall.SIGTERM
	killSignal = syscall.SIGKILL
)

// supported reports that nothing works here: Windows has no process groups that a signal
// reaches, so a server's own children would be left over.
func supported(*Options) error {
	return errors.New("stdio servers do not run on Windows: run the gateway in WSL or in a container")
}

func own(*exec.Cmd, *User) {}

func detach(*exec.Cmd) {}

func signalGroup(int, syscall.Signal) {}

func ignoreSignals() {}
