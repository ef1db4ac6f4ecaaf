//go:build unix

package process

import (
	"errors"
	"os/exec"
	"os/signal"
	"syscall"
)

const (
	termSignal = syscall.SIGTERM
	killSignal = syscall.SIGKILL
)

// errUnsupportedMemory reports a limit that cannot be kept here.
var errUnsupportedMemory = errors.New("a limit of memory for stdio servers works on Linux only")

// supported returns an error if an option does not work on this system.
func supported(o *Options) error {
	if len(o.Command) == 0 {
		return errors.New("a stdio server needs a command")
	}
	if o.Memory > 0 && !canWatch {
		return errUnsupportedMemory
	}
	return nil
}

// own gives the process a group and a user of its own.
func own(cmd *exec.Cmd, user *User) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
	}
}

// detach takes the process out of the terminal's reach.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// signalGroup sends a signal to all processes of a group. A group that is gone is no error.
func signalGroup(pid int, s syscall.Signal) { _ = syscall.Kill(-pid, s) }

// ignoreSignals leaves the end of a guard to its input.
func ignoreSignals() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
}
