package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is a file to put into an archive, a package or an image. Its content is either
// in memory, or in another file at the path source.
type file struct {
	name    string
	source  string
	content []byte
	mode    fs.FileMode
}

// read returns the content of the file.
func (f *file) read() ([]byte, error) {
	if f.source == "" {
		return f.content, nil
	}
	return os.ReadFile(f.source)
}

// tree returns a file of the source tree. In the archive, the file has another name.
func (r *release) tree(name, in string) file {
	return file{name: name, source: filepath.Join(r.root, filepath.FromSlash(in)), mode: 0o644}
}

// archived returns the files of an archive for the platform. An archive for Linux or
// macOS has the man pages and completions, and an archive for Linux also has the
// systemd unit and its config.
func (r *release) archived(p platform, pages *pages) []file {
	files := []file{
		{name: filepath.Base(r.binary(p)), source: r.binary(p), mode: 0o755},
		r.tree("LICENSE", "LICENSE"), r.tree("README.md", "README.md"), r.tree("CHANGELOG.md", "CHANGELOG.md"),
	}
	if p.os == "windows" {
		return files
	}
	for shell, name := range map[string]string{"bash": "farebox.bash", "zsh": "_farebox", "fish": "farebox.fish"} {
		files = append(files, file{name: "completions/" + name, content: pages.completions[shell], mode: 0o644})
	}
	for _, page := range pages.man {
		files = append(files, file{name: "man/" + page.name, content: page.content, mode: page.mode})
	}
	if p.os == "linux" {
		for _, name := range []string{"Caddyfile", "farebox.env", "farebox.service"} {
			files = append(files, r.tree("systemd/"+name, "config/systemd/"+name))
		}
	}
	return files
}

// writeArchive writes a zip for Windows, and a compressed tar for other systems.
func (r *release) writeArchive(p platform, pages *pages) (err error) {
	files := r.archived(p, pages)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	suffix, write := ".tar.gz", writeTarGz
	if p.os == "windows" {
		suffix, write = ".zip", writeZip
	}
	out, err := os.Create(r.asset(p, suffix))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return write(out, files, r.at)
}

func writeTarGz(w io.Writer, files []file, at time.Time) error {
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	if err := addToTar(archive, files, at, 0); err != nil {
		return err
	}
	return errors.Join(archive.Close(), packed.Close())
}

// addToTar adds the files to the archive. All files get the given id as their user and
// their group. A name that ends in a slash is a directory.
func addToTar(archive *tar.Writer, files []file, at time.Time, owner int) error {
	for _, f := range files {
		content, err := f.read()
		if err != nil {
			return err
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(content)), ModTime: at,
			Mode: int64(f.mode.Perm()), Uid: owner, Gid: owner, Format: tar.FormatPAX,
		}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if f.mode&fs.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return nil
}

func writeZip(w io.Writer, files []file, at time.Time) error {
	archive := zip.NewWriter(w)
	for _, f := range files {
		content, err := f.read()
		if err != nil {
			return err
		}
		header := &zip.FileHeader{Name: path.Clean(f.name), Method: zip.Deflate, Modified: at}
		header.SetMode(f.mode)
		part, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := part.Write(content); err != nil {
			return err
		}
	}
	return archive.Close()
}
