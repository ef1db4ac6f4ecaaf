package login

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
)

// Browse opens a page in the person's browser. The error says why that is impossible.
func Browse(page string) error {
	program, args, err := opener(runtime.GOOS, os.Getenv)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, append(args, page)...)
	if err := cmd.Start(); err != nil { // the output of the program goes nowhere: stdout is for messages
		return err
	}
	go func() { _ = cmd.Wait() }() // some openers end with the browser
	return nil
}

// opener returns the program of the system that opens pages.
func opener(system string, environment func(string) string) (program string, args []string, err error) {
	switch system {
	case "darwin":
		return "open", nil, nil
	case "windows":
		return "rundll32", []string{"url.dll,FileProtocolHandler"}, nil
	}
	if environment("DISPLAY") == "" && environment("WAYLAND_DISPLAY") == "" && environment("WSL_DISTRO_NAME") == "" {
		return "", nil, errors.New("there is no display")
	}
	return "xdg-open", nil, nil
}
