//go:build unix

package sqlitestore

import (
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// disk is a VFS for SQLite in front of the system's own VFS. It makes syncs and
// writes fail, and tracks the durable contents of files. A write is visible at
// once, as in a page cache, but is durable only after a successful sync of its
// file. After a failed sync the pages count as clean, as on a real system, so that
// no later sync writes them.
type disk struct {
	name string
	real uintptr // the address of the system's own sqlite3_vfs
	keep []any   // functions that SQLite knows only by address; this slice keeps them alive

	mu      sync.Mutex
	random  *rand.Rand
	methods map[uintptr]uintptr  // maps the system's method tables to the disk's own
	files   map[uintptr]diskFile // open files, by the address of their sqlite3_file
	plates  map[string]*plate    // the contents of files, by the path of the file
	fault   *diskFault
	onSync  func(fileKind) // called before each sync, with the mutex held
}

// fileKind distinguishes the two files of a store from all others.
type fileKind int

const (
	logFile fileKind = 1 << iota
	mainFile
	otherFile
)

// diskFile is an open file.
type diskFile struct {
	kind    fileKind
	plate   *plate
	methods *sqlite3.Tsqlite3_io_methods // the system's own methods for the file
}

// plate has the contents of a file as the disk stores them.
type plate struct {
	durable []byte      // the contents after a power cut
	pending []diskWrite // writes since the last sync, in order
}

// diskWrite is a write. If data is nil, the write truncates the file, and at is the new
// length.
type diskWrite struct {
	at   int64
	data []byte
}

func (p *plate) apply(w diskWrite) {
	end := w.at + int64(len(w.data))
	if n := end - int64(len(p.durable)); n > 0 {
		p.durable = append(p.durable, make([]byte, n)...)
	}
	if w.data == nil {
		p.durable = p.durable[:w.at]
		return
	}
	copy(p.durable[w.at:], w.data)
}

// diskFault selects the operations that fail.
type diskFault struct {
	on    fileKind // the kinds of files on which operations fail, as a set of bits
	write bool     // true if writes fail, false if syncs fail
	after int      // the number of operations that succeed before the first one fails
	times int      // the number of operations that fail after these; 0 if all fail until the fault is removed
	code  int32    // the result code that SQLite gets
	// survive is the probability with which a pending write becomes durable although
	// the sync of its file fails. If evict is true, a write that does not become
	// durable also becomes invisible. This happens when the system evicts the page from
	// its cache and later reads it from the disk again.
	survive float64
	evict   bool

	failed int
}

// hits reports whether a write or a sync of a file of the given kind must fail now. It
// counts the operations on files of the kinds that the fault selects.
func (f *diskFault) hits(kind fileKind, write bool) bool {
	if f == nil || f.on&kind == 0 || f.write != write || f.times > 0 && f.failed >= f.times {
		return false
	}
	if f.after > 0 {
		f.after--
		return false
	}
	f.failed++
	return true
}

// at converts the address of a C struct of SQLite to a pointer.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// function converts the address of a C function of SQLite to a Go function.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// address returns the address by which SQLite calls f. The disk keeps f alive.
func address[F any](d *disk, f F) uintptr {
	d.keep = append(d.keep, f)
	return *(*uintptr)(unsafe.Pointer(&f))
}

// The functions of a VFS and of its files that the disk intercepts.
type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, from uintptr, n int32, at int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
)

var disks atomic.Int64 // numbers the disks, because names of VFSs are process-wide

// newDisk registers a disk until the end of the test. By then, all stores on the
// disk must be closed.
func newDisk(t *testing.T, seed uint64) *disk {
	t.Helper()
	tls := libc.NewTLS()
	d := &disk{
		name: fmt.Sprint("disk", disks.Add(1)), random: rand.New(rand.NewPCG(seed, 1)), real: sqlite3.Xsqlite3_vfs_find(tls, 0),
		methods: map[uintptr]uintptr{}, files: map[uintptr]diskFile{}, plates: map[string]*plate{},
	}
	name, err := libc.CString(d.name)
	if err != nil {
		t.Fatal(err)
	}
	vfs := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	v := at[sqlite3.Tsqlite3_vfs](vfs)
	*v = *at[sqlite3.Tsqlite3_vfs](d.real)
	v.FpNext, v.FzName = 0, name
	v.FxOpen, v.FxDelete = address[openFunc](d, d.open), address[deleteFunc](d, d.delete)
	if code := sqlite3.Xsqlite3_vfs_register(tls, vfs, 0); code != sqlite3.SQLITE_OK {
		t.Fatalf("registering VFS %s: code %d", d.name, code)
	}
	t.Cleanup(func() {
		sqlite3.Xsqlite3_vfs_unregister(tls, vfs)
		for _, methods := range d.methods {
			libc.Xfree(tls, methods)
		}
		libc.Xfree(tls, vfs)
		libc.Xfree(tls, name)
		tls.Close()
	})
	return d
}

// connect opens connections on the disk. These connections checkpoint far more often
// than usual, so that the database file is written and synced as well.
func (d *disk) connect(dsn string) (driver.Connector, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("vfs", d.name)
	for i, pragma := range q["_pragma"] {
		if strings.HasPrefix(pragma, "wal_autocheckpoint") {
			q["_pragma"][i] = "wal_autocheckpoint(40)"
		}
	}
	u.RawQuery = q.Encode()
	return sqlite.NewConnector(u.String())
}

func (d *disk) open(tls *libc.TLS, _, name, file uintptr, flags int32, outFlags uintptr) int32 {
	open := function[openFunc](at[sqlite3.Tsqlite3_vfs](d.real).FxOpen)
	if code := open(tls, d.real, name, file, flags, outFlags); code != sqlite3.SQLITE_OK {
		return code
	}
	kind := otherFile
	switch {
	case flags&sqlite3.SQLITE_OPEN_MAIN_DB != 0:
		kind = mainFile
	case flags&sqlite3.SQLITE_OPEN_WAL != 0:
		kind = logFile
	default:
		return sqlite3.SQLITE_OK
	}
	methods := at[uintptr](file) // the table of methods is the first field of a sqlite3_file
	path := libc.GoString(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[file] = diskFile{kind, d.plate(path), at[sqlite3.Tsqlite3_io_methods](*methods)}
	*methods = d.inFrontOf(tls, *methods)
	return sqlite3.SQLITE_OK
}

// plate returns the plate of a file, and makes an empty one for a new file. d.mu must
// be locked.
func (d *disk) plate(path string) *plate {
	p := d.plates[path]
	if p == nil {
		p = &plate{}
		d.plates[path] = p
	}
	return p
}

// inFrontOf returns a table of file methods. The table is a copy of the system's table,
// with some methods replaced by the disk's own. real is the address of the system's
// table. d.mu must be locked.
func (d *disk) inFrontOf(tls *libc.TLS, real uintptr) uintptr {
	if ours, ok := d.methods[real]; ok {
		return ours
	}
	ours := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	m := at[sqlite3.Tsqlite3_io_methods](ours)
	*m = *at[sqlite3.Tsqlite3_io_methods](real)
	m.FxClose, m.FxWrite = address[closeFunc](d, d.close), address[writeFunc](d, d.write)
	m.FxTruncate, m.FxSync = address[truncateFunc](d, d.truncate), address[syncFunc](d, d.sync)
	d.methods[real] = ours
	return ours
}

func (d *disk) delete(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	path := libc.GoString(name)
	d.mu.Lock()
	delete(d.plates, path)
	d.mu.Unlock()
	return function[deleteFunc](at[sqlite3.Tsqlite3_vfs](d.real).FxDelete)(tls, d.real, name, syncDir)
}

func (d *disk) close(tls *libc.TLS, file uintptr) int32 {
	d.mu.Lock()
	f := d.files[file]
	delete(d.files, file)
	d.mu.Unlock()
	return function[closeFunc](f.methods.FxClose)(tls, file)
}

func (d *disk) write(tls *libc.TLS, file, from uintptr, n int32, offset int64) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[file]
	if d.fault.hits(f.kind, true) {
		if n /= 2; n > 0 { // a failing write writes the first half of its bytes
			f.write(tls, file, from, n, offset)
		}
		return d.fault.code
	}
	return f.write(tls, file, from, n, offset)
}

func (f *diskFile) write(tls *libc.TLS, file, from uintptr, n int32, offset int64) int32 {
	code := function[writeFunc](f.methods.FxWrite)(tls, file, from, n, offset)
	if code == sqlite3.SQLITE_OK {
		data := append([]byte{}, unsafe.Slice(at[byte](from), n)...)
		f.plate.pending = append(f.plate.pending, diskWrite{offset, data})
	}
	return code
}

func (d *disk) truncate(tls *libc.TLS, file uintptr, size int64) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[file]
	code := function[truncateFunc](f.methods.FxTruncate)(tls, file, size)
	if code == sqlite3.SQLITE_OK {
		f.plate.pending = append(f.plate.pending, diskWrite{at: size})
	}
	return code
}

func (d *disk) sync(tls *libc.TLS, file uintptr, flags int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[file]
	if d.onSync != nil {
		d.onSync(f.kind)
	}
	pending := f.plate.pending
	f.plate.pending = nil
	if !d.fault.hits(f.kind, false) {
		for _, w := range pending {
			f.plate.apply(w)
		}
		return function[syncFunc](f.methods.FxSync)(tls, file, flags)
	}
	var lost []diskWrite
	for _, w := range pending {
		if w.data != nil && d.random.Float64() >= d.fault.survive {
			lost = append(lost, w)
			continue
		}
		f.plate.apply(w)
	}
	if d.fault.evict {
		for _, w := range lost {
			f.evict(tls, file, w)
		}
	}
	return d.fault.code
}

// evict overwrites the place of the write w with the durable contents of the
// file, so that the write is no longer visible.
func (f *diskFile) evict(tls *libc.TLS, file uintptr, w diskWrite) {
	n := len(w.data)
	buffer := libc.Xcalloc(tls, 1, libc.Tsize_t(n))
	defer libc.Xfree(tls, buffer)
	if w.at < int64(len(f.plate.durable)) {
		copy(unsafe.Slice(at[byte](buffer), n), f.plate.durable[w.at:])
	}
	function[writeFunc](f.methods.FxWrite)(tls, file, buffer, int32(n), w.at)
}

// inject starts the fault f, or ends the current fault if f is nil. It returns the
// number of operations that the previous fault made fail.
func (d *disk) inject(f *diskFault) (failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		failed = d.fault.failed
	}
	d.fault = f
	return failed
}

// failed returns the number of operations that the current fault has made fail so far.
func (d *disk) failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		return 0
	}
	return d.fault.failed
}

// powerCut writes the files of the store at path as a power cut would leave them now.
// The written files have the durable contents. Each pending write is in them with the
// given probability.
func (d *disk) powerCut(t *testing.T, path string, survive float64) (image string) {
	t.Helper()
	d.mu.Lock()
	main, log := d.afterCut(path, survive), d.afterCut(path+"-wal", survive)
	d.mu.Unlock()
	return d.image(t, main, log)
}

// image writes the two files of a store to a new directory.
func (d *disk) image(t *testing.T, main, log []byte) (path string) {
	t.Helper()
	path = filepath.Join(memoryDir(t), "farebox.db")
	for name, data := range map[string][]byte{path: main, path + "-wal": log} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// afterCut returns the contents of a file after a power cut. d.mu must be locked.
func (d *disk) afterCut(path string, survive float64) []byte {
	p := d.plates[path]
	if p == nil {
		return nil
	}
	left := plate{durable: append([]byte{}, p.durable...)}
	for _, w := range p.pending {
		if d.random.Float64() < survive {
			left.apply(w)
		}
	}
	return left.durable
}
