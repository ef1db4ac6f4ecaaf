package demo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Binaries are the programs that the demonstrations start.
type Binaries struct {
	Farebox, Weather string
}

// Check reports missing binaries, each with a remedy, and missing configs.
func (b Binaries) Check(configs ...string) error {
	var errs []error
	for _, binary := range []string{b.Farebox, b.Weather} {
		if _, err := os.Stat(binary); err != nil {
			errs = append(errs, fmt.Errorf("%w: \"make build\" makes it", err))
		}
	}
	for _, config := range configs {
		if _, err := os.Stat(config); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// CheckPort returns an error if a server cannot listen on the port. The error suggests
// to set the environment variable to the example port and to run the make target again.
// The check is necessary because Caddy shares ports between processes: a second gateway
// would start on the same port without an error.
func CheckPort(variable, host, port, example, target string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s: %q is not a port: want 1 to 65535", variable, port)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("port %s is not free: stop what listens there, or choose another, as in %s=%s make %s", port, variable, example, target)
	}
	return listener.Close()
}

// Socket returns an admin address for Caddy that is a socket in the directory. Only
// the user that runs the server can connect to the socket.
func Socket(dir, name string) string { return "unix/" + filepath.Join(dir, name) + "|0600" }

// maxSocket is the length in bytes of the longest socket path that all systems
// accept. macOS and BSD limit a path to 104 bytes, and Linux to 108. The limits
// include a zero byte at the end.
const maxSocket = 103

// CheckAddress is like CheckPort for Caddy's admin address. If the address is a socket,
// CheckAddress checks instead that the socket's path is short enough.
func CheckAddress(variable, address, example, target string) error {
	if path, ok := strings.CutPrefix(address, "unix/"); ok {
		if path, _, _ = strings.Cut(path, "|"); len(path) > maxSocket {
			return fmt.Errorf("the socket's path %s has %d bytes, and systems take %d: choose a shorter one, as in %s='unix//tmp/farebox/admin.sock|0600' make %s", path, len(path), maxSocket, variable, target)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	return CheckPort(variable, host, port, example, target)
}

// Environment returns a function that looks up an environment variable. The second
// argument of that function is the default for a variable that is unset or empty.
func Environment(getenv func(string) string) func(name, otherwise string) string {
	return func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
}
