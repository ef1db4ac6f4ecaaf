package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// jail is a directory that a gateway takes for the root of the system, as in a
// container. The gateway has a user of its own and no privileges. The gateway can write
// only to the directories in jail.writable. All other files are read-only, even for
// root.
type jail struct {
	root        string
	writable    []string
	user        int // the id of the user and of its group
	dir         string
	environment []string
	command     []string // the command that starts the gateway
}

// enter is the script that prepares the jail and then runs the gateway in the same
// process. It runs in a mount namespace of its own.
const enter = `set -e
root=$1 user=$2 dir=$3 writable=$4
shift 4
mkdir -p "$root/proc" "$root/dev"
mount --bind "$root" "$root"
for d in $writable; do mount --bind "$root$d" "$root$d"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
for d in /etc /usr/bin /; do
	if touch "$root$d/probe" 2>/dev/null; then echo "$d can be written to"; exit 9; fi
done
exec setpriv --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,+setuid,+setgid,+dac_read_search \
	unshare --root="$root" --wd="$dir" --setgid="$user" --setuid="$user" -- "$@"
`

// start starts the gateway and waits until a command reaches it.
func (j *jail) start(t *testing.T) *harness.Process {
	t.Helper()
	args := append([]string{"--mount", "sh", "-c", enter, "sh", j.root, strconv.Itoa(j.user), j.dir, strings.Join(j.writable, " ")}, j.command...)
	log := filepath.Join(t.TempDir(), "farebox.log")
	p := harness.Start(t, "farebox", log, j.environment, "unshare", args...)
	p.Await(t, "the store", func() error {
		_, err := j.farebox("account", "list", "--json").Output()
		return err
	})
	return p
}

// farebox returns a command of the binary. The command runs in the jail as root. It has
// only the environment of the gateway and no flags, so that it must find the gateway by
// itself.
func (j *jail) farebox(args ...string) *exec.Cmd {
	cmd := exec.Command("chroot", append([]string{j.root, "/usr/bin/farebox"}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, j.environment...)
	return cmd
}

// run runs a command of the binary, requires success, and decodes its JSON into v,
// unless v is nil.
func (j *jail) run(t *testing.T, v any, args ...string) {
	t.Helper()
	out, err := j.farebox(append(args, "--json")...).CombinedOutput()
	if err != nil {
		t.Fatalf("farebox %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if v != nil {
		if err := json.Unmarshal(out, v); err != nil {
			t.Fatalf("farebox %s: %v in %s", strings.Join(args, " "), err, out)
		}
	}
}

// agent makes an account with a balance of 5.00, and returns the secret of a key.
func (j *jail) agent(t *testing.T, account string) (secret string) {
	t.Helper()
	j.run(t, nil, "account", "create", account)
	j.run(t, nil, "credit", account, "5.00", "--reason", "for the test")
	var key harness.Key
	j.run(t, &key, "key", "create", "--account", account)
	return key.Secret
}

// balance fails the test unless the account has this balance.
func (j *jail) balance(t *testing.T, account, want string) {
	t.Helper()
	var a harness.Account
	j.run(t, &a, "account", "show", account)
	if got := a.Balance.String(); got != want {
		t.Errorf("%s has %s, want %s", account, got, want)
	}
}

// payOnce makes a paid call of the weather server through the gateway at the port.
func payOnce(t *testing.T, port, secret string) {
	t.Helper()
	g := &harness.Gateway{Port: port}
	session := g.Connect(t, secret, nil)
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}})
	if err != nil {
		t.Fatal(err)
	}
	meta := harness.ReadMeta(t, result.Meta)
	cent, _ := ledger.ParseAmount("0.01")
	if meta.Charge == nil || meta.Charge.Amount != cent || meta.Receipt == "" || !strings.Contains(harness.Text(result), "Oslo") {
		t.Errorf("the result is %s, with %+v", harness.Text(result), meta)
	}
}

// operated edits a Caddyfile as an operator would, for the ports of the test. It
// returns the ports of the gateway and of its metrics.
func operated(t *testing.T, file, upstream string) (port, metrics string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port, metrics = harness.FreePort(t), harness.FreePort(t)
	edited := strings.NewReplacer(":8080", ":"+port, ":9180", ":"+metrics, "localhost:3001", upstream).Replace(string(text))
	if err := os.WriteFile(file, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	return port, metrics
}

// needs skips the test unless it runs as root and the programs are installed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a root directory of its own")
	}
	missing := slices.DeleteFunc(programs, func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	})
	if len(missing) > 0 {
		t.Skipf("%s missing: \"make tools\" installs what Debian has", strings.Join(missing, ", "))
	}
}
