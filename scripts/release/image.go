package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// imageUser is the id of the user and of the group that run the program in the image.
// It is the same id as in distroless images that do not run as root.
const imageUser = 65532

// writeImage writes an image for each architecture of Linux. It writes each image as a
// file for "docker load", and all of them as an OCI image layout with an index, for
// registries.
func (r *release) writeImage(targets []platform) error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	images := 0
	for _, p := range targets {
		if p.os != "linux" {
			continue
		}
		image, err := r.image(p)
		if err != nil {
			return err
		}
		tag, err := name.NewTag("farebox:" + imageTag(r.version))
		if err != nil {
			return err
		}
		if err := tarball.WriteToFile(r.asset(p, "_image.tar"), tag, image); err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
		images++
	}
	if images == 0 {
		return nil
	}
	_, err := layout.Write(filepath.Join(r.out, "farebox_"+r.version+"_oci"), index)
	return err
}

// imageTag returns the version in the form of a tag, which must not contain a plus
// sign.
func imageTag(version string) string {
	return string(bytes.ReplaceAll([]byte(version), []byte("+"), []byte("-")))
}

// image returns the image for the platform. Its top layer contains Farebox. The two
// layers below it are the same in every release: one contains system files, and the
// other contains directories that Farebox may write to.
func (r *release) image(p platform) (v1.Image, error) {
	base, err := layer(systemFiles(), time.Unix(0, 0), 0)
	if err != nil {
		return nil, err
	}
	config := r.tree("etc/farebox/Caddyfile", "config/docker/Caddyfile")
	farebox, err := layer([]file{
		{name: "etc/farebox/", mode: 0o755}, config,
		{name: "usr/", mode: 0o755}, {name: "usr/bin/", mode: 0o755}, {name: "usr/bin/farebox", source: r.binary(p), mode: 0o755},
	}, r.at, 0)
	if err != nil {
		return nil, err
	}
	data, err := layer([]file{{name: "data/", mode: 0o700}, {name: "run/farebox/", mode: 0o700}}, time.Unix(0, 0), imageUser)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, base, data, farebox); err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Author = p.os, p.arch, v1.Time{Time: r.at}, vendor
	file.Config = r.imageConfig()
	for i := range file.History {
		file.History[i] = v1.History{Created: v1.Time{Time: r.at}, CreatedBy: "make release"}
	}
	return mutate.ConfigFile(image, file)
}

// imageConfig returns the settings with which a container runs the image. They must be
// the same as in config/docker/Dockerfile.
func (r *release) imageConfig() v1.Config {
	return v1.Config{
		User:         fmt.Sprintf("%d:%d", imageUser, imageUser),
		Entrypoint:   []string{"/usr/bin/farebox"},
		Cmd:          []string{"run", "--config", "/etc/farebox/Caddyfile"},
		WorkingDir:   "/data",
		Env:          []string{"PATH=/usr/bin", "HOME=/data", "XDG_DATA_HOME=/data", "XDG_CONFIG_HOME=/data"},
		Volumes:      map[string]struct{}{"/data": {}},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}, "443/udp": {}, "8080/tcp": {}, "9180/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":         "Farebox",
			"org.opencontainers.image.description":   summary,
			"org.opencontainers.image.version":       r.version,
			"org.opencontainers.image.revision":      r.commit,
			"org.opencontainers.image.created":       r.at.UTC().Format(time.RFC3339),
			"org.opencontainers.image.source":        homepage,
			"org.opencontainers.image.documentation": homepage + "/tree/main/docs",
			"org.opencontainers.image.licenses":      license,
		},
	}
}

// systemFiles returns the files that a static binary needs: the root certificates that
// browsers trust, the names of the users root and farebox, and directories.
func systemFiles() []file {
	users := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\nfarebox:x:%[1]d:%[1]d:Farebox:/data:/sbin/nologin\n", imageUser)
	groups := fmt.Sprintf("root:x:0:\nfarebox:x:%d:\n", imageUser)
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", content: []byte(groups), mode: 0o644},
		{name: "etc/passwd", content: []byte(users), mode: 0o644},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", content: rootCertificates(), mode: 0o644},
		{name: "run/", mode: 0o755},
		{name: "tmp/", mode: 0o777 | fs.ModeSticky},
	}
}

// rootCertificates returns Mozilla's root certificates. It leaves out certificates that
// Mozilla trusts only under conditions, because a file of certificates cannot state
// conditions.
func rootCertificates() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			all.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return all.Bytes()
}

// layer returns an image layer with the files. All files get the given id as their user
// and their group.
func layer(files []file, at time.Time, owner int) (v1.Layer, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	if err := addToTar(archive, files, at, owner); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
