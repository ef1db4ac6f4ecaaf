package process

import (
	"os"
	"slices"
	"strings"
)

// inherited lists the variables that a process has from this one. All others, among them
// the gateway's own secrets, are left out.
var inherited = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM"}

// Environment returns an environment with the variables of this process that every program
// may need, and with those in extra, as NAME=VALUE. Later values win.
func Environment(extra ...string) []string {
	var env []string
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, variable := range extra {
		name, _, _ := strings.Cut(variable, "=")
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		env = append(env, variable)
	}
	return env
}

// shortest is the length in bytes of the shortest value that is redacted. Shorter ones
// are no secrets, and occur in any text.
const shortest = 6

// Redactor returns a replacer of the values of environment variables, as NAME=VALUE, by
// their names. A value of several lines is redacted line by line.
func Redactor(variables []string) *strings.Replacer {
	var secrets [][2]string
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= shortest {
				secrets = append(secrets, [2]string{line, "[" + name + "]"})
			}
		}
	}
	// The first that matches is replaced, so one that another begins with comes later.
	slices.SortStableFunc(secrets, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s[:]...)
	}
	return strings.NewReplacer(pairs...)
}
