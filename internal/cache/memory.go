package cache

import (
	"os"
	"syscall"
	"unsafe"
)

// mapMemory returns n zero bytes of address space, which take memory page by page as they
// are first written to.
//
// The memory comes from mmap(2) rather than from Go's heap, since the heap is let grow to
// twice of what lives in it before it is collected, and bytes given back may stay with the
// process. No huge pages: one byte written in each shard would take 2 MiB each, and hits
// among a million entries were no faster with them.
func mapMemory(n int) ([]byte, error) {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	// A kernel built without huge pages knows no such advice, and needs none.
	_ = syscall.Madvise(b, syscall.MADV_NOHUGEPAGE)
	return b, nil
}

func unmapMemory(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic("cache: internal error: unmapping memory: " + err.Error())
	}
}

// discard zeroes b, which is memory of mapMemory, and gives its whole pages back to the system.
func discard(b []byte) {
	page := os.Getpagesize()
	start := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % uintptr(page))
	before := min(len(b), (page-start)%page)
	whole := (len(b) - before) / page * page
	if whole > 0 && syscall.Madvise(b[before:before+whole], syscall.MADV_DONTNEED) == nil {
		clear(b[:before])
		clear(b[before+whole:])
		return
	}
	clear(b)
}
