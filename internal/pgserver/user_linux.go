package pgserver

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// superuser is the name of the user that runs the server if the caller is root.
const superuser = "postgres"

// attributes returns the attributes for a program of PostgreSQL. The program runs as a
// user that PostgreSQL accepts, and ends when the thread that started it ends. The
// program has a process group of its own, so that Ctrl-C in a terminal does not reach
// it and cannot end the server before its clients end.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if uid, gid, err := runsAs(); err == nil && uid != os.Getuid() {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return a
}

func runsAs() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup(superuser)
	if err != nil {
		return 0, 0, fmt.Errorf("PostgreSQL does not run as root, and there is no user %s: install Debian's package postgresql, or be another user: %w", superuser, err)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// giveAway makes the user that runs the server the owner of the directory.
func giveAway(dir string) error {
	uid, gid, err := runsAs()
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}
