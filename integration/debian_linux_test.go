package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// debianRoot starts to make a root directory with a fresh Debian and systemd, which
// takes most of a minute. The returned function waits until the directory is ready and
// returns the directory.
func debianRoot(t *testing.T) (await func() string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	suite := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(release)
	if suite == nil {
		t.Skip("this is no release of Debian")
	}
	cmd := exec.CommandContext(t.Context(), "mmdebstrap", "--variant=apt", "--include=passwd,systemd", string(suite[1]), root, "http://deb.debian.org/debian")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return func() string {
		t.Helper()
		if err := <-ended; err != nil {
			t.Fatalf("mmdebstrap: %v\n%s", err, said.Bytes())
		}
		return root
	}
}

// debian is a root directory with Debian.
type debian struct {
	t    *testing.T
	root string
}

// run runs a program in the root directory, requires success, and returns its output.
func (d *debian) run(program string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command("chroot", append([]string{d.root, program}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// read returns the content of a file in the root directory.
func (d *debian) read(file string) string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.root, file))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// has requires that each of the files exists in the root directory if want is true, and
// that it is missing if want is false.
func (d *debian) has(want bool, files ...string) {
	d.t.Helper()
	for _, file := range files {
		if _, err := os.Lstat(filepath.Join(d.root, file)); (err == nil) != want {
			d.t.Errorf("%s is there: %t, want %t", file, !want, want)
		}
	}
}

// upload copies a file into the root directory, and returns its path there.
func (d *debian) upload(file string) string {
	d.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	name := filepath.Join("/root", filepath.Base(file))
	if err := os.WriteFile(filepath.Join(d.root, name), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return name
}

// TestDebianPackage installs the package in a fresh Debian and checks each step up to
// its removal. The systemd unit is valid and confined. The gateway runs as its own user
// on a read-only system, and serves a paid call. An upgrade and the removal keep the
// data and an edited config. Purging says that the data stays.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	needs(t, "mmdebstrap", "systemd-analyze", "dpkg-deb", "rpm", "unshare", "setpriv")
	await := debianRoot(t)
	first := asset(t, ".deb")
	d := &debian{t, await()}

	said := d.run("apt-get", "--yes", "--no-install-recommends", "install", d.upload(first))
	if !strings.Contains(said, "systemctl enable --now farebox") {
		t.Errorf("the installation does not say how to start:\n%s", said)
	}
	if said := d.run("farebox", "version"); !strings.Contains(said, commitOf(t)) {
		t.Errorf("farebox version: %s", said)
	}
	d.has(true, "/usr/share/man/man8/farebox.8.gz", "/usr/share/bash-completion/completions/farebox", "/usr/share/zsh/vendor-completions/_farebox")
	checkUnit(t, d.root)

	upstream := strings.TrimPrefix(binaries.StartWeather(t), "http://")
	port, metrics := operated(t, filepath.Join(d.root, "/etc/farebox/Caddyfile"), upstream)
	j := fromUnit(t, d)
	p := j.start(t)
	secret := j.agent(t, "alice")
	payOnce(t, port, secret)
	j.balance(t, "alice", "4.99")
	if resp, err := http.Get("http://127.0.0.1:" + metrics + "/metrics"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("metrics: %v, %v", resp, err)
	} else if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	d.run("farebox", "backup", "/root/backup.db")
	p.Stop(t)
	checkRestoreByRoot(t, d)

	checkUpgrade(t, d, first)
	p = j.start(t)
	payOnce(t, port, secret)
	j.balance(t, "alice", "4.98")
	p.Stop(t)
	checkRemoval(t, d)
	checkScriptsOfRPM(t, d)
}

// checkUpgrade upgrades to a version with the same Caddyfile, and to a version with
// another Caddyfile, and checks that the edited Caddyfile is kept both times.
func checkUpgrade(t *testing.T, d *debian, first string) {
	t.Helper()
	edited := d.read("/etc/farebox/Caddyfile")
	d.run("apt-get", "--yes", "install", d.upload(nextVersion(t, first, 1, false)))
	d.run("apt-get", "--yes", "--option=Dpkg::Options::=--force-confold", "install", d.upload(nextVersion(t, first, 2, true)))
	if d.read("/etc/farebox/Caddyfile") != edited {
		t.Errorf("the edited Caddyfile was replaced")
	}
	d.has(true, "/etc/farebox/Caddyfile.dpkg-dist")
}

// checkRemoval removes and then purges the package, and checks that the data stays.
func checkRemoval(t *testing.T, d *debian) {
	t.Helper()
	const look = "ls -ln /var/lib/farebox && sha256sum /var/lib/farebox/farebox.db*"
	data := d.run("sh", "-c", look)
	d.run("apt-get", "--yes", "remove", "farebox")
	d.has(false, "/usr/bin/farebox", "/usr/lib/systemd/system/farebox.service")
	d.has(true, "/etc/farebox/Caddyfile", "/etc/farebox/farebox.env")
	said := d.run("apt-get", "--yes", "purge", "farebox")
	if !strings.Contains(said, "/var/lib/farebox stays") {
		t.Errorf("purging does not say that the data stays:\n%s", said)
	}
	d.has(false, "/etc/farebox/Caddyfile", "/etc/farebox/farebox.env")
	if now := d.run("sh", "-c", look); now != data {
		t.Errorf("the data was\n%s\nand is\n%s", data, now)
	}
	if !strings.Contains(d.read("/etc/passwd"), "\nfarebox:") {
		t.Errorf("the user is gone, and its files have no owner")
	}
}

// checkUnit checks the installed unit with systemd-analyze. There must be no warning,
// and the exposure must be less than 3 on a scale from 0 to 10.
func checkUnit(t *testing.T, root string) {
	t.Helper()
	said, err := exec.Command("systemd-analyze", "--root="+root, "--man=no", "verify", "farebox.service").CombinedOutput()
	if err != nil || len(bytes.TrimSpace(said)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
	said, err = exec.Command("systemd-analyze", "--root="+root, "security", "--offline=true", "--threshold=29", "--no-pager", "farebox.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, said)
	}
	if level := regexp.MustCompile(`exposure level for farebox.service: ([\d.]+)`).FindSubmatch(said); level != nil {
		t.Logf("exposure level %s", level[1])
	} else {
		t.Errorf("no exposure level in\n%s", said)
	}
}

// fromUnit returns a jail with the command, the user, the environment and the
// directories of the installed unit.
func fromUnit(t *testing.T, d *debian) *jail {
	t.Helper()
	unit := map[string]string{}
	for line := range strings.SplitSeq(d.read("/usr/lib/systemd/system/farebox.service"), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			unit[key] = value
		}
	}
	user := strings.Split(d.run("getent", "passwd", unit["User"]), ":")
	id, err := strconv.Atoi(user[2])
	if err != nil {
		t.Fatal(err)
	}
	data, socket := "/var/lib/"+unit["StateDirectory"], "/run/"+unit["RuntimeDirectory"]
	if info, err := os.Stat(filepath.Join(d.root, data)); err != nil || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != uint32(id) {
		t.Errorf("the package made %s: %v, %v; want it for its user alone", data, info, err)
	}
	d.run("install", "-d", "-m", unit["RuntimeDirectoryMode"], "-o", user[2], "-g", user[3], socket)
	return &jail{
		root: d.root, writable: []string{data, socket}, user: id, dir: unit["WorkingDirectory"],
		environment: strings.Fields(unit["Environment"]), command: strings.Fields(unit["ExecStart"]),
	}
}

// checkRestoreByRoot checks that a restore by root is refused, because the gateway's user
// could not open the store afterwards, and that this user can restore the store.
func checkRestoreByRoot(t *testing.T, d *debian) {
	t.Helper()
	said, err := exec.Command("chroot", d.root, "farebox", "restore", "/root/backup.db").CombinedOutput()
	if err == nil || !strings.Contains(string(said), "sudo -u 'farebox'") {
		t.Errorf("restoring as root: %v\n%s", err, said)
	}
	d.run("install", "-o", "farebox", "-m", "600", "/root/backup.db", "/var/lib/farebox/backup.db")
	d.run("setpriv", "--reuid=farebox", "--regid=farebox", "--clear-groups", "farebox", "restore", "/var/lib/farebox/backup.db")
	// Enable all keys again, because a restore disables them.
	keys := regexp.MustCompile(`key_[0-9a-f-]+`)
	asUser := []string{"--reuid=farebox", "--regid=farebox", "--clear-groups", "farebox"}
	for _, id := range keys.FindAllString(d.run("setpriv", append(asUser, "key", "list", "--offline")...), -1) {
		d.run("setpriv", append(asUser, "key", "enable", id, "--offline")...)
	}
}

// checkScriptsOfRPM installs, upgrades and removes the RPM package in the root
// directory that had the Debian package before. The package's scripts must work there,
// too: they make the user, and keep the data.
func checkScriptsOfRPM(t *testing.T, d *debian) {
	t.Helper()
	rpm := func(args ...string) {
		t.Helper()
		if said, err := exec.Command("rpm", append([]string{"--root", d.root, "--nodeps"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	d.run("userdel", "farebox")
	d.run("rm", "--recursive", "/var/lib/farebox")
	rpm("--install", asset(t, ".rpm"))
	if said := d.run("stat", "--format=%U %a", "/var/lib/farebox"); said != "farebox 700\n" {
		t.Errorf("the data's directory is %s", said)
	}
	d.run("touch", "/var/lib/farebox/farebox.db")
	d.run("sh", "-c", "echo >> /etc/farebox/Caddyfile")
	rpm("--upgrade", "--replacepkgs", asset(t, ".rpm"))
	d.has(false, "/etc/farebox/Caddyfile.rpmnew", "/etc/farebox/Caddyfile.rpmsave")
	rpm("--erase", "farebox")
	d.has(false, "/usr/bin/farebox")
	d.has(true, "/var/lib/farebox/farebox.db", "/etc/farebox/Caddyfile.rpmsave")
}

// nextVersion packs a package again with a higher version, and with another Caddyfile
// if otherConfig is set.
func nextVersion(t *testing.T, file string, number int, otherConfig bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "package")
	run := func(name string, args ...string) {
		t.Helper()
		if said, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
		}
	}
	run("dpkg-deb", "--raw-extract", file, dir)
	run("sed", "-i", fmt.Sprintf("s/^Version: .*/Version: 99.0.%d/", number), filepath.Join(dir, "DEBIAN/control"))
	if otherConfig {
		run("sed", "-i", "1s/^/# A comment of the new version.\\n/", filepath.Join(dir, "etc/farebox/Caddyfile"))
	}
	again := filepath.Join(t.TempDir(), fmt.Sprintf("farebox-%d.deb", number))
	run("dpkg-deb", "-Zgzip", "-z1", "--build", dir, again)
	return again
}
