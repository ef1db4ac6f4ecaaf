package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// imageConfig has the settings with which a container runs an image (OCI Image Format
// Specification, "Image Configuration").
type imageConfig struct {
	User         string
	Entrypoint   []string
	Cmd          []string
	Env          []string
	WorkingDir   string
	Volumes      map[string]any
	ExposedPorts map[string]any
	Labels       map[string]string
}

// blob is a reference to another file of an image layout.
type blob struct {
	Digest   string
	Platform struct{ OS, Architecture string }
}

// TestImage unpacks the layers of the image and runs its entry point as an unprivileged
// user. The system is read-only except for the volume and the directory of the socket.
// A paid call succeeds.
func TestImage(t *testing.T) {
	t.Parallel()
	needs(t, "unshare", "setpriv")
	config, layers := readImage(t)
	checkDockerfile(t, &config)

	root := t.TempDir()
	for _, layer := range layers {
		unpackLayer(t, layer, root)
	}
	certificates, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if n := strings.Count(string(certificates), "BEGIN CERTIFICATE"); err != nil || n < 50 {
		t.Errorf("%d root certificates, %v", n, err)
	}
	var user, group int
	if _, err := fmt.Sscanf(config.User, "%d:%d", &user, &group); err != nil || user == 0 || user != group {
		t.Fatalf("it runs as %q, %v", config.User, err)
	}
	port, _ := operated(t, filepath.Join(root, "etc/farebox/Caddyfile"), "")
	upstream := strings.TrimPrefix(binaries.StartWeather(t), "http://")
	j := &jail{
		root: root, writable: slices.Concat(slices.Collect(maps.Keys(config.Volumes)), []string{"/run/farebox"}),
		user: user, dir: config.WorkingDir, environment: append(config.Env, "FAREBOX_UPSTREAM="+upstream),
		command: slices.Concat(config.Entrypoint, config.Cmd),
	}
	p := j.start(t)
	payOnce(t, port, j.agent(t, "alice"))
	j.balance(t, "alice", "4.99")
	p.Stop(t)
	if _, err := os.Stat(filepath.Join(root, "data/farebox.db")); err != nil {
		t.Errorf("the store is not in the volume: %v", err)
	}
}

// readImage returns the settings and the compressed layers of the image in the release.
func readImage(t *testing.T) (config imageConfig, layers [][]byte) {
	t.Helper()
	dir, version := built(t)
	layout := filepath.Join(dir, "farebox_"+version+"_oci")
	read := func(path ...string) []byte {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(append([]string{layout}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	decode := func(text []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	blobOf := func(b blob) []byte {
		t.Helper()
		return read("blobs", strings.Replace(b.Digest, ":", "/", 1))
	}
	var index struct{ Manifests []blob }
	var manifest struct {
		Config blob
		Layers []blob
	}
	var file struct{ Config imageConfig }
	decode(read("index.json"), &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Platform.Architecture != runtime.GOARCH {
		t.Fatalf("the index has %+v", index.Manifests)
	}
	decode(blobOf(index.Manifests[0]), &manifest)
	decode(blobOf(manifest.Config), &file)
	for _, b := range manifest.Layers {
		layers = append(layers, blobOf(b))
	}
	if labels := file.Config.Labels; labels["org.opencontainers.image.revision"] != commitOf(t) || labels["org.opencontainers.image.version"] != version {
		t.Errorf("its labels are %v", labels)
	}
	return file.Config, layers
}

// checkDockerfile checks that config/docker/Dockerfile has the same settings as the
// image of the release.
func checkDockerfile(t *testing.T, config *imageConfig) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "config", "docker", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if word, rest, ok := strings.Cut(line, " "); ok {
			said[word] = rest
		}
	}
	list := func(text string) (words []string) {
		if err := json.Unmarshal([]byte(text), &words); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		return words
	}
	for name, pair := range map[string][2][]string{
		"USER":       {{said["USER"]}, {config.User}},
		"WORKDIR":    {{said["WORKDIR"]}, {config.WorkingDir}},
		"VOLUME":     {strings.Fields(said["VOLUME"]), slices.Sorted(maps.Keys(config.Volumes))},
		"EXPOSE":     {slices.Sorted(slices.Values(strings.Fields(said["EXPOSE"]))), slices.Sorted(maps.Keys(config.ExposedPorts))},
		"ENV":        {strings.Fields(said["ENV"]), config.Env},
		"ENTRYPOINT": {list(said["ENTRYPOINT"]), config.Entrypoint},
		"CMD":        {list(said["CMD"]), config.Cmd},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s is %q in the Dockerfile and %q in the image", name, pair[0], pair[1])
		}
	}
}

// unpackLayer writes the files of an image's layer below the given directory, with
// their owners.
func unpackLayer(t *testing.T, packed []byte, root string) {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path, mode := filepath.Join(root, header.Name), header.FileInfo().Mode()
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		default:
			err = fmt.Errorf("%s has type %c", header.Name, header.Typeflag)
		}
		if err := errors.Join(err, os.Chown(path, header.Uid, header.Gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
}
