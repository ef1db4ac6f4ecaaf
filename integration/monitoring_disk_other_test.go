//go:build !linux

package integration

import "testing"

// mountSmallDisk reports that no small file system is mounted: only the Linux test does
// that.
func mountSmallDisk(*testing.T, string) bool { return false }

func (m *monitored) fillDisk(*testing.T) (empty func()) { return func() {} }
