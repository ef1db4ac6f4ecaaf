package cli

import (
	"fmt"
	"io/fs"
	"net"

	"github.com/fareboxhq/farebox/internal/cli/reach"
)

// testHost returns a reach.Host that finds no config and accepts only TCP addresses.
func testHost() reach.Host {
	return reach.Host{
		ReadConfig:   func(string, string) ([]byte, error) { return nil, fs.ErrNotExist },
		Installation: func([]byte) (*reach.Installation, error) { return nil, reach.ErrNoConfig },
		AdminAddress: func([]byte) (string, error) { return "localhost:2019", nil },
		SplitAddress: func(address string) (network, target, host string, err error) {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return "", "", "", err
			}
			return "tcp", address, address, nil
		},
		DataDir:   func() string { return "/nonexistent" },
		ExitError: func(code int) error { return fmt.Errorf("exit %d", code) },
	}
}
