package stdio

import (
	"errors"

	"github.com/fareboxhq/farebox/internal/stdio/process"
)

func lookUp(name string) (*process.User, []string, error) {
	if name == "" {
		return nil, nil, nil
	}
	return nil, nil, errors.New("it does not work on Windows")
}
