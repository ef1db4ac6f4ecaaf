//go:build !linux

package process

const canWatch = false

func residentMemory() map[int]int64 { return nil }
