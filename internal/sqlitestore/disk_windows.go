package sqlitestore

import "golang.org/x/sys/windows"

// diskSpace returns two sizes of the volume of a directory, in bytes: the space that is
// free for this user, and the whole space.
func diskSpace(dir string) (free, all int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var available, total uint64
	if err := windows.GetDiskFreeSpaceEx(path, &available, &total, nil); err != nil {
		return 0, 0, err
	}
	return int64(available), int64(total), nil
}
