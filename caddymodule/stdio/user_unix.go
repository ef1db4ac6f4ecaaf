//go:build unix

package stdio

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/fareboxhq/farebox/internal/stdio/process"
)

// lookUp returns the user with a name or number, and the variables that name the user to
// programs. For "" both are nil.
func lookUp(name string) (*process.User, []string, error) {
	if name == "" {
		return nil, nil, nil
	}
	u, err := user.Lookup(name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("there is no user %q: %w", name, err)
	}
	found := new(process.User)
	if found.UID, err = number(u.Uid); err != nil {
		return nil, nil, err
	}
	if found.GID, err = number(u.Gid); err != nil {
		return nil, nil, err
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, nil, fmt.Errorf("the groups of %s: %w", name, err)
	}
	for _, g := range groups {
		id, err := number(g)
		if err != nil {
			return nil, nil, err
		}
		found.Groups = append(found.Groups, id)
	}
	if self := os.Geteuid(); self != 0 && int64(self) != int64(found.UID) {
		return nil, nil, fmt.Errorf("only root can run a program as %s: start the gateway as root, or leave user out", name)
	}
	if os.Geteuid() != 0 {
		found = nil // it is the gateway's own user
	}
	return found, []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}, nil
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}
