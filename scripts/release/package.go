package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// The texts about Farebox that packages and images contain.
const (
	summary  = "Auth and pay-per-call gateway for MCP servers"
	homepage = "https://github.com/fareboxhq/farebox"
	vendor   = "Farebox"
	license  = "Apache-2.0"
)

const description = summary + `
Farebox stands in front of an MCP server. Agents call the server's tools with a
token, and each call is charged to their account. It is a Caddy module: one
binary with an embedded database, which also obtains certificates.`

// The formats "deb" and "rpm" differ in the directory of completions for zsh, and in
// the name of the package with the programs that create users.
var (
	zshDirectory = map[string]string{"deb": "/usr/share/zsh/vendor-completions", "rpm": "/usr/share/zsh/site-functions"}
	userTools    = map[string]string{"deb": "passwd", "rpm": "shadow-utils"}
)

// writePackage writes a package for Linux in the format "deb" or "rpm".
func (r *release) writePackage(p platform, format string, pages *pages) (err error) {
	contents, err := r.contents(p, format, pages)
	if err != nil {
		return err
	}
	script := func(name string) string { return filepath.Join(r.root, "scripts", "release", "package", name+".sh") }
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "farebox", Arch: p.arch, Platform: p.os, Version: r.version,
		Section: "web", Priority: "optional",
		Maintainer: vendor + " <farebox@users.noreply.github.com>", Vendor: vendor,
		Description: description, Homepage: homepage, License: license, MTime: r.at,
		DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Depends: []string{userTools[format]}, Recommends: []string{"ca-certificates"},
			Contents: contents,
			Scripts: nfpm.Scripts{
				PostInstall: script("postinstall"), PreRemove: script("preremove"), PostRemove: script("postremove"),
			},
			RPM: nfpm.RPM{Summary: summary, BuildHost: "localhost"},
		},
	})
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	out, err := os.Create(r.asset(p, "."+format))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return packager.Package(info, out)
}

// contents returns the files of a package. The package does not contain the
// directories of the data and the socket, because a package manager would delete these
// directories when it removes the package. A script that runs after the installation
// creates the directory of the data, and systemd creates the directory of the socket.
func (r *release) contents(p platform, format string, pages *pages) (files.Contents, error) {
	tree := func(name string) string { return filepath.Join(r.root, filepath.FromSlash(name)) }
	list := files.Contents{
		{Source: r.binary(p), Destination: "/usr/bin/farebox", FileInfo: r.mode(0o755)},
		{Source: tree("config/systemd/farebox.service"), Destination: "/usr/lib/systemd/system/farebox.service", FileInfo: r.mode(0o644)},
		{Destination: "/etc/farebox", Type: files.TypeDir, FileInfo: r.mode(0o755)},
		{Source: tree("config/systemd/Caddyfile"), Destination: "/etc/farebox/Caddyfile", Type: files.TypeConfigNoReplace, FileInfo: r.mode(0o644)},
		{Source: tree("config/systemd/farebox.env"), Destination: "/etc/farebox/farebox.env", Type: files.TypeConfigNoReplace, FileInfo: r.mode(0o600)},
		{Source: tree("LICENSE"), Destination: "/usr/share/doc/farebox/copyright", FileInfo: r.mode(0o644)},
	}
	generated := map[string][]byte{
		"/usr/share/bash-completion/completions/farebox":    pages.completions["bash"],
		zshDirectory[format] + "/_farebox":                  pages.completions["zsh"],
		"/usr/share/fish/vendor_completions.d/farebox.fish": pages.completions["fish"],
	}
	for _, page := range pages.man {
		generated["/usr/share/man/man8/"+page.name] = page.content
	}
	for destination, content := range generated {
		source := filepath.Join(r.work, format, filepath.FromSlash(destination))
		if err := errors.Join(os.MkdirAll(filepath.Dir(source), 0o755), os.WriteFile(source, content, 0o644)); err != nil {
			return nil, fmt.Errorf("staging %s: %w", destination, err)
		}
		list = append(list, &files.Content{Source: source, Destination: destination, FileInfo: r.mode(0o644)})
	}
	return list, nil
}

// mode returns the mode of a file, together with the time of the commit as its
// modification time.
func (r *release) mode(mode os.FileMode) *files.ContentFileInfo {
	return &files.ContentFileInfo{Mode: mode, MTime: r.at}
}
