// Package sandbox gives up for good what serving does not need, and says what
// the kernel enforces.
//
// It does not decide what is needed (the caller's Policy does) and it does not
// log. Seal must run after every socket, file and helper that the process keeps
// is open, and before bytes from the network are read: nothing can be widened
// afterwards, not even by the administrator's reload. It is called once for each
// process; the rest of the package is safe for concurrent use.
package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Mode is what happens when the kernel cannot enforce a part.
type Mode string

// The modes.
const (
	Required   Mode = "required"    // sealing fails
	BestEffort Mode = "best-effort" // the part is skipped, and reported
	Off        Mode = "off"         // nothing is sealed
)

// Policy is what stays allowed. The zero Policy allows no file and no port.
type Policy struct {
	// ReadDirs are absolute paths of directories; files at any depth below
	// them may be read and listed, and nothing else may be opened. Directories
	// and not files, since a rule belongs to an inode: an editor that replaces a
	// file by renaming leaves a rule on the file behind, one on its directory holds.
	ReadDirs []string
	// ConnectPorts are the TCP ports that may be connected to, at any address.
	ConnectPorts []uint16
}

// Covers reports whether everything that o allows is allowed by p, so that a
// sealed process can serve o without a restart. Paths are compared by their
// names: both policies should hold what [DirsOf] returned.
func (p Policy) Covers(o Policy) bool {
	for _, dir := range o.ReadDirs {
		if !p.reads(dir) {
			return false
		}
	}
	for _, port := range o.ConnectPorts {
		if !slices.Contains(p.ConnectPorts, port) {
			return false
		}
	}
	return true
}

// reads reports whether name is one of p's directories or lies below one.
func (p Policy) reads(name string) bool {
	return slices.ContainsFunc(p.ReadDirs, func(dir string) bool {
		rel, err := filepath.Rel(filepath.Clean(dir), filepath.Clean(name))
		return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
	})
}

// DirsOf returns the directories that must stay readable so that files can be
// read again later: for each the one it is named in and, where it is reached
// through symbolic links (as Fedora's CA bundle and Kubernetes' ConfigMaps are),
// the one that holds the real file. Sorted, without duplicates and without
// directories below another.
func DirsOf(files ...string) ([]string, error) {
	var dirs []string
	for _, file := range files {
		name, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("locating %q: %w", file, err)
		}
		named, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return nil, fmt.Errorf("locating %q: %w", file, err)
		}
		target, err := filepath.EvalSymlinks(name)
		if err != nil {
			return nil, fmt.Errorf("locating %q: %w", file, err)
		}
		dirs = append(dirs, named, filepath.Dir(target))
	}
	slices.Sort(dirs)
	var top Policy
	for _, dir := range dirs { // a directory sorts before what lies below it
		if !top.reads(dir) {
			top.ReadDirs = append(top.ReadDirs, dir)
		}
	}
	return top.ReadDirs, nil
}
