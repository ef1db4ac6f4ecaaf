package process

import (
	"errors"
	"os/exec"

	"golang.org/x/sys/unix"
)

// awaitExit waits until the process has exited, and leaves its exit status to cmd.Wait.
// Until then its id, which is also that of its group, is not given to another process.
func awaitExit(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// self returns the path of this program. It works after the file was replaced.
func self() (string, error) { return "/proc/self/exe", nil }
