//go:build !windows

package reach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnStore checks that root does not open a store in a directory of another user,
// because the server of that user could not open the files that root creates there.
func TestOwnStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "farebox.db")
	if err := OwnStore(file); err != nil {
		t.Errorf("a directory of this user: %v", err)
	}
	if err := OwnStore(""); err != nil {
		t.Errorf("a store that is not a file: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	if err := os.Chown(filepath.Dir(file), 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if err := OwnStore(file); err == nil || !strings.Contains(err.Error(), "sudo -u '#54321'") {
		t.Errorf("a directory of another user: %v", err)
	}
}
