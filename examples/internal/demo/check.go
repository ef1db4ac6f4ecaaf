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

// Check reports the missing files, each with a remedy.
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

// CheckPort reports whether we may listen there. The variable of the environment
// chooses the port, as in the example, for the target of make. Caddy shares
// ports between processes, so a second gateway would not notice the first by
// itself.
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

// Socket returns the admin address of a Caddy with its socket in the directory; only
// the server's own user can connect to it.
func Socket(dir, name string) string { return "unix/" + filepath.Join(dir, name) + "|0600" }

// maxSocket bounds the path of a socket in bytes, on all systems (macOS and BSD
// have 104 with the end of the text, Linux 108).
const maxSocket = 103

// CheckAddress is CheckPort for Caddy's admin address. One that is a socket
// needs no port, and a path that is short enough.
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

// Environment returns a function that looks a variable up, and gives the other
// value for one that is not set or empty.
func Environment(getenv func(string) string) func(name, otherwise string) string {
	return func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
}
