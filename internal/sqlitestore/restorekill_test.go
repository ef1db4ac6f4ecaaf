//go:build unix

package sqlitestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// childRestore restores the backup beside the store. At the given step it prints
// the name of the step and waits to be killed.
func childRestore(path, step string) error {
	o := restoreOptions(path, filepath.Join(filepath.Dir(path), "backup.db"))
	o.step = func(name string) {
		if name == step {
			fmt.Println(name)
			_, _ = os.Stdin.Read(make([]byte, 1)) // wait until this process is killed, because the parent never writes
		}
	}
	if _, err := Restore(context.Background(), o); err != nil {
		return err
	}
	o.step("done")
	return fmt.Errorf("there is no step %q", step)
}

// TestRestoreKilled checks a restore killed (SIGKILL) after each of its steps. The
// killed restore must leave the old store or the new one, intact. The next Open
// removes all other files, except the previous store when the new one is in place.
// The restore can then be repeated.
//
// The test is not parallel, because a child process inherits the open files of all
// tests. Between fork and exec, the child of one test still holds the locks that
// another test has just released.
func TestRestoreKilled(t *testing.T) {
	for _, step := range []string{"copied", "migrated", "prepared", "folded", "kept", "moved", "done"} {
		t.Run(step, func(t *testing.T) {
			path, backup, o, killed := furnished(t)
			cmd, lines := startChild(t, "restore "+step, path)
			if !lines.Scan() || lines.Text() != step {
				t.Fatalf("it says %q, want %q", lines.Text(), step)
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the error only says that the child was killed

			replaced := step == "moved" || step == "done"
			if replaced {
				isNew(t, path, o)
			} else {
				isOld(t, path, o, killed)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			previous := ""
			for _, entry := range entries {
				switch name := entry.Name(); {
				case name == "farebox.db", name == "farebox.db.lock", name == "backup.db":
				case strings.HasPrefix(name, "farebox.db.before-restore-") && replaced && previous == "":
					previous = filepath.Join(filepath.Dir(path), name)
				default:
					t.Errorf("%s was left", name)
				}
			}
			if replaced {
				isOld(t, previous, o, killed)
				return
			}
			if _, err := Restore(t.Context(), restoreOptions(path, backup)); err != nil {
				t.Fatalf("once more: %v", err)
			}
			isNew(t, path, o)
		})
	}
}
